"""Event Hub functions: a batch with retries for ever, a batch without retries, and one event at a time."""

import asyncio
import json
import os
import typing
from pathlib import Path

import azure.functions as func

app = func.FunctionApp()
failures_left = {"many": int(os.environ.get("FAIL_MANY", "0")), "lossy": int(os.environ.get("FAIL_LOSSY", "0"))}


def note(name: str, events: typing.Sequence[func.EventHubEvent], retry_count: int) -> None:
    """Leave a trace for the test, then fail if there are failures left."""
    seen = [
        {
            "body": event.get_body().decode("latin-1"),
            "sequence": event.sequence_number,
            "offset": event.offset,
            "key": event.partition_key,
            "enqueued": str(event.enqueued_time),
        }
        for event in events
    ]
    metadata = events[0].metadata or {}
    about = {
        "partition": metadata["PartitionContext"],
        "properties": metadata.get("PropertiesArray"),
    }
    failed = failures_left.get(name, 0) > 0
    with Path(os.environ["NOTES"]).open("a") as notes:
        notes.write(json.dumps({"name": name, "events": seen, "failed": failed, "retry": retry_count} | about) + "\n")
    if failed:
        failures_left[name] -= 1
        raise ValueError("a failure was left")


@app.event_hub_message_trigger(
    "events",
    event_hub_name="%HUB%",
    connection="HUBS",
    cardinality=func.Cardinality.MANY,
    data_type=func.DataType.BINARY,
)
@app.retry(
    strategy="exponential_backoff", max_retry_count="-1", minimum_interval="00:00:00", maximum_interval="00:00:01"
)
async def many(events: typing.List[func.EventHubEvent], context: func.Context) -> None:  # noqa: UP006  # list fails
    note("many", events, context.retry_context.retry_count)
    if seconds := float(os.environ.get("SLEEP_MANY", "0")):
        await asyncio.sleep(seconds)
        note("many ended", events, 0)


@app.event_hub_message_trigger(
    "events",
    event_hub_name="%HUB%",
    connection="HUBS",
    consumer_group="lossy",
    cardinality=func.Cardinality.MANY,
    data_type=func.DataType.BINARY,
)
async def lossy(events: typing.List[func.EventHubEvent], context: func.Context) -> None:  # noqa: UP006  # as above
    note("lossy", events, context.retry_context.retry_count)


@app.event_hub_message_trigger(
    "event", event_hub_name="%HUB%", connection="HUBS", consumer_group="single", cardinality=func.Cardinality.ONE
)
async def single(event: func.EventHubEvent) -> None:
    note("single", [event], 0)
