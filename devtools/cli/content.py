"""`replay` and `purge`: what is kept of calls, once more, or no more."""

import argparse

import msgspec

from devtools.cli.grammar import Commands, command, group
from devtools.cli.output import CommandError, show
from devtools.cli.stores import days, with_range, with_stores
from shared.composition import Stores
from shared.recording import purging, replaying
from shared.recording.purging import Aside, Purged
from shared.recording.replaying import Replayed
from shared.recording.verifying import Kept
from shared.wiring import now


def add(commands: Commands) -> None:
    """The commands."""
    replay = group(commands, "replay", "record once more what was recorded")
    command(replay, "quarantine", _quarantine, "hand the recorder what it could not understand before")
    help_ = "write archived calls into the ledger and Data Explorer again; what is right already is not changed"
    with_range(command(replay, "archive", _archive, help_))
    help_ = (
        "take what one person said, and was answered, out of archive, quarantine and Data Explorer; the ledger stays"
    )
    purge = command(commands, "purge", _purge, help_)
    purge.add_argument("--person", required=True, metavar="END_USER", help="the `user` or `safety_identifier` of calls")
    purge.add_argument("--yes", action="store_true", help="do it: it cannot be undone")


def _quarantine(options: argparse.Namespace) -> None:
    async def replay(stores: Stores) -> Replayed:
        return await replaying.replay_quarantine(stores.quarantine, stores.recorder)

    _tell(options, with_stores(replay))


def _archive(options: argparse.Namespace) -> None:
    first, last = days(options)

    async def replay(stores: Stores) -> Replayed:
        return await replaying.replay_archive(stores.archive, stores.recorder, first, last, client_id=options.client)

    _tell(options, with_stores(replay))


def _tell(options: argparse.Namespace, replayed: Replayed) -> None:
    counts = msgspec.structs.asdict(replayed)
    show(options, counts, [counts])
    if replayed.left:
        raise CommandError(f"{replayed.left} could not be recorded, and are where they were")


def _purge(options: argparse.Namespace) -> None:
    if not options.yes:
        raise CommandError("this cannot be undone; say --yes")

    async def purge(stores: Stores) -> Purged:
        kept = Kept(stores.archive, stores.ledger, stores.chains)
        aside = Aside(stores.quarantine, stores.shelf)
        return await purging.purge(kept, aside, options.person, forgetting=stores.forgetting, now=now())

    purged = with_stores(purge)
    show(
        options, msgspec.to_builtins(purged), [msgspec.structs.asdict(purged) | {"unfinished": len(purged.unfinished)}]
    )
    if purged.unfinished:
        raise CommandError(
            f"{len(purged.unfinished)} calls are still on their way, or changed just now: purge again later"
        )
