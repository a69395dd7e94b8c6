"""Finds calls in the ledger, newest first or oldest first.

Rule: no more is read than the answer needs. Ids sort by time, so a span of time is a range of keys: windows are read from
the newest on, wider where little is found and narrower where too much is, until the page is full.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from azure.data.tables.aio import TableClient

from shared.core.call_ids import first_at, opened_at
from shared.core.money.ledger import UsageEntry
from shared.core.reports.call_query import OPEN, CallPage, CallQuery, page
from shared.storage.entities import value_of

_IS_OPEN = ("outcome", OPEN)
_FIRST_WINDOW = timedelta(minutes=1)
_NARROWEST = timedelta(milliseconds=1)
"""That of an id: it cannot be split further."""
_STEP = 4
_MOST = 2000
"""Entries of one window. With more it is narrowed: the newest come last in it."""


class CallSearch:
    """Reads the ledger's table."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    async def newest(self, query: CallQuery) -> CallPage:
        """A page of calls, the newest first."""
        found: list[UsageEntry] = []
        until = min(query.end, opened_at(query.after) + _NARROWEST) if query.after else query.end
        width = _FIRST_WINDOW
        while until > query.start and len(found) <= query.limit:
            since = until - min(width, until - query.start)
            window = await self._window(query, since, until, None if width <= _NARROWEST else _MOST)
            if window is None:
                width = max(width / _STEP, _NARROWEST)
                continue
            found.extend(reversed(window))
            until, width = since, width * _STEP
        return page(found, query.limit)

    async def oldest(self, query: CallQuery) -> AsyncIterator[UsageEntry]:
        """Every call of the query, the oldest first; its limit does not count. Holds one page of the table at a time."""
        text, values = _condition(query, query.start, query.end)
        async for entity in self._table.query_entities(text, parameters=values):
            entry = value_of(entity, UsageEntry, {"call_id": entity["RowKey"]})
            if _is_asked(entry, query):
                yield entry

    async def _window(
        self, query: CallQuery, since: datetime, until: datetime, most: int | None
    ) -> list[UsageEntry] | None:
        """The calls of a window, the oldest first; None where there are more than `most`."""
        text, values = _condition(query, since, until)
        found: list[UsageEntry] = []
        async for entity in self._table.query_entities(text, parameters=values):
            found.append(value_of(entity, UsageEntry, {"call_id": entity["RowKey"]}))
            if most is not None and len(found) > most:
                return None
        return [entry for entry in found if _is_asked(entry, query)]

    async def close(self) -> None:
        await self._table.close()


def _condition(query: CallQuery, since: datetime, until: datetime) -> tuple[str, dict[str, Any]]:
    """The filter for a window, and its values. Partitions are the hours that the window touches."""
    last = first_at(until)
    values: dict[str, Any] = {
        "first_hour": f"{since:%Y%m%d%H}",
        "last_hour": f"{until - _NARROWEST:%Y%m%d%H}",
        "first": first_at(since),
        "last": min(last, query.after) if query.after else last,
    }
    terms = ["PartitionKey ge @first_hour", "PartitionKey le @last_hour", "RowKey ge @first", "RowKey lt @last"]
    owner = () if query.client_id is None else (("client_id", query.client_id),)
    for number, (field, value) in enumerate((*owner, *query.filters)):
        if (field, value) == _IS_OPEN:
            continue  # the table cannot be asked for what is not there
        values[f"value{number}"] = value
        terms.append(_term(field, f"@value{number}"))
    return " and ".join(terms), values


def _term(field: str, value: str) -> str:
    if field == "model":
        return f"( Model eq {value} or ModelServed eq {value} )"  # spaced, for the SDK tells values by their spaces
    return f"{field.title().replace('_', '')} eq {value}"


def _is_asked(entry: UsageEntry, query: CallQuery) -> bool:
    return entry.outcome is None or _IS_OPEN not in query.filters
