"""`prices`: price files of other tools, and `rerate`: other money for what was used."""

import argparse
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec

from devtools.cli.grammar import Commands, command, group
from devtools.cli.output import CommandError, show
from devtools.cli.stores import with_stores
from shared.composition import Stores
from shared.core.money.price_imports import UnknownShape, as_toml, imported
from shared.usage.rerating import Rerated, rerate
from shared.wiring import now


def add(commands: Commands) -> None:
    """The group, and the command beside it."""
    prices = group(commands, "prices", "what models cost")
    take = command(
        prices, "import", _import,
        "print the prices of a file of LiteLLM (model_prices_and_context_window.json) or ai-hub-gateway (model-pricing.json)"
        " as [[prices]] of a configuration",
    )  # fmt: skip
    take.add_argument("file", metavar="FILE")
    take.add_argument(
        "--since", type=date.fromisoformat, default=None, metavar="DAY", help="from when on they hold; default: today"
    )
    take.add_argument("--provider", default="azure", help="whose of LiteLLM's prices: azure or openai; default: azure")
    again = command(
        commands, "rerate", _rerate,
        "compute the money of all usage from a day on again, by the prices of the configuration; tokens do not change",
    )  # fmt: skip
    again.add_argument("--from", dest="first", type=date.fromisoformat, required=True, metavar="DAY", help="UTC")


def _import(options: argparse.Namespace) -> None:
    try:
        found = imported(Path(options.file).read_bytes(), options.since or datetime.now(UTC).date(), options.provider)
    except OSError as error:
        raise CommandError(str(error)) from error
    except UnknownShape as error:
        raise CommandError(f"{options.file} is of {error}") from error
    for what in found.left_out:
        print(f"left out: {what}", file=sys.stderr)
    if not found.prices:
        raise CommandError(f"{options.file} has no price of {options.provider}")
    if options.json:
        print(msgspec.json.format(msgspec.json.encode({"prices": found.prices})).decode())
    else:
        print(as_toml(found.prices), end="")


def _rerate(options: argparse.Namespace) -> None:
    async def run(stores: Stores) -> list[Rerated]:
        configuration = await stores.configuration()
        days = []
        async for day in rerate(stores.ledger, stores.usage, configuration.prices, first=options.first, now=now()):
            print(f"{day.day} rated", file=sys.stderr)
            days.append(day)
        return days

    days = [day for day in with_stores(run) if day.calls or day.before != day.after]
    show(
        options,
        msgspec.to_builtins(days),
        (
            {
                "day": day.day,
                "calls": day.calls,
                "tokens": day.tokens,
                "cost before": f"{day.before.cost:f}",
                "cost": f"{day.after.cost:f}",
                "unpriced before": day.before.unpriced_calls,
                "unpriced": day.after.unpriced_calls,
            }
            for day in days
        ),
    )
