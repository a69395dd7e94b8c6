"""The clients table, and the directory: who may call, kept in memory.

    PartitionKey    RowKey        what
    <client id>     client        Document: the client as JSON
    <client id>     key-<id>      the StoredKey

Rule: a look-up does no I/O and takes no lock: it reads an immutable snapshot. The snapshot is read anew in the background,
so that what one instance changes holds on all of them within the refresh interval, and at once on the one that did it.
While the table is away the last good snapshot stays.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from azure.core import MatchConditions
from azure.core.exceptions import AzureError
from azure.data.tables import TableEntity, TransactionOperation, UpdateMode
from azure.data.tables.aio import TableClient

from shared.configuration_source import ConfigurationSource
from shared.core.clients.directory import Stored, StoredClient, StoredKey, clients_of, open_keys
from shared.core.configuration import Client, Configuration
from shared.core.errors import NotReady
from shared.storage.entities import create_if_missing, properties_of, value_of

_log = logging.getLogger(__name__)

_CLIENT = "client"
_KEY = "key-"
_TRANSACTION_LIMIT = 100
_PAGE = 200
"""Entities: the SDK reads a page in one go, 40 us each, and all calls of the process wait meanwhile."""
_READ_TIMEOUT_S = 8.0
"""With the refresh interval, and the time that a call may have begun before, well below the 30 s promised."""


class ClientTable:
    """One table: I/O and nothing else."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    async def read(self) -> Stored:
        """All that is in it."""
        clients: dict[str, StoredClient] = {}
        keys: dict[str, StoredKey] = {}
        unreadable: dict[str, str] = {}
        async for entity in self._table.list_entities(results_per_page=_PAGE):
            try:
                match _value(entity):
                    case StoredClient() as stored:
                        clients[stored.client.id] = stored
                    case StoredKey() as key:
                        keys[key.id] = key
            except (msgspec.MsgspecError, KeyError) as error:
                unreadable[entity["PartitionKey"]] = f"entity {entity['RowKey']}: {error}"
        return Stored(clients=clients, keys=keys, unreadable=unreadable)

    async def put_client(self, client: Client, *, etag: str | None = None, create: bool = False) -> StoredClient:
        """Writes a client: whatever is there; only over the version `etag` (`*`: any); or only where there is none.

        Raises ResourceModifiedError where another version is there or none, ResourceExistsError where there is one.
        """
        entity = {
            "PartitionKey": client.id,
            "RowKey": _CLIENT,
            "Document": msgspec.json.encode(msgspec.structs.replace(client, keys=())).decode(),
        }
        if create:
            written = await self._table.create_entity(entity)
        elif etag is None:
            written = await self._table.upsert_entity(entity, UpdateMode.REPLACE)
        else:
            written = await self._table.update_entity(entity, UpdateMode.REPLACE, **_only_over(etag))
        return StoredClient(client=client, etag=str(written["etag"]))

    async def delete_client(self, client_id: str, key_ids: Sequence[str], *, etag: str | None = None) -> None:
        """Deletes a client, last, and before it these keys of it. Raises ResourceModifiedError as `put_client` does.

        With more keys than a transaction holds, a crash in between leaves the client with fewer keys: delete it again.
        """
        rows = [*((f"{_KEY}{key_id}", _only_over(None)) for key_id in key_ids), (_CLIENT, _only_over(etag))]
        operations = [
            (TransactionOperation.DELETE, {"PartitionKey": client_id, "RowKey": row}, options) for row, options in rows
        ]
        for start in range(0, len(operations), _TRANSACTION_LIMIT):
            await self._table.submit_transaction(operations[start : start + _TRANSACTION_LIMIT])

    async def put_key(self, key: StoredKey) -> None:
        """Writes a key, whatever is there."""
        entity = {"PartitionKey": key.client_id, "RowKey": f"{_KEY}{key.id}"} | properties_of(key)
        await self._table.upsert_entity(entity, UpdateMode.REPLACE)

    async def prepare(self) -> None:
        await create_if_missing(self._table)

    async def close(self) -> None:
        await self._table.close()


class DirectoryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How fresh the snapshot is."""

    refreshed_at: datetime | None
    """When the table was last read; None: never, so everyone is refused."""
    age_s: int | None
    problem: str | None
    """Why it could not be read since."""
    unreadable: int
    """Clients that are refused; the log says who, and why."""


class Directory:
    """The configuration in force with everyone's keys in it: `current` is what a call is judged by.

    `current` is None until the table has been read once, and while there is no valid configuration.
    """

    def __init__(self, table: ClientTable, source: ConfigurationSource, now: Callable[[], datetime]) -> None:
        self.current: Configuration | None = None
        self.stored = Stored()
        self.source = source
        self._table = table
        self._now = now
        self._refreshed_at: datetime | None = None
        self._problem: str | None = None
        self._base: Configuration | None = None
        self._writes = 0

    async def refresh(self) -> None:
        """Reads the table anew. Raises NotReady where that fails; what was known stays."""
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                at, stored = await self._read()
        except (AzureError, TimeoutError) as error:
            self._problem = f"the clients table cannot be read: {type(error).__name__}"
            _log.warning("clients not refreshed", extra={"reason": str(error)})
            self.rebuild()
            raise NotReady("The clients table cannot be read; try again later.") from error
        for client_id, reason in stored.unreadable.items() - self.stored.unreadable.items():
            _log.error("client unreadable", extra={"client_id": client_id, "reason": reason})
        self.stored, self._refreshed_at, self._problem = stored, at, None
        self.rebuild()

    async def _read(self) -> tuple[datetime, Stored]:
        while True:
            at, writes = self._now(), self._writes
            stored = await self._table.read()
            if writes == self._writes:  # or a page read before our own write would undo it
                return at, stored

    def rebuild(self) -> None:
        """Makes `current` anew, out of what is known now: the configuration may be another, or a key have expired."""
        base = self.source.current
        if base is None or self._refreshed_at is None:
            self.current = None
            return
        keys = open_keys(base, self.stored, self._now())
        known = clients_of(base, self.stored)
        clients = {id_: client for id_, client in known.items() if id_ not in self.stored.unreadable}
        if self.current and (base, keys, clients) == (self._base, self.current.keys_by_id, self.current.clients_by_id):
            return
        self._base = base
        self.current = msgspec.structs.replace(base, keys_by_id=keys, clients_by_id=clients)

    def status(self) -> DirectoryStatus:
        """For /health/ready."""
        at = self._refreshed_at
        return DirectoryStatus(
            refreshed_at=at,
            age_s=None if at is None else round((self._now() - at).total_seconds()),
            problem=self._problem,
            unreadable=len(self.stored.unreadable),
        )

    async def put_client(self, client: Client, *, etag: str | None = None, create: bool = False) -> StoredClient:
        """As ClientTable's; in force here at once."""
        written = await self._table.put_client(client, etag=etag, create=create)
        self._learn(clients={**self.stored.clients, client.id: written})
        return written

    async def delete_client(self, client_id: str, key_ids: Sequence[str], *, etag: str | None = None) -> None:
        """As ClientTable's; in force here at once."""
        await self._table.delete_client(client_id, key_ids, etag=etag)
        clients = {id_: each for id_, each in self.stored.clients.items() if id_ != client_id}
        self._learn(clients=clients, keys={id_: key for id_, key in self.stored.keys.items() if id_ not in key_ids})

    async def put_key(self, key: StoredKey) -> None:
        """As ClientTable's; in force here at once."""
        await self._table.put_key(key)
        self._learn(keys={**self.stored.keys, key.id: key})

    def _learn(self, **known: Any) -> None:
        self._writes += 1
        self.stored = msgspec.structs.replace(self.stored, **known)
        self.rebuild()


def _only_over(etag: str | None) -> dict[str, Any]:
    """The SDK's arguments for a write over that version only; None and `*`: any."""
    return {} if etag in {None, "*"} else {"etag": etag, "match_condition": MatchConditions.IfNotModified}


def _value(entity: TableEntity) -> StoredClient | StoredKey:
    """What an entity says. Raises MsgspecError or KeyError."""
    if entity["RowKey"] == _CLIENT:
        client = msgspec.json.decode(entity["Document"], type=Client)
        return StoredClient(client=client, etag=str(entity.metadata["etag"]))
    return value_of(entity, StoredKey, {"client_id": entity["PartitionKey"]})
