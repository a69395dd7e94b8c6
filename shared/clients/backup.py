"""Backup of who may call: the clients table, with the salted hashes of keys, as one JSON document.

    {"v":1,"at":"2026-11-21T12:00:00Z","clients":[{...}],"keys":[{"id":"...","client_id":"...","hash":"..."}]}

Rule: no key can be had from it, and every key that opened the gateway opens it again once it is restored; one that was revoked by
then stays revoked. What stands in the configuration document is not in it: that is backed up where it is kept.
"""

from datetime import datetime

import msgspec

from shared.clients.clients_table import ClientTable
from shared.core.clients.directory import StoredKey
from shared.core.configuration import Client

VERSION = 1


class BackupInvalid(Exception):
    """The document is no backup that could be restored; nothing was written."""


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What the table held at an instant."""

    v: int
    at: datetime
    clients: tuple[Client, ...]
    keys: tuple[StoredKey, ...]


async def backup(table: ClientTable, *, now: datetime) -> bytes:
    """The document. Raises BackupInvalid where the table has something that cannot be read."""
    stored = await table.read()
    if stored.unreadable:
        raise BackupInvalid(f"cannot be read: {'; '.join(f'{who}: {why}' for who, why in stored.unreadable.items())}")
    made = Backup(
        v=VERSION,
        at=now,
        clients=tuple(each.client for each in stored.clients.values()),
        keys=tuple(stored.keys.values()),
    )
    return msgspec.json.format(msgspec.json.encode(made))


async def restore(table: ClientTable, document: bytes) -> Backup:
    """Writes what the document has over what is there; clients and keys that are not in it stay. Raises BackupInvalid.

    A key that was revoked since then stays revoked. Restoring again changes nothing.
    """
    try:
        saved = msgspec.json.decode(document, type=Backup)
    except msgspec.MsgspecError as error:
        raise BackupInvalid(f"not a backup of clients: {error}") from error
    if saved.v != VERSION:
        raise BackupInvalid(f"version {saved.v}; known here is {VERSION}")
    there = (await table.read()).keys
    for client in saved.clients:
        await table.put_client(client)
    for key in saved.keys:
        known = there.get(key.id)
        revoked_at = key.revoked_at or (known.revoked_at if known else None)
        await table.put_key(msgspec.structs.replace(key, revoked_at=revoked_at))
    return saved
