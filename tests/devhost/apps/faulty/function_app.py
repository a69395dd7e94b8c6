"""A function whose annotation the runtime refuses, as it would in Azure."""

import azure.functions as func

app = func.FunctionApp()


@app.event_hub_message_trigger("events", event_hub_name="hub", connection="HUBS")
async def refused(events: list[func.EventHubEvent]) -> None:
    """Typing.List would do."""
