"""What `GET /usage` answers: the usage of a span of hours, added up by what was asked.

Rule: a report adds up rows and never guesses. What is unknown is counted as unknown (`usage_unknown`), not as zero tokens, and
what has no price (`unpriced_calls`) is not in the money. Rows of days and months are read where they say as much as their hours.
"""

import base64
import binascii
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from shared.core.errors import BadRequest
from shared.core.money.histogram import Histogram
from shared.core.money.ledger import COUNTERS, Span, UsageHour, UsageKey
from shared.core.parameters import Parameters, whole_hours

TIMES = ("hour", "day", "month")
GROUPS = (*TIMES, *UsageKey.__struct_fields__)
FILTERS = UsageKey.__struct_fields__
PARAMETERS = ("start", "end", "group_by", "granularity", "time_zone", "limit", "page", *FILTERS)
MOST_LINES = 10_000
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""No call is older."""
PERCENTILES = (50, 95, 99)

type Line = dict[str, Any]
"""A line of a report: the fields of `group_by`, then the figures."""


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which hours, from `start` up to but not including `end` (UTC, whole hours), what to add up by, and which rows."""

    start: datetime
    end: datetime
    group_by: tuple[str, ...]
    zone: tzinfo = UTC
    """Whose days and months are meant. An hour belongs to the day in which it begins."""
    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """A field of the key, and the values that it may have."""
    client_id: str | None = None
    """Whose usage may be seen; None: everyone's."""
    limit: int = 1000
    after: tuple[str, ...] | None = None
    """The groups of the last line of the page before."""

    @property
    def reads_client(self) -> str | None:
        """The one client whose rows have to be read; None where there may be several."""
        named = dict(self.filters).get("client_id", ())
        return self.client_id or (named[0] if len(named) == 1 else None)

    def takes(self, key: UsageKey) -> bool:
        """Whether rows of this key are to be counted."""
        if self.client_id not in (None, key.client_id):
            return False
        return all(getattr(key, field) in values for field, values in self.filters)


class Part(msgspec.Struct, frozen=True):
    """Rows to read: periods of one length, from `start` up to but not including `end`, by their names."""

    span: Span
    start: str
    end: str


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. Money is decimal text in `currency`; latencies are milliseconds, None where nothing was measured."""

    object: str = "usage.report"
    start: datetime
    end: datetime
    time_zone: str
    group_by: tuple[str, ...]
    currency: str
    watermark: datetime | None
    """Everything that was recorded at this instant is counted; None where nothing ever was."""
    data: list[Line]
    has_more: bool
    next_page: str | None
    total: Line
    """Of all pages."""


def parse_query(parameters: Parameters, now: datetime, client_id: str | None = None) -> UsageQuery:
    """The query in URL parameters; see docs/reports.md. Raises BadRequest."""
    zone = _zone(parameters.text("time_zone"))
    month = now.astimezone(zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    start, end = whole_hours(parameters.instant("start", month, zone), parameters.instant("end", now, zone))
    group_by = tuple(dict.fromkeys(parameters.listed("group_by"))) or ("client_id", "model")
    if granularity := parameters.text("granularity"):
        parameters.chosen("granularity", TIMES, granularity)
        group_by = (granularity, *(name for name in group_by if name != granularity))
    if unknown := [name for name in group_by if name not in GROUPS]:
        raise BadRequest(f"Cannot group by {', '.join(unknown)}; known are {', '.join(GROUPS)}.", param="group_by")
    return UsageQuery(
        start=max(start, _EARLIEST),
        end=end,
        group_by=group_by,
        zone=zone,
        filters=tuple((name, values) for name in FILTERS if (values := parameters.listed(name))),
        client_id=client_id,
        limit=parameters.number("limit", least=1, most=MOST_LINES, default=1000),
        after=_cursor(parameters.text("page"), len(group_by)),
    )


def parts_of(query: UsageQuery) -> Iterator[Part]:
    """The fewest rows that say what is asked: months and days where whole ones lie in the span, hours around them."""
    yield from _parts(query.start, query.end, _longest(query))


def _longest(query: UsageQuery) -> Span:
    is_local = query.zone is not UTC and not {"day", "month"}.isdisjoint(query.group_by)
    if "hour" in query.group_by or is_local:
        return Span.HOUR
    return Span.DAY if "day" in query.group_by else Span.MONTH


def _parts(start: datetime, end: datetime, span: Span) -> Iterator[Part]:
    if start >= end:
        return
    first, last = _next(start - timedelta(microseconds=1), span), _beginning(end, span)
    if first >= last:  # no whole one; never so for hours
        yield from _parts(start, end, _SHORTER[span])
        return
    if start < first:
        yield from _parts(start, first, _SHORTER[span])
    yield Part(span, period_of(first, span), period_of(last, span))
    if last < end:
        yield from _parts(last, end, _SHORTER[span])


_SHORTER = {span.longer: span for span in Span if span.longer}


def period_of(instant: datetime, span: Span) -> str:
    """The name of the period in which an instant is."""
    return f"{instant:%Y%m%d%H}".rjust(10, "0")[: span.value]


def _beginning(instant: datetime, span: Span) -> datetime:
    hour = instant.replace(minute=0, second=0, microsecond=0)
    if span is Span.HOUR:
        return hour
    return hour.replace(hour=0) if span is Span.DAY else hour.replace(hour=0, day=1)


_LONGEST = {Span.HOUR: timedelta(hours=1), Span.DAY: timedelta(days=1), Span.MONTH: timedelta(days=31)}


def _next(instant: datetime, span: Span) -> datetime:
    """The beginning of the period after the one in which an instant is."""
    return _beginning(_beginning(instant, span) + _LONGEST[span], span)


class Addend(msgspec.Struct, frozen=True):
    """What a row adds to each sum that it is part of, made once."""

    counters: list[tuple[str, int]]
    """Those that are not zero."""
    cost: Decimal
    versions: frozenset[str]
    duration_ms: int
    """The histogram's lanes, as are the next."""
    first_byte_ms: int

    @classmethod
    def of(cls, row: UsageHour) -> Self:
        """What a row adds."""
        return cls(
            [(name, amount) for name in COUNTERS if (amount := getattr(row, name))],
            row.cost,
            frozenset(row.price_version.split(",")) if row.price_version else frozenset(),
            row.duration_ms_histogram.lanes,
            row.first_byte_ms_histogram.lanes,
        )


class Figures:
    """What rows add up to, so far."""

    __slots__ = ("cost", "counters", "duration_ms", "first_byte_ms", "versions")

    def __init__(self) -> None:
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.cost = Decimal(0)
        self.versions: set[str] = set()
        self.duration_ms = 0
        self.first_byte_ms = 0

    def add(self, row: Addend) -> None:
        """Adds one more row."""
        for name, amount in row.counters:
            self.counters[name] += amount
        self.cost += row.cost
        self.versions |= row.versions
        self.duration_ms += row.duration_ms
        self.first_byte_ms += row.first_byte_ms

    def include(self, other: "Figures") -> None:
        """Adds all that another adds up to."""
        for name, amount in other.counters.items():
            self.counters[name] += amount
        self.cost += other.cost
        self.versions |= other.versions
        self.duration_ms += other.duration_ms
        self.first_byte_ms += other.first_byte_ms

    def line(self) -> Line:
        """All figures, by name."""
        counters = self.counters
        return {
            **counters,
            "closed": counters["calls"] - counters["open"] - counters["incomplete"],
            "cost": money(self.cost),
            "price_version": ",".join(sorted(self.versions)),
            "duration_ms": _percentiles(self.duration_ms),
            "first_byte_ms": _percentiles(self.first_byte_ms),
        }


class Report:
    """Adds up rows as a query asks, one by one: it holds a line a group."""

    def __init__(self, query: UsageQuery) -> None:
        self._query = query
        self._lines: dict[tuple[str, ...], Figures] = defaultdict(Figures)
        self._total = Figures()

    def add(self, row: UsageHour) -> None:
        """Counts a row, where the query takes it."""
        if self._query.takes(row.key):
            addend = Addend.of(row)
            self._lines[self._group(row)].add(addend)
            self._total.add(addend)

    def lines(self) -> Iterator[Line]:
        """Every line, ordered by the groups."""
        return (self._line(group) for group in sorted(self._lines))

    def page(self, currency: str, watermark: datetime | None) -> UsageReport:
        """The page that the query asks for."""
        query = self._query
        groups = sorted(group for group in self._lines if query.after is None or group > query.after)
        has_more = len(groups) > query.limit
        shown = groups[: query.limit]
        return UsageReport(
            start=query.start,
            end=query.end,
            time_zone=str(query.zone),
            group_by=query.group_by,
            currency=currency,
            watermark=watermark,
            data=[self._line(group) for group in shown],
            has_more=has_more,
            next_page=_page(shown[-1]) if has_more else None,
            total=self._total.line(),
        )

    def _line(self, group: tuple[str, ...]) -> Line:
        return dict(zip(self._query.group_by, group, strict=True)) | self._lines[group].line()

    def _group(self, row: UsageHour) -> tuple[str, ...]:
        return tuple(
            time_of(row.hour, name, self._query.zone) if name in TIMES else str(getattr(row.key, name))
            for name in self._query.group_by
        )


def time_of(period: str, name: str, zone: tzinfo) -> str:
    """How a row's time is written: an hour as `2026-11-21T13:00Z`, a day as `2026-11-21`, a month as `2026-11`."""
    if name == "hour":
        return f"{period[:4]}-{period[4:6]}-{period[6:8]}T{period[8:]}:00Z"
    if len(period) == Span.HOUR.value and zone is not UTC:
        period = f"{beginning_of(period).astimezone(zone):%Y%m%d}".rjust(8, "0")
    return f"{period[:4]}-{period[4:6]}" + (f"-{period[6:8]}" if name == "day" else "")


def beginning_of(period: str) -> datetime:
    """The instant at which an hour, a day or a month begins."""
    year, month, day, hour = period[:4], period[4:6], period[6:8] or "1", period[8:] or "0"
    return datetime(int(year), int(month), int(day), int(hour), tzinfo=UTC)


def flat(line: Line) -> Line:
    """A line without inner objects, as a table has it: `duration_ms_p95` for `duration_ms.p95`."""
    return {
        (f"{name}_{inner}" if inner else name): each
        for name, value in line.items()
        for inner, each in (value.items() if isinstance(value, dict) else [("", value)])
    }


def money(amount: Decimal) -> str:
    """Money as decimal text, never in powers of ten."""
    return format(amount, "f")


def _percentiles(lanes: int) -> dict[str, int | None]:
    histogram = Histogram.of_lanes(lanes)
    return {f"p{percent}": histogram.percentile(percent) for percent in PERCENTILES}


def _zone(name: str | None) -> tzinfo:
    if name is None or name.upper() in {"UTC", "Z"}:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadRequest(
            f"'time_zone' is an IANA name such as Europe/Zurich; it was '{name[:50]}'.", param="time_zone"
        ) from error


def _page(group: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(group)).decode().rstrip("=")


def _cursor(page: str | None, groups: int) -> tuple[str, ...] | None:
    """The groups that a `next_page` stands for. Raises BadRequest."""
    if page is None:
        return None
    try:
        group = msgspec.json.decode(base64.urlsafe_b64decode(page + "=" * (-len(page) % 4)), type=tuple[str, ...])
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise BadRequest("'page' is not the next_page of an answer.", param="page") from error
    if len(group) != groups:
        raise BadRequest("'page' is of a report that was grouped otherwise.", param="page")
    return group
