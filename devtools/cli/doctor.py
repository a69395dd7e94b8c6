"""`doctor`: what is wrong with a set-up, and what to do about it, before traffic finds out."""

import argparse
import asyncio
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec

from devtools import launch
from devtools.cli.grammar import Commands, command
from devtools.cli.output import CommandError, show_json
from devtools.cli.stores import STORAGE, over_the_run
from shared.doctor import CHECKS, Level, Told, examine
from shared.wiring import now

_PATIENCE_S = 60.0  # an app that scaled to zero has to start first


def add(commands: Commands) -> None:
    """The command."""
    parser = command(
        commands, "doctor", _doctor,
        "look at a set-up: settings, configuration, prices, storage and its rights, clock, transport, Data Explorer, upstreams;"
        " with --url also at the gateway itself. Exits 1 where something is wrong",
    )  # fmt: skip
    parser.add_argument(
        "--settings", default="local.settings.json", metavar="FILE",
        help="the settings, beside the environment: local.settings.json (the default), or what"
        " `az functionapp config appsettings list` prints",
    )  # fmt: skip
    parser.add_argument("--call", action="store_true", help="call every deployment for one token, which is billed")
    parser.add_argument("--only", metavar="A,B", default="", help=f"these checks: {', '.join(CHECKS)}")


def _doctor(options: argparse.Namespace) -> None:
    only = [name.strip() for name in options.only.split(",") if name.strip()]
    if unknown := set(only) - CHECKS.keys():
        raise CommandError(f"--only {','.join(sorted(unknown))}: there are {', '.join(CHECKS)}")
    logging.getLogger().addHandler(
        logging.NullHandler()
    )  # what is wrong is a finding; log lines beside it say it twice
    told = list(asyncio.run(examine(_environ(Path(options.settings)), now, calls=options.call, only=only)))
    url = options.url or os.environ.get("TOLLGATE_URL")
    if url and not only:
        told += _gateway(url.rstrip("/"))
    if options.json:
        show_json(msgspec.to_builtins(told))
    else:
        _print(told)
    errors = sum(each.level is Level.ERROR for each in told)
    if errors:
        raise CommandError(f"{errors} thing{'s' * (errors > 1)} to mend")


def _print(told: Sequence[Told]) -> None:
    width = max((len(each.check) for each in told), default=0)
    for each in told:
        print(f"{each.level:8} {each.check:{width}}  {each.message}")
        if each.remedy:
            print(f"{'':9}{'':{width}}  -> {each.remedy}")


def _environ(file: Path) -> dict[str, str]:
    """The settings in a file of either kind, and the environment, which wins; where nothing is set up, those of `make run`."""
    try:
        if file.exists() and isinstance(listed := json.loads(file.read_bytes()), list):
            return {each["name"]: each["value"] or "" for each in listed} | dict(os.environ)
        settings = launch.read_settings(file, os.environ)
        is_set_up = file.exists() or any(settings.get(name) for name in (*STORAGE, "TOLLGATE_CONFIG"))
        return settings if is_set_up else over_the_run(settings)
    except (ValueError, KeyError, TypeError, launch.LaunchError) as error:
        raise CommandError(f"{file} holds no settings: {error}") from error


def _gateway(url: str) -> list[Told]:
    """What a running gateway says of itself."""

    def told(level: Level, message: str, remedy: str = "") -> Told:
        return Told(check="gateway", level=level, message=message, remedy=remedy)

    try:
        report: dict[str, Any] = httpx.get(f"{url}/health/ready", timeout=_PATIENCE_S).json()
        found = [(Level.ERROR, text) for text in report["problems"]]
        found += [(Level.WARNING, text) for text in report["warnings"]]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        return [
            told(
                Level.ERROR,
                f"{url} does not answer as a gateway: {error!r}",
                "Is the app published, and is this its address?",
            )
        ]
    remedies = {Level.ERROR: "Mend it; /health/ready tells when it is.", Level.WARNING: "See docs/observability.md."}
    return [told(level, text, remedies[level]) for level, text in found] or [told(Level.OK, f"{url} is ready.")]
