"""The usage table: what each key used in each hour, day and month.

    PartitionKey    RowKey
    2026112109      SHA-256 of the key, in hex    the UsageHour
    2026112109      version                       changes with every transaction that writes the partition
    day-20261121    likewise                      the sum of that day's hours
    month-202611    likewise                      the sum of that month's days
    watermark       rollup                        the instant up to which everything is counted

Rule: a partition is always written as a whole, from all that it counts, so writing it again changes nothing. Who writes has
read the version before it counted, and every transaction holds it to that version: what is written never replaces what
another has counted since, and of two that write at once one is refused.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from itertools import batched
from operator import attrgetter
from typing import Any

import msgspec
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableTransactionError, UpdateMode
from azure.data.tables.aio import TableClient

from shared.core.money.histogram import Histogram
from shared.core.money.ledger import COUNTERS, HISTOGRAMS, Span, UsageHour, UsageKey
from shared.storage.entities import Entity, create_if_missing, properties_of, property_name, value_of
from shared.storage.table_wire import OVERTAKEN, TRANSACTION_LIMIT, Change, Reader, columns_of, quoted, submit

_PREFIX = {Span.HOUR: "", Span.DAY: "day-", Span.MONTH: "month-"}
_VERSION = "version"
_ROWS = "RowKey lt 'g'"
"""The rows of keys: hex digits."""


class Stored(msgspec.Struct, frozen=True):
    """What a period has before it is counted (again)."""

    period: str
    keys: frozenset[str] = frozenset()
    """The RowKeys."""
    version: str | None = None
    """The ETag; None: the period was never written."""


class UsageTable:
    """One table."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    async def stored(self, period: str) -> Stored:
        """What is there. To be read before what is counted is read."""
        query = self._table.query_entities(
            "PartitionKey eq @period", parameters={"period": _partition(period)}, select=["RowKey"]
        )
        found = {row["RowKey"]: str(row.metadata["etag"]) async for row in query}
        version = found.pop(_VERSION, None)
        return Stored(period, frozenset(found), version)

    async def replace(self, stored: Stored, rows: Sequence[UsageHour]) -> bool:
        """Makes `rows` the period's usage; rows of keys that are not among them go. False where another has written the
        period since it was `stored`: then it may be part of this and part of that, and has to be counted again."""
        entities = {entity["RowKey"]: entity for entity in map(_entity, rows)}
        gone = ({"PartitionKey": _partition(stored.period), "RowKey": key} for key in stored.keys - entities.keys())
        changes = [*(Change("PUT", entity) for entity in entities.values()), *(Change("DELETE", key) for key in gone)]
        version = stored.version
        for batch in batched(changes, TRANSACTION_LIMIT - 1, strict=False):
            try:
                version = await submit(self._table, [_advance(stored.period, version), *batch])
            except TableTransactionError as error:
                if error.status_code not in OVERTAKEN:
                    raise
                return False
        return True

    def hours(self, start: str, end: str, client_id: str | None) -> AsyncIterator[UsageHour]:
        """The usage of the hours from `start` up to but not including `end` (`YYYYMMDDHH`), of one client or of all."""
        return self.rows(Span.HOUR, start, end, client_id)

    async def rows(self, span: Span, start: str, end: str, client_id: str | None) -> AsyncIterator[UsageHour]:
        """The usage of the hours, days or months from `start` up to but not including `end`, of one client or of all."""
        prefix = _PREFIX[span]
        wanted = f"PartitionKey ge {quoted(prefix + start)} and PartitionKey lt {quoted(prefix + end)} and {_ROWS}"
        if client_id is not None:
            wanted += f" and ClientId eq {quoted(client_id)}"
        async for row in _reader.read(self._table, wanted):
            yield row

    def parts_of(self, period: str) -> AsyncIterator[UsageHour]:
        """The usage of the hours of a day, or of the days of a month."""
        span = Span.HOUR if len(period) == Span.DAY.value else Span.DAY
        return self.rows(span, period, f"{period}:", None)  # a colon comes after the digits

    async def version(self, period: str) -> str | None:
        """Another text with each change of the period's usage; None where it was never counted."""
        try:
            entity = await self._table.get_entity(_partition(period), _VERSION)
        except ResourceNotFoundError:
            return None
        return str(entity.metadata["etag"])

    async def watermark(self) -> datetime | None:
        """The instant up to which everything that the ledger held is counted; None where nothing ever was."""
        try:
            entity = await self._table.get_entity(_WATERMARK["PartitionKey"], _WATERMARK["RowKey"])
        except ResourceNotFoundError:
            return None
        return value_of(entity, _Watermark, {}).at

    async def set_watermark(self, at: datetime) -> None:
        """Says that everything is counted that the ledger held at that instant."""
        await self._table.upsert_entity(_WATERMARK | properties_of(_Watermark(at)), UpdateMode.REPLACE)

    async def prepare(self) -> None:
        await create_if_missing(self._table)

    async def close(self) -> None:
        await self._table.close()


class _Watermark(msgspec.Struct, frozen=True):
    at: datetime


_WATERMARK: Entity = {"PartitionKey": "watermark", "RowKey": "rollup"}


def _partition(period: str) -> str:
    return _PREFIX[Span(len(period))] + period


def _advance(period: str, version: str | None) -> Change:
    """Gives the partition a new version, if it still has this one."""
    return Change("PUT" if version else "POST", {"PartitionKey": _partition(period), "RowKey": _VERSION}, version)


def _entity(usage: UsageHour) -> Entity:
    """The row as properties, without what is zero."""
    key = msgspec.json.encode(usage.key)
    entity: Entity = {"PartitionKey": _partition(usage.hour), "RowKey": hashlib.sha256(key).hexdigest()}
    for name, property_ in _KEYS:
        entity[property_] = getattr(usage.key, name)
    for (property_, type_), amount in zip(_COUNTED, _counts(usage), strict=True):
        if amount:
            entity[property_] = str(amount)
            entity[type_] = "Edm.Int64"
    for name, property_ in _TOLD:
        entity[property_] = str(getattr(usage, name))
    if usage.watermark:
        entity["Watermark"] = usage.watermark
    return entity


_KEYS = [(name, property_name(name)) for name in UsageKey.__struct_fields__]
_COUNTED = [(property_name(name), f"{property_name(name)}@odata.type") for name in COUNTERS]
_counts = attrgetter(*COUNTERS)
_TOLD = [(name, property_name(name)) for name in ("cost", "price_version", *HISTOGRAMS)]


_KEY = columns_of(UsageKey)
_AMOUNTS = columns_of(UsageHour, without=("hour", "key", *HISTOGRAMS))
_TEXTS = dict.fromkeys(HISTOGRAMS, (str, ""))
_key, _amounts = attrgetter(*_KEY), attrgetter(*_AMOUNTS)


def _row(columns: Any) -> UsageHour:
    fields: dict[str, Any] = dict(zip(_AMOUNTS, _amounts(columns), strict=True))
    fields |= {name: Histogram.parse(getattr(columns, name)) for name in _TEXTS}
    key = UsageKey(**dict(zip(_KEY, _key(columns), strict=True)))
    return UsageHour(hour=columns.partition_key.rpartition("-")[2], key=key, **fields)


_reader = Reader({"partition_key": (str,), **_KEY, **_AMOUNTS, **_TEXTS}, _row)
