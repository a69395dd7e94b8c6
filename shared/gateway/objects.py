"""Which client an object belongs to and which upstream holds it: responses and their items, files, batches, threads and their
like.

    PartitionKey    RowKey
    <object id>     object      the StoredObject, and when it expires
    holder-<hex>    <hex>       that the client of that name has, or had, objects on the upstream of that name

Rule: an object's first owner stays its owner. What is not in the table is nobody's, and so not found.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.data.tables.aio import TableClient

from shared.core.api.references import StoredObject, lifetime
from shared.core.errors import NotReady
from shared.storage.entities import Entity, create_if_missing, properties_of, value_of

_ROW = "object"
_CACHED = 30_000
_AT_ONCE = 20
"""Requests to the table, for one call."""
_UNKNOWN_FOR = timedelta(minutes=1)
"""How long an id that stood in a body and was nobody's is not looked for again: whoever keeps the conversation sends all of
its items with each call, and where the upstream keeps none of them nobody knows them."""
_AWAY = "Whose stored objects are cannot be told, because the gateway's storage account is away; try again later."


class Objects:
    """One table, and a cache of what was found in it: owner and upstream of an object never change."""

    def __init__(self, table: TableClient, now: Callable[[], datetime]) -> None:
        self._table = table
        self._now = now
        self._cache: OrderedDict[str, StoredObject] = OrderedDict()
        self._unknown: OrderedDict[str, datetime] = OrderedDict()
        self._held: set[tuple[str, str]] = set()
        """Clients and upstreams whose row is known to be there."""

    async def find(self, object_id: str) -> StoredObject | None:
        """The object, or None where it is unknown. Raises NotReady."""
        if cached := self._cache.get(object_id):
            return cached
        try:
            entity = await self._table.get_entity(object_id, _ROW)
        except ResourceNotFoundError:
            return None
        except AzureError as error:
            raise NotReady(_AWAY) from error
        expires_at = entity.get("ExpiresAt")
        if expires_at is not None and expires_at <= self._now():
            return None
        return self._remember(value_of(entity, StoredObject, {"object_id": object_id}))

    async def find_all(self, ids: Iterable[str]) -> list[StoredObject]:
        """Those that are known of the objects that a body may name. Raises NotReady."""
        now = self._now()
        sought = [each for each in ids if self._unknown.get(each, now) <= now]
        found = await _all_of(map(self.find, sought))
        for object_id, stored in zip(sought, found, strict=True):
            if stored is None and object_id not in self._cache:  # where it may have come meanwhile
                _keep(self._unknown, object_id, now + _UNKNOWN_FOR)
        return [stored for stored in found if stored]

    async def register(self, objects: Iterable[StoredObject], *, in_conversation: bool = False) -> None:
        """Keeps objects that are new. One that is known keeps its owner. Raises NotReady."""
        new = [stored for stored in objects if stored.object_id not in self._cache]
        for client_id, upstream in {(stored.client_id, stored.upstream) for stored in new}:
            await self._note_holder(client_id, upstream)
        await _all_of(
            self._register(stored, lifetime(stored.object_id, in_conversation=in_conversation)) for stored in new
        )

    async def _register(self, stored: StoredObject, expires_after: timedelta | None) -> None:
        entity: Entity = {"PartitionKey": stored.object_id, "RowKey": _ROW} | properties_of(stored)
        if expires_after:
            entity["ExpiresAt"] = self._now() + expires_after
        try:
            await self._table.create_entity(entity)
        except ResourceExistsError:
            await self.find(stored.object_id)
        except AzureError as error:
            raise NotReady(_AWAY) from error
        else:
            self._remember(stored)

    async def upstreams_of(self, client_id: str) -> frozenset[str]:
        """The upstreams that hold, or held, something of the client's. Raises NotReady."""
        query = self._table.query_entities(
            "PartitionKey eq @key", parameters={"key": _holder(client_id)}, select=["RowKey"]
        )
        try:
            return frozenset([bytes.fromhex(row["RowKey"]).decode() async for row in query])
        except AzureError as error:
            raise NotReady(_AWAY) from error

    async def _note_holder(self, client_id: str, upstream: str) -> None:
        if (client_id, upstream) in self._held:
            return
        try:
            await self._table.upsert_entity({"PartitionKey": _holder(client_id), "RowKey": upstream.encode().hex()})
        except AzureError as error:
            raise NotReady(_AWAY) from error
        self._held.add((client_id, upstream))

    async def remove_expired(self) -> int:
        """Deletes the rows of objects whose upstream has deleted them by now. Returns how many."""
        query = self._table.query_entities(
            "ExpiresAt lt @now", parameters={"now": self._now()}, select=["PartitionKey", "RowKey"]
        )
        gone = [entity["PartitionKey"] async for entity in query]
        for object_id in gone:
            await self._table.delete_entity(object_id, _ROW)
        return len(gone)

    async def prepare(self) -> None:
        await create_if_missing(self._table)

    async def close(self) -> None:
        await self._table.close()

    def _remember(self, stored: StoredObject) -> StoredObject:
        _keep(self._cache, stored.object_id, stored)
        self._unknown.pop(stored.object_id, None)
        return stored


def _keep[T](cache: OrderedDict[str, T], key: str, value: T) -> None:
    cache[key] = value
    if len(cache) > _CACHED:
        cache.popitem(last=False)


async def _all_of[T](requests: Iterable[Awaitable[T]]) -> list[T]:
    """What comes of them, a few at a time."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def in_turn(request: Awaitable[T]) -> T:
        async with room:
            return await request

    return await asyncio.gather(*map(in_turn, requests))


def _holder(client_id: str) -> str:
    """A key of letters and digits: names may have what keys may not."""
    return f"holder-{client_id.encode().hex()}"
