"""The recorder's triggers: what a transport delivers goes to shared/recording.py.

Rule: a failure is raised, so that the transport delivers the message again.
"""

import azure.functions as func

from shared import recording, wiring

blueprint = func.Blueprint()
_settings = wiring.settings_for_bindings()


@blueprint.queue_trigger(arg_name="message", queue_name=wiring.queue_name(_settings), connection="AzureWebJobsStorage")
async def record_queue(message: func.QueueMessage) -> None:
    """One message of the storage-queue transport."""
    parts = await wiring.services()
    await recording.record([message.get_body()], parts.sinks, parts.quarantine)
