"""A timer of every second that is slower than that, and a monitored one of every minute."""

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


@app.timer_trigger("timer", schedule="%EVERY%")
async def tick(timer: func.TimerRequest) -> None:
    began = time.time()
    await asyncio.sleep(1.3)
    note(name="tick", began=began, ended=time.time(), past_due=timer.past_due)


@app.timer_trigger("timer", schedule="0 * * * * *", use_monitor=True)
async def minutely(timer: func.TimerRequest) -> None:
    note(name="minutely", past_due=timer.past_due, status=timer.schedule_status)  # type: ignore[attr-defined]  # the abstract type lacks it


@app.timer_trigger("timer", schedule="0 0 0 1 1 *", run_on_startup=True)
async def yearly(timer: func.TimerRequest) -> None:
    note(name="yearly", past_due=timer.past_due)
