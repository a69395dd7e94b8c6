"""The ledger: one UsageEntry per call, and what the entries of an hour add up to.

Rule: an entry is what is known of its call, so far. Entries of one call are merged field by field and every field has the
same value wherever it is known; so no order of arrival and no repetition changes the result. Usage is a sum, and sums add up:
days are sums of hours, months of days.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from operator import add, attrgetter
from typing import Any

import msgspec

from shared.core.call_ids import hour_of
from shared.core.call_record import CallRecord, Outcome, UsageSource
from shared.core.money.deferred import counted_tier
from shared.core.money.histogram import Histogram, bucket_of
from shared.core.usage import TokenUsage

TOKEN_CLASSES = TokenUsage.__struct_fields__
"""What is counted of each call; UsageEntry and UsageHour have a field for each."""


class UsageEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One ledger line. No outcome: the call is open."""

    call_id: str
    client_id: str
    cost_center: str
    operation: str
    model: str
    stream: bool
    opened_at: datetime
    request_bytes: int
    end_user: str | None = None
    caller_ip: str | None = None
    outcome: Outcome | None = None
    status: int | None = None
    model_served: str | None = None
    deployment: str | None = None
    upstream: str | None = None
    region: str | None = None
    tier: str | None = None
    """What the price depends on besides the model: `batch`, `flex`, `priority`; of images `hd/1024x1024`."""
    attempt_count: int | None = None
    first_byte_ms: int | None = None
    duration_ms: int | None = None
    response_bytes: int | None = None
    usage_source: UsageSource | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    audio_input_tokens: int | None = None
    image_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_output_tokens: int | None = None
    image_output_tokens: int | None = None
    audio_ms: int | None = None
    images: int | None = None
    characters: int | None = None
    archive_sha256: str | None = None
    """The digest of the archive object's head (core/recording/archive.py), as the recorder wrote it."""

    @property
    def hour(self) -> str:
        return hour_of(self.call_id)


_SHARED_FIELDS = tuple(name for name in UsageEntry.__struct_fields__ if name in CallRecord.__struct_fields__)


def entry_of(record: CallRecord, archive_sha256: str | None = None) -> UsageEntry:
    """The ledger line of a record, open or closed."""
    known = {name: getattr(record, name) for name in _SHARED_FIELDS} | {"tier": counted_tier(record)}
    if record.usage:
        known |= msgspec.structs.asdict(record.usage)
    attempt_count = len(record.attempts) if record.outcome else None
    return UsageEntry(**known, attempt_count=attempt_count, archive_sha256=archive_sha256)


class Span(Enum):
    """How long a period is; the value is the length of its name: `2026112109`, `20261121`, `202611`. All are UTC."""

    HOUR = 10
    DAY = 8
    MONTH = 6

    @property
    def longer(self) -> "Span | None":
        """The span that is the sum of these."""
        return {Span.HOUR: Span.DAY, Span.DAY: Span.MONTH}.get(self)


def period_around(period: str) -> str | None:
    """The period that this one is part of; None for a month."""
    longer = Span(len(period)).longer
    return period[: longer.value] if longer else None


def hours_since(before: datetime | None, now: datetime) -> list[str]:
    """The hours that have begun after `before` (UTC), up to that of `now`; of the last month at most. None: that of `now`."""
    hour = timedelta(hours=1)
    first = max(before.replace(minute=0, second=0, microsecond=0) + hour if before else now, now - timedelta(days=31))
    count = (now - first) // hour + 1 if first <= now else 0
    return [f"{first + index * hour:%Y%m%d%H}" for index in range(count)]


class UsageKey(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """What usage is counted by, within an hour."""

    client_id: str
    cost_center: str
    operation: str
    model: str
    model_served: str
    deployment: str
    region: str = ""
    tier: str = ""


class UsageHour(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one key used in one period, and what that costs. The row is complete where `closed == calls`."""

    hour: str
    """The UTC hour, `YYYYMMDDHH`; of a sum the day, `YYYYMMDD`, or the month, `YYYYMM`."""
    key: UsageKey
    calls: int = 0
    """Calls that were forwarded: opened."""
    completed: int = 0
    client_closed: int = 0
    upstream_error: int = 0
    rejected: int = 0
    """Calls that the gateway refused and did not forward. Not among `calls`."""
    incomplete: int = 0
    open: int = 0
    """Calls that have not ended yet: missing, so far."""
    failovers: int = 0
    """Attempts beyond each call's first."""
    provider: int = 0
    """Calls whose usage has this source, as have the next three; see call_record.UsageSource."""
    drained: int = 0
    estimated: int = 0
    counted: int = 0
    usage_unknown: int = 0
    """Ended calls whose tokens nobody told."""
    unpriced_calls: int = 0
    """Calls whose usage is known and has no price. They are not in `cost`."""
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    audio_input_tokens: int = 0
    image_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    audio_ms: int = 0
    images: int = 0
    characters: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    cost: Decimal = Decimal(0)
    """In the configuration's currency."""
    price_version: str = ""
    """The price sheet that `cost` was computed with; of a sum all of them, joined by commas. Empty: not priced yet."""
    duration_ms_histogram: Histogram = Histogram()
    first_byte_ms_histogram: Histogram = Histogram()
    watermark: datetime | None = None
    """Everything that the ledger held at this instant is counted; of a sum, the latest of its parts'."""

    @property
    def closed(self) -> int:
        """Calls whose end was told."""
        return self.calls - self.open - self.incomplete

    @property
    def metered(self) -> int:
        """Calls whose usage is known."""
        return self.provider + self.drained + self.estimated + self.counted


HISTOGRAMS = ("duration_ms_histogram", "first_byte_ms_histogram")
COUNTERS = tuple(
    field
    for field in UsageHour.__struct_fields__
    if field not in {"hour", "key", "cost", "price_version", "watermark", *HISTOGRAMS}
)
"""The fields of UsageHour that are whole numbers, and add up as such."""


def roll_up(hour: str, entries: Iterable[UsageEntry], watermark: datetime | None = None) -> list[UsageHour]:
    """The usage of an hour, from all of its entries, not priced: a row a key, ordered by key."""
    count = HourCount()
    for entry in entries:
        count.add(entry)
    return count.rows(hour, watermark)


class HourCount:
    """Counts entries one by one, so that an hour of any size is counted in the memory of its keys."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str | None, ...], _Sum] = defaultdict(_Sum)

    def add(self, entry: UsageEntry) -> None:
        """Counts one more entry of the hour."""
        self._sums[_key(entry)].add(entry)

    def rows(self, hour: str, watermark: datetime | None) -> list[UsageHour]:
        """What was counted, not priced: a row a key, ordered by key."""
        keyed = [(_key_of(values), total) for values, total in self._sums.items()]
        return [total.row(hour, key, watermark) for key, total in sorted(keyed, key=lambda each: each[0])]


def add_up(period: str, rows: Iterable[UsageHour]) -> list[UsageHour]:
    """The usage of a longer period from the rows of its parts: a row a key, ordered by key."""
    total = PeriodSum()
    for row in rows:
        total.add(row)
    return total.rows(period)


class PeriodSum:
    """Adds rows up one by one, so that a month is added up in the memory of its keys."""

    def __init__(self) -> None:
        self._sums: dict[UsageKey, _PartsSum] = defaultdict(_PartsSum)

    def add(self, row: UsageHour) -> None:
        """Adds one more row of a part of the period."""
        self._sums[row.key].add(row)

    def rows(self, period: str) -> list[UsageHour]:
        """What was added up: a row a key, ordered by key."""
        return [self._sums[key].row(period, key) for key in sorted(self._sums)]


class _PartsSum:
    """What the rows of one key add up to, so far."""

    __slots__ = ("cost", "counters", "duration_lanes", "first_byte_lanes", "versions", "watermark")

    def __init__(self) -> None:
        self.counters = [0] * len(COUNTERS)
        self.cost = Decimal(0)
        self.versions: set[str] = set()
        self.duration_lanes = 0
        self.first_byte_lanes = 0
        self.watermark: datetime | None = None

    def add(self, row: UsageHour) -> None:
        self.counters = list(map(add, self.counters, _counted(row)))
        self.cost += row.cost
        if row.price_version:
            self.versions.update(row.price_version.split(","))
        self.duration_lanes += row.duration_ms_histogram.lanes
        self.first_byte_lanes += row.first_byte_ms_histogram.lanes
        if row.watermark and (self.watermark is None or row.watermark > self.watermark):
            self.watermark = row.watermark

    def row(self, period: str, key: UsageKey) -> UsageHour:
        return UsageHour(
            hour=period,
            key=key,
            **dict(zip(COUNTERS, self.counters, strict=True)),
            cost=self.cost,
            price_version=",".join(sorted(self.versions)),
            duration_ms_histogram=Histogram.of_lanes(self.duration_lanes),
            first_byte_ms_histogram=Histogram.of_lanes(self.first_byte_lanes),
            watermark=self.watermark,
        )


class _Sum:
    """What the entries of one key add up to, so far. Millions of entries pass through here: no more is done than counting."""

    __slots__ = ("counters", "durations", "first_bytes")

    def __init__(self) -> None:
        self.counters: defaultdict[str, Any] = defaultdict(int)
        self.durations: defaultdict[int, int] = defaultdict(int)
        self.first_bytes: defaultdict[int, int] = defaultdict(int)

    def add(self, entry: UsageEntry) -> None:
        counters, outcome = self.counters, entry.outcome
        if outcome is not Outcome.REJECTED:
            counters["calls"] += 1
            if outcome is not None and (source := entry.usage_source or _UNTOLD.get(outcome)):
                counters[_SOURCES[source]] += 1
        counters["open" if outcome is None else _OUTCOMES[outcome]] += 1
        counters["request_bytes"] += entry.request_bytes
        for name, amount in zip(_AMOUNTS, _amounts(entry), strict=True):
            if amount:
                counters[name] += amount
        if entry.attempt_count is not None and entry.attempt_count > 1:
            counters["failovers"] += entry.attempt_count - 1
        if entry.duration_ms is not None:
            self.durations[bucket_of(entry.duration_ms)] += 1
        if entry.first_byte_ms is not None:
            self.first_bytes[bucket_of(entry.first_byte_ms)] += 1

    def row(self, hour: str, key: UsageKey, watermark: datetime | None) -> UsageHour:
        return UsageHour(
            hour=hour,
            key=key,
            **self.counters,
            duration_ms_histogram=Histogram(dict(self.durations)),
            first_byte_ms_histogram=Histogram(dict(self.first_bytes)),
            watermark=watermark,
        )


def _key_of(values: tuple[str | None, ...]) -> UsageKey:
    return UsageKey(**{name: value or "" for name, value in zip(UsageKey.__struct_fields__, values, strict=True)})


_AMOUNTS = ("response_bytes", *TOKEN_CLASSES)
_key, _amounts, _counted = attrgetter(*UsageKey.__struct_fields__), attrgetter(*_AMOUNTS), attrgetter(*COUNTERS)
"""Many fields at once: a loop over their names takes several times as long."""
_UNTOLD = {Outcome.INCOMPLETE: UsageSource.NONE}
"""Of calls that say nothing of their usage: who never told an end told no usage."""
_OUTCOMES = {outcome: outcome.value for outcome in Outcome}
_SOURCES = {source: "usage_unknown" if source is UsageSource.NONE else source.value for source in UsageSource}
