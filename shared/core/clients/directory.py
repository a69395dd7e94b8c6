"""Which keys open the gateway, and for whom: the configuration's clients and the table's as one.

Rule: the table wins, client by client and key by key, by id. So a client of the configuration can be changed, and a key of
it revoked, without a new configuration; taking the table's word away brings the configuration's back.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from shared.core.clients.keys import KeyHash
from shared.core.configuration import Client, Configuration


class Source(StrEnum):
    """Who says so."""

    CONFIGURATION = "configuration"
    TABLE = "table"


class StoredClient(msgspec.Struct, frozen=True, kw_only=True):
    """A client of the table. Its keys are entities of their own."""

    client: Client
    etag: str


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of the table, or the table's word that a key of the configuration is revoked. Instants are UTC."""

    id: str
    client_id: str
    salt: str
    hash: str
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    note: str = ""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """All that the table holds."""

    clients: Mapping[str, StoredClient] = {}
    keys: Mapping[str, StoredKey] = {}
    unreadable: Mapping[str, str] = {}
    """Ids of clients about whom something is said that cannot be read, and why. They are refused: it may be a revocation."""


class KeyState(StrEnum):
    """Whether a key opens the gateway."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """What may be shown of a key: never its hash."""

    id: str
    state: KeyState
    source: Source
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    note: str = ""


def clients_of(configuration: Configuration | None, stored: Stored) -> Mapping[str, Client]:
    """Every client by id."""
    configured = configuration.document.clients if configuration else ()
    return {client.id: client for client in configured} | {id_: each.client for id_, each in stored.clients.items()}


def keys_of(configuration: Configuration | None, stored: Stored) -> Mapping[str, StoredKey]:
    """Every key by id, open or not."""
    return {key.id: key for key in _configured(configuration)} | dict(stored.keys)


def open_keys(
    configuration: Configuration | None, stored: Stored, now: datetime
) -> Mapping[str, tuple[KeyHash, Client]]:
    """The keys that open the gateway now, by id: what `identify` looks a key up in."""
    clients = clients_of(configuration, stored)
    return {
        key.id: (KeyHash(id=key.id, salt=key.salt, hash=key.hash), clients[key.client_id])
        for key in keys_of(configuration, stored).values()
        if key.client_id in clients and key.client_id not in stored.unreadable and state_of(key, now) is KeyState.ACTIVE
    }


def state_of(key: StoredKey, now: datetime) -> KeyState:
    """A key that is both revoked and expired is revoked."""
    if key.revoked_at is not None:
        return KeyState.REVOKED
    if key.expires_at is not None and key.expires_at <= now:
        return KeyState.EXPIRED
    return KeyState.ACTIVE


def view_of(key: StoredKey, stored: Stored, now: datetime) -> KeyView:
    """A key as it may be shown."""
    return KeyView(
        id=key.id,
        state=state_of(key, now),
        source=Source.TABLE if key.id in stored.keys else Source.CONFIGURATION,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        note=key.note,
    )


def _configured(configuration: Configuration | None) -> Iterable[StoredKey]:
    for client in configuration.document.clients if configuration else ():
        for key in client.keys:
            yield StoredKey(id=key.id, client_id=client.id, salt=key.salt, hash=key.hash)
