"""`demo`: something to look at on the dashboard."""

import argparse
from datetime import UTC, datetime

from devtools import demo
from devtools.cli.grammar import Commands, command
from devtools.cli.stores import with_stores
from shared.composition import Stores


def add(commands: Commands) -> None:
    """The command."""
    parser = command(
        commands, "demo", _demo, "write a month of made-up calls, which the timer then counts; not for a gateway in use"
    )
    parser.add_argument("--days", type=int, default=30, metavar="N", help="default: 30")
    parser.add_argument("--calls", type=int, default=100, metavar="N", help="on a weekday; default: 100")


def _demo(options: argparse.Namespace) -> None:
    events = list(demo.month(datetime.now(UTC), days=options.days, calls_per_day=options.calls))

    async def write(stores: Stores) -> None:
        await demo.write(events, stores.ledger, stores.archive)

    with_stores(write)
    print(f"{len(events)} calls are written; the dashboard shows them once the timer has counted them")
