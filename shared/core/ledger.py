"""The ledger: one UsageEntry per call, and what the entries of an hour add up to.

Rule: an entry is what is known of its call, so far. Entries of one call are merged field by field and every field has the
same value wherever it is known; so no order of arrival and no repetition changes the result.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from shared.core.call_ids import hour_of
from shared.core.call_record import CallRecord, Outcome, UsageSource
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

    @property
    def hour(self) -> str:
        return hour_of(self.call_id)


_SHARED_FIELDS = tuple(name for name in UsageEntry.__struct_fields__ if name in CallRecord.__struct_fields__)


def entry_of(record: CallRecord) -> UsageEntry:
    """The ledger line of a record, open or closed."""
    known = {name: getattr(record, name) for name in _SHARED_FIELDS}
    if record.usage:
        known |= msgspec.structs.asdict(record.usage)
    return UsageEntry(**known, attempt_count=len(record.attempts) if record.outcome else None)


class UsageKey(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """What usage is counted by, within an hour."""

    client_id: str
    cost_center: str
    operation: str
    model: str
    model_served: str
    deployment: str


class UsageHour(msgspec.Struct, frozen=True, kw_only=True):
    """What one key used in one UTC hour (`YYYYMMDDHH`)."""

    hour: str
    key: UsageKey
    calls: int = 0
    completed: int = 0
    client_closed: int = 0
    upstream_error: int = 0
    rejected: int = 0
    """Calls that the gateway refused and did not forward. Not among `calls`."""
    incomplete: int = 0
    open: int = 0
    """Calls that have not ended yet."""
    usage_unknown: int = 0
    """Ended calls whose tokens nobody told."""
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


COUNTERS = tuple(field for field in UsageHour.__struct_fields__ if field not in {"hour", "key"})


def roll_up(hour: str, entries: Iterable[UsageEntry]) -> list[UsageHour]:
    """The usage of an hour, from all of its entries: a row a key, ordered by key."""
    sums: dict[UsageKey, dict[str, int]] = {}
    for entry in entries:
        counters = sums.setdefault(_key_of(entry), dict.fromkeys(COUNTERS, 0))
        for name, amount in _counted(entry):
            counters[name] += amount
    return [UsageHour(hour=hour, key=key, **sums[key]) for key in sorted(sums)]


def _key_of(entry: UsageEntry) -> UsageKey:
    return UsageKey(
        client_id=entry.client_id,
        cost_center=entry.cost_center,
        operation=entry.operation,
        model=entry.model,
        model_served=entry.model_served or "",
        deployment=entry.deployment or "",
    )


def _counted(entry: UsageEntry) -> Iterable[tuple[str, int]]:
    yield "calls", 0 if entry.outcome is Outcome.REJECTED else 1
    yield (entry.outcome.value if entry.outcome else "open"), 1
    yield "request_bytes", entry.request_bytes
    yield "response_bytes", entry.response_bytes or 0
    if entry.outcome not in (None, Outcome.REJECTED) and entry.usage_source is UsageSource.NONE:
        yield "usage_unknown", 1
    for name in TOKEN_CLASSES:
        yield name, getattr(entry, name) or 0
