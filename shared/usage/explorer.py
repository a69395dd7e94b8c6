"""Usage read from Data Explorer, by the functions UsageRollup and UsageLatency of queries/functions.kql.

Rule: the same calls give the same rows as in Table Storage. Data Explorer counts; the money is computed here, by the prices in
force, hour by hour, as the rollup does, and so do hours of provisioned throughput that nobody used, from the first call on. Calls
that are still open are not in Data Explorer, so they are not in its rows.

Only composition imports this module, and only where usage is read from there: the Kusto packages take a while to import.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.exceptions import AzureError
from azure.kusto.data import KustoClient
from azure.kusto.data.exceptions import KustoError

from shared.core.errors import NotReady
from shared.core.money.histogram import Histogram
from shared.core.money.ledger import COUNTERS, Span, UsageHour, UsageKey, add_up
from shared.core.money.prices import PriceSheet
from shared.core.money.pricing import rated
from shared.core.reports.usage_report import beginning_of, period_of
from shared.sinks.data_explorer import connection_to
from shared.storage.entities import property_name

type _Row = Mapping[str, Any]
type _Latencies = Mapping[tuple[str, UsageKey], Mapping[str, Mapping[int, int]]]
"""By hour and key, and then by measure: how many calls are in each bucket."""

_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_KEYS = {field: property_name(field) for field in UsageKey.__struct_fields__}
_COUNTERS = {field: property_name(field) for field in COUNTERS if field not in {"open", "unpriced_calls"}}


class UsageExplorer:
    """One database of one cluster. `prices` gives those in force, `now` the time in UTC."""

    def __init__(self, uri: str, database: str, prices: Callable[[], PriceSheet], now: Callable[[], datetime]) -> None:
        self._uri = uri
        self._database = database
        self._prices = prices
        self._now = now
        self._client: KustoClient | None = None

    async def rows(self, span: Span, start: str, end: str, client_id: str | None) -> AsyncIterator[UsageHour]:
        """The usage of the hours, days or months from `start` up to but not including `end`, of one client or of all.

        Raises NotReady where the cluster does not answer.
        """
        months: dict[str, list[UsageHour]] = defaultdict(list)
        async for day in self._days(beginning_of(start), beginning_of(end), whole=client_id is None):
            rows = [row for row in day if client_id in (None, row.key.client_id)]
            if span is not Span.HOUR:
                rows = add_up(day[0].hour[: Span.DAY.value], rows)
            if span is Span.MONTH:
                months[day[0].hour[: span.value]] += rows
                continue
            for row in rows:
                yield row
        for month, parts in months.items():
            for row in add_up(month, parts):
                yield row

    async def watermark(self) -> datetime | None:
        """None: how far ingestion is cannot be told."""
        return None

    async def _days(self, start: datetime, end: datetime, *, whole: bool) -> AsyncIterator[list[UsageHour]]:
        """The rows of the hours of each day that has any; a day's are held at a time. `whole`: those of nobody's use too."""
        span = f"OpenedAt >= {_literal(start)} and OpenedAt < {_literal(end)}"
        days = await self._ask(f"Calls | where {span} | summarize CallCount = count() by Day = bin(OpenedAt, 1d)")
        begun = await self._begun(start, end) if whole else []
        used = {_utc(row["Day"]) for row in days}
        for day in sorted(used.union(hour.replace(hour=0) for hour in begun)):
            first, last = max(start, day), min(end, day + _DAY)
            hours = {period_of(hour, Span.HOUR): list[UsageHour]() for hour in begun if first <= hour < last}
            for row in await self._counted(first, last) if day in used else ():
                hours.setdefault(row.hour, []).append(row)
            if rows := self._with_money(hours):
                yield rows

    async def _begun(self, start: datetime, end: datetime) -> list[datetime]:
        """The hours in which provisioned throughput may have cost money, used or not; none where there is no such."""
        if not self._prices().provisioned(self._now().date()):
            return []
        [row] = await self._ask(f"CallRecords | where OpenedAt < {_literal(end)} | summarize First = min(OpenedAt)")
        if row["First"] is None:
            return []
        first = max(start, _utc(row["First"]).replace(minute=0, second=0, microsecond=0))
        return [first + index * _HOUR for index in range(-((first - min(end, self._now())) // _HOUR))]

    async def _counted(self, start: datetime, end: datetime) -> list[UsageHour]:
        """The usage of the hours from `start` up to `end`."""
        span = f"{_literal(start)}, {_literal(end)}"
        counted = await self._ask(f"UsageRollup({span})")
        latencies = _latencies(await self._ask(f"UsageLatency({span})"))
        return [_usage(row, latencies) for row in counted]

    def _with_money(self, hours: Mapping[str, list[UsageHour]]) -> list[UsageHour]:
        """The rows, ordered by hour and key."""
        prices = self._prices()
        return [
            row for hour in sorted(hours) for row in rated(prices, hour, sorted(hours[hour], key=lambda row: row.key))
        ]

    async def _ask(self, query: str) -> list[_Row]:
        try:
            return await asyncio.to_thread(self._rows_of, query)
        except (KustoError, AzureError, OSError) as error:
            raise NotReady(
                "Data Explorer cannot be reached, or lacks queries/functions.kql; try again later."
            ) from error

    def _rows_of(self, query: str) -> list[_Row]:
        self._client = self._client or KustoClient(connection_to(self._uri))
        [table] = self._client.execute(self._database, query).primary_results
        return [row.to_dict() for row in table]


def _usage(row: _Row, latencies: _Latencies) -> UsageHour:
    hour, key = _place(row)
    counters = {field: int(row[column] or 0) for field, column in _COUNTERS.items()}
    buckets = latencies.get((hour, key), {})
    histograms = {f"{measure}_histogram": Histogram(counts) for measure, counts in buckets.items()}
    return UsageHour(hour=hour, key=key, **counters, **histograms)  # type: ignore[arg-type]


def _latencies(rows: list[_Row]) -> _Latencies:
    found: dict[tuple[str, UsageKey], dict[str, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        found[_place(row)][row["Measure"]][int(row["Bucket"])] = int(row["CallCount"])
    return found


def _place(row: _Row) -> tuple[str, UsageKey]:
    return period_of(_utc(row["Hour"]), Span.HOUR), UsageKey(
        **{field: row[column] or "" for field, column in _KEYS.items()}
    )


def _utc(instant: datetime) -> datetime:
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _literal(instant: datetime) -> str:
    return f"datetime({instant:%Y-%m-%dT%H:%M:%SZ})"
