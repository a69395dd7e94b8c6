"""The Storage account that commands work on: the one that the settings name; else the one of `make run`."""

import argparse
import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path

from devtools import launch
from devtools.cli.output import CommandError
from devtools.run import APP_DEFAULTS, RUN_INFO
from shared import composition, wiring
from shared.composition import Stores
from shared.core.errors import NotReady
from shared.settings import SettingsInvalid

STORAGE = ("AzureWebJobsStorage", "AzureWebJobsStorage__accountName")
"""The settings that name a Storage account."""


def with_stores[T](work: Callable[[Stores], Awaitable[T]]) -> T:
    """What `work` returns. Raises CommandError."""

    async def run() -> T:
        async with composition.stores(_environ(), wiring.now) as stores:
            return await work(stores)

    try:
        return asyncio.run(run())
    except (SettingsInvalid, NotReady, launch.LaunchError) as error:
        raise CommandError(str(error)) from error


def _environ() -> dict[str, str]:
    settings = launch.read_settings(Path("local.settings.json"), os.environ)
    return settings if any(settings.get(name) for name in STORAGE) else over_the_run(settings)


def over_the_run(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings, over those of `make run` where it runs."""
    if not RUN_INFO.exists():
        return dict(settings)
    run = json.loads(RUN_INFO.read_bytes())
    beneath = {
        "AzureWebJobsStorage": run["storage_connection_string"],
        "TOLLGATE_ADMIN_KEY": run["admin_key"],
        "TOLLGATE_CONFIG": APP_DEFAULTS["TOLLGATE_CONFIG"],
    }
    return beneath | {name: value for name, value in settings.items() if value}


def with_range(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The command takes days, and a client."""
    parser.add_argument("--client", metavar="CLIENT_ID", help="only this client's calls; default: everyone's")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, metavar="DAY", help="UTC; default: today")
    parser.add_argument("--to", dest="last", type=date.fromisoformat, metavar="DAY", help="included; default: today")
    return parser


def days(options: argparse.Namespace) -> tuple[date, date]:
    """The first and the last day that are asked for. Raises CommandError."""
    today = datetime.now(UTC).date()
    first, last = options.first or today, options.last or today
    if first > last:
        raise CommandError(f"--from {first} is after --to {last}")
    return first, last
