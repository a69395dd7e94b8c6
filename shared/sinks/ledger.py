"""The ledger table: one entity per call, and a mark on each period whose usage has to be counted (again).

    PartitionKey    RowKey      what
    2026112109      <call id>   the UsageEntry of a call opened in that UTC hour
    dirty           2026112109  entries of that hour came or changed since it was last counted
    dirty           chain-2026112109    ... since they were last chained (shared/recording/chains.py)
    dirty           day-20261121    usage of an hour of that day changed since the day was last added up
    dirty           month-202611    likewise of a day of that month

Rule: an entry is merged, never replaced, so opened and closed may come in any order and any number of times. The mark is
set after the entries are in: whoever finds an hour unmarked finds its usage whole.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from functools import partial

import msgspec
from azure.core import MatchConditions
from azure.core.exceptions import ResourceModifiedError
from azure.data.tables import TableTransactionError, UpdateMode
from azure.data.tables.aio import TableClient

from shared.core.call_ids import hour_of
from shared.core.call_record import Outcome
from shared.core.money.deferred import LateUsage
from shared.core.money.ledger import Span, UsageEntry, entry_of, period_around
from shared.core.recording.events import Closed, Opened, Record
from shared.storage.entities import Entity, create_if_missing, properties_of
from shared.storage.table_wire import OVERTAKEN, TRANSACTION_LIMIT, Change, Reader, columns_of, quoted, submit

_DIRTY = "dirty"
_PREFIX = {Span.HOUR: "", Span.DAY: "day-", Span.MONTH: "month-"}
_UNCHAINED = "chain-"
_entries: Reader[UsageEntry] = Reader(
    columns_of(UsageEntry), partial(msgspec.convert, type=UsageEntry, from_attributes=True)
)
_lines: Reader[UsageEntry] = Reader(columns_of(UsageEntry), None, bases=(UsageEntry,))


class Dirty(msgspec.Struct, frozen=True):
    """A period to count, and the ETag of the mark that says so."""

    period: str
    etag: str


class Ledger:
    """One table."""

    name = "ledger"

    def __init__(self, table: TableClient) -> None:
        self._table = table

    async def write(self, events: Sequence[Record]) -> None:
        by_hour: dict[str, dict[str, Entity]] = defaultdict(dict)
        ended = {event.record.call_id for event in events if isinstance(event, Closed)}
        for event in events:
            if isinstance(event, Opened) and event.record.call_id in ended:
                continue  # what it says, the end says too
            entry = entry_of(event.record, event.archive_sha256 if isinstance(event, Closed) else None)
            by_hour[entry.hour].setdefault(entry.call_id, {}).update(_entity(entry))
        async with asyncio.TaskGroup() as group:
            for entities in by_hour.values():
                group.create_task(self._merge(list(entities.values())))
        async with asyncio.TaskGroup() as group:
            for hour in by_hour:
                group.create_task(self.mark_dirty(hour))

    async def add_usage(self, call_id: str, late: LateUsage) -> bool:
        """Says what a call used that did not say so itself. False where it has no line yet."""
        told: Entity = {"UsageSource": late.usage_source.value}
        if late.model_served:
            told["ModelServed"] = late.model_served
        if late.tier is not None:
            told["Tier"] = late.tier
        if not await self._change(call_id, told | properties_of(late.usage)):
            return False
        await self.mark_dirty(hour_of(call_id))
        return True

    async def set_digest(self, call_id: str, sha256: str) -> bool:
        """Says that what is archived of a call is another object now. False where it has no line."""
        return await self._change(call_id, {"ArchiveSha256": sha256})

    async def _change(self, call_id: str, properties: Entity) -> bool:
        """Merges into a line that is there: one of a few properties would be no entry, and nobody could read its hour."""
        entity = {"PartitionKey": hour_of(call_id), "RowKey": call_id} | properties
        try:
            await submit(self._table, [Change("PATCH", entity, etag="*")])
        except TableTransactionError as error:
            if error.status_code not in OVERTAKEN:
                raise
            return False
        return True

    async def _merge(self, entities: list[Entity]) -> None:
        for start in range(0, len(entities), TRANSACTION_LIMIT):
            batch = entities[start : start + TRANSACTION_LIMIT]
            await submit(self._table, [Change("PATCH", entity) for entity in batch])

    async def entries(self, hour: str) -> AsyncIterator[UsageEntry]:
        """The entries of an hour."""
        async for entry in _entries.read(self._table, f"PartitionKey eq {quoted(hour)}"):
            yield entry

    async def lines(self, hour: str) -> AsyncIterator[UsageEntry]:
        """The entries of an hour to be counted: in half the time, and of a class that is equal to no other."""
        async for entry in _lines.read(self._table, f"PartitionKey eq {quoted(hour)}"):
            yield entry

    async def entries_of(self, end_user: str) -> AsyncIterator[UsageEntry]:
        """The entries of one end user, of all times: the whole table is looked through."""
        async for entry in _entries.read(self._table, f"EndUser eq {quoted(end_user)}"):
            yield entry

    async def mark_incomplete(self, entry: UsageEntry) -> bool:
        """Ends an open entry as incomplete. False where it has ended by itself meanwhile.

        It says nothing of usage, so that an end that comes late and has none to tell leaves nothing behind that is not so.
        """
        entity = await self._table.get_entity(entry.hour, entry.call_id)
        if "Outcome" in entity:
            return False
        ended: Entity = {
            "PartitionKey": entry.hour,
            "RowKey": entry.call_id,
            "Outcome": Outcome.INCOMPLETE.value,
        }
        try:
            await self._table.update_entity(
                ended, UpdateMode.MERGE, etag=entity.metadata["etag"], match_condition=MatchConditions.IfNotModified
            )
        except ResourceModifiedError:
            return False
        return True

    async def mark_dirty(self, period: str) -> None:
        """Asks for an hour, day or month to be counted."""
        await self._table.upsert_entity(_mark(period), UpdateMode.REPLACE)

    async def dirty(self, span: Span) -> list[Dirty]:
        """The periods of that length that wait to be counted, oldest first."""
        return await self._marks(_PREFIX[span])

    async def unchained(self) -> list[Dirty]:
        """The hours that were counted and wait to be chained, oldest first."""
        return await self._marks(_UNCHAINED)

    async def _marks(self, prefix: str) -> list[Dirty]:
        parameters = {"dirty": _DIRTY, "first": f"{prefix}0", "end": f"{prefix}:"}  # a colon comes after the digits
        query = self._table.query_entities(
            "PartitionKey eq @dirty and RowKey ge @first and RowKey lt @end", parameters=parameters
        )
        return [Dirty(entity["RowKey"].removeprefix(prefix), str(entity.metadata["etag"])) async for entity in query]

    async def clear_dirty(self, dirty: Dirty) -> bool:
        """Takes the mark away and, in the same transaction, marks the period around it; an hour is then also to be chained.
        False where the period was marked again, or cleared by another, since `dirty` was read: then nothing is marked."""
        marks = []
        if around := period_around(dirty.period):
            marks.append(_mark(around))
        if len(dirty.period) == Span.HOUR.value:
            marks.append(_unchained(dirty.period))
        return await self._clear(_mark(dirty.period), dirty.etag, *(Change("PUT", mark) for mark in marks))

    async def clear_unchained(self, hour: Dirty) -> bool:
        """Takes that mark away. False as `clear_dirty` says."""
        return await self._clear(_unchained(hour.period), hour.etag)

    async def _clear(self, mark: Entity, etag: str, *beside: Change) -> bool:
        try:
            # In a transaction, because delete_entity keeps silent about an entity that is gone.
            await submit(self._table, [Change("DELETE", mark, etag), *beside])
        except TableTransactionError as error:
            if error.status_code not in OVERTAKEN:
                raise
            return False
        return True

    async def prepare(self) -> None:
        await create_if_missing(self._table)

    async def close(self) -> None:
        await self._table.close()


def _entity(entry: UsageEntry) -> Entity:
    return {"PartitionKey": entry.hour, "RowKey": entry.call_id} | properties_of(entry)


def _mark(period: str) -> Entity:
    return {"PartitionKey": _DIRTY, "RowKey": _PREFIX[Span(len(period))] + period}


def _unchained(hour: str) -> Entity:
    return {"PartitionKey": _DIRTY, "RowKey": _UNCHAINED + hour}
