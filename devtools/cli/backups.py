"""`backup` and `restore`: clients and the hashes of their keys, as a file."""

import argparse
from pathlib import Path

from devtools import local_config
from devtools.cli.grammar import Commands, command
from devtools.cli.output import CommandError, show
from devtools.cli.stores import with_stores
from shared.clients import backup
from shared.clients.backup import Backup, BackupInvalid
from shared.composition import Stores
from shared.wiring import now


def add(commands: Commands) -> None:
    """The commands."""
    save = command(commands, "backup", _backup, "write the clients and the hashes of their keys into a file")
    restore = command(commands, "restore", _restore, "write a backup's clients and keys over what is there")
    for each in (save, restore):
        each.add_argument("file", metavar="FILE", type=Path)


def _backup(options: argparse.Namespace) -> None:
    async def work(stores: Stores) -> bytes:
        return await backup.backup(stores.clients, now=now())

    try:
        document = with_stores(work)
        local_config.write_private(options.file, document)
    except (BackupInvalid, OSError) as error:
        raise CommandError(str(error)) from error
    show(options, {"file": str(options.file)}, [{"file": options.file, "bytes": len(document)}])


def _restore(options: argparse.Namespace) -> None:
    try:
        document = options.file.read_bytes()

        async def work(stores: Stores) -> Backup:
            return await backup.restore(stores.clients, document)

        saved = with_stores(work)
    except (BackupInvalid, OSError) as error:
        raise CommandError(str(error)) from error
    counts = {"clients": len(saved.clients), "keys": len(saved.keys)}
    show(options, counts, [counts])
