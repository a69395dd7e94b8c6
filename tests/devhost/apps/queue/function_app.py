"""A queue function that does what its message says."""

import asyncio
import json
import os
import time
from pathlib import Path

import azure.functions as func

app = func.FunctionApp()


def note(**fields: object) -> None:
    """Leave a trace for the test."""
    with Path(os.environ["NOTES"]).open("a") as notes:
        notes.write(json.dumps(fields) + "\n")


@app.queue_trigger("message", queue_name="%QUEUE%", connection="AzureWebJobsStorage")
async def work(message: func.QueueMessage) -> None:
    body = message.get_body().decode()
    note(
        body=body,
        count=message.dequeue_count,
        id=message.id,
        at=time.time(),
        inserted=str(message.insertion_time),
    )
    if body == "fail":
        raise ValueError("as the message says")
    if body.startswith("sleep "):
        await asyncio.sleep(float(body.split()[1]))
