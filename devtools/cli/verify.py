"""`verify`: whether what is kept is what was recorded."""

import argparse

import msgspec

from devtools.cli.grammar import Commands, command
from devtools.cli.output import CommandError, show, table
from devtools.cli.stores import days, with_range, with_stores
from shared.composition import Stores
from shared.recording import verifying
from shared.recording.verifying import Kept, Report
from shared.wiring import now


def add(commands: Commands) -> None:
    """The command."""
    help_ = (
        "read archive, ledger and hash chains, and tell what is missing, altered or extra; exits 1 where something is"
    )
    with_range(command(commands, "verify", _verify, help_))


def _verify(options: argparse.Namespace) -> None:
    first, last = days(options)

    async def verify(stores: Stores) -> Report:
        kept = Kept(stores.archive, stores.ledger, stores.chains)
        return await verifying.verify(kept, first, last, client_id=options.client, now=now())

    report = with_stores(verify)
    counts = {name: getattr(report, name) for name in ("calls", "purged", "unsettled")}
    show(options, msgspec.to_builtins(report), [{**counts, "findings": len(report.findings)}])
    if report.findings and not options.json:
        print(f"\n{table(map(msgspec.structs.asdict, report.findings))}")
    if report.findings:
        raise CommandError(f"{len(report.findings)} of what is kept is not as it was recorded")
