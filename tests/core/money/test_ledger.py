"""The ledger's lines, and what they add up to."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.call_record import CallRecord, Outcome, UsageSource
from shared.core.money.histogram import Histogram
from shared.core.money.ledger import (
    COUNTERS,
    TOKEN_CLASSES,
    UsageEntry,
    UsageHour,
    UsageKey,
    add_up,
    entry_of,
    hours_since,
    period_around,
    roll_up,
)
from shared.core.usage import TokenUsage
from shared.storage.entities import properties_of
from tests.examples import NOON, call_id, closed_record, opened_record

HOUR = "2026112112"


def known(record: CallRecord) -> dict[str, Any]:
    """What a table merges: the entry's fields that are known."""
    return properties_of(entry_of(record))


CLOSED = {
    "completed": closed_record(),
    "no usage told": closed_record(usage=None, usage_source=UsageSource.NONE),
    "nothing but an outcome": opened_record(outcome=Outcome.UPSTREAM_ERROR),
    "usage of nothing": closed_record(usage=TokenUsage(input_tokens=0, output_tokens=0)),
}


@pytest.mark.parametrize("closed", CLOSED.values(), ids=CLOSED.keys())
@given(st.lists(st.booleans(), max_size=6))
def test_no_order_and_no_repetition_of_opened_and_closed_changes_an_entry(closed: CallRecord, more: list[bool]) -> None:
    """Guards that a call ends as one entry, whatever is repeated or reordered."""
    for order in ([True, False, *more], [False, True, *more]):
        entity: dict[str, Any] = {}
        for is_closed in order:
            entity |= known(closed if is_closed else opened_record())
        assert entity == known(closed)


def test_an_entry_of_an_open_call_has_no_end() -> None:
    entry = entry_of(opened_record())
    assert (entry.outcome, entry.usage_source, entry.attempt_count, entry.input_tokens) == (None, None, None, None)
    assert (entry.call_id, entry.hour) == (call_id(), HOUR)


def test_an_entry_of_a_closed_call_has_its_tokens_by_class() -> None:
    entry = entry_of(closed_record())
    assert {name: getattr(entry, name) for name in TOKEN_CLASSES} == dict.fromkeys(TOKEN_CLASSES) | {
        "input_tokens": 10,
        "cached_input_tokens": 4,
        "output_tokens": 5,
    }
    assert entry.attempt_count == 1


def test_the_ledger_counts_every_class_of_tokens() -> None:
    assert set(TOKEN_CLASSES) <= set(UsageEntry.__struct_fields__) & set(COUNTERS)
    assert {outcome.value for outcome in Outcome} <= set(COUNTERS)


ATTEMPT = closed_record().attempts
ENTRIES = [
    entry_of(closed_record(1)),
    entry_of(closed_record(2)),
    entry_of(closed_record(3, outcome=Outcome.CLIENT_CLOSED, usage=None, usage_source=UsageSource.NONE)),
    entry_of(opened_record(4)),
    entry_of(closed_record(5, client_id="team-red", usage=TokenUsage(reasoning_tokens=7), attempts=3 * ATTEMPT)),
]


def test_an_hour_is_added_up_by_key_and_ordered() -> None:
    key = UsageKey(
        client_id="team-blue",
        cost_center="cc-1",
        operation="chat.completions",
        model="gpt-4o",
        model_served="gpt-4o-2024-11-20",
        deployment="east",
        region="East US",
    )
    still_open = msgspec.structs.replace(key, model_served="", deployment="", region="")
    red = msgspec.structs.replace(key, client_id="team-red")
    blue_hour = UsageHour(
        hour=HOUR,
        key=key,
        calls=3,
        completed=2,
        client_closed=1,
        provider=2,
        usage_unknown=1,
        input_tokens=20,
        cached_input_tokens=8,
        output_tokens=10,
        request_bytes=51,
        response_bytes=3 * 4711,
        duration_ms_histogram=Histogram.of([90, 90, 90]),
        first_byte_ms_histogram=Histogram.of([40, 40, 40]),
    )
    red_hour = UsageHour(
        hour=HOUR,
        key=red,
        calls=1,
        completed=1,
        provider=1,
        failovers=2,
        reasoning_tokens=7,
        request_bytes=17,
        response_bytes=4711,
        duration_ms_histogram=Histogram.of([90]),
        first_byte_ms_histogram=Histogram.of([40]),
    )
    assert roll_up(HOUR, ENTRIES) == [
        UsageHour(hour=HOUR, key=still_open, calls=1, open=1, request_bytes=17),
        blue_hour,
        red_hour,
    ]
    assert roll_up(HOUR, []) == []


@given(st.permutations(ENTRIES))
def test_the_order_of_entries_does_not_matter(entries: list[UsageEntry]) -> None:
    assert roll_up(HOUR, entries) == roll_up(HOUR, ENTRIES)


@given(st.lists(st.sampled_from(ENTRIES)))
def test_no_call_is_left_out_and_each_has_one_state(entries: list[UsageEntry]) -> None:
    rows = roll_up(HOUR, entries)
    assert sum(row.calls for row in rows) == len(entries)
    for row in rows:
        assert row.calls == row.open + sum(getattr(row, outcome.value) for outcome in Outcome)


def test_unknown_usage_is_counted_as_unknown_and_an_open_call_as_open() -> None:
    """Guards that unknown is not zero."""
    incomplete = entry_of(opened_record(outcome=Outcome.INCOMPLETE))
    (row,) = roll_up(HOUR, [incomplete, entry_of(opened_record(1))])
    assert (row.calls, row.incomplete, row.open, row.usage_unknown) == (2, 1, 1, 1)


def test_every_ended_call_that_is_metered_has_one_source() -> None:
    """Guards that reports can say where their numbers come from."""
    entries = [
        entry_of(closed_record(number, usage_source=source, client_id="one"))
        for number, source in enumerate(UsageSource)
    ]
    (row,) = roll_up(HOUR, entries)
    assert [row.provider, row.drained, row.estimated, row.counted, row.usage_unknown] == [1, 1, 1, 1, 1]
    assert (row.metered, row.closed) == (4, 5)


@given(st.lists(st.tuples(st.sampled_from(ENTRIES), st.integers(0, 3))))
def test_the_sum_of_the_parts_is_the_whole(entries: list[tuple[UsageEntry, int]]) -> None:
    """Guards that days and months add up, however the calls fall into their parts."""
    parts = [row for part in range(4) for row in roll_up(HOUR, (each for each, of in entries if of == part))]
    assert add_up("20261121", parts) == roll_up("20261121", (each for each, _ in entries))


def test_sums_keep_money_versions_and_the_latest_watermark() -> None:
    (row,) = roll_up(HOUR, ENTRIES[:1], NOON)
    priced = [
        msgspec.structs.replace(row, cost=Decimal("0.1"), unpriced_calls=1, price_version="b"),
        msgspec.structs.replace(row, cost=Decimal("0.2"), price_version="a,b", watermark=NOON + timedelta(hours=1)),
        msgspec.structs.replace(row, watermark=None),
    ]
    (total,) = add_up("20261121", priced)
    assert (total.cost, total.unpriced_calls, total.price_version) == (Decimal("0.3"), 1, "a,b")
    assert total.watermark == NOON + timedelta(hours=1)


def test_hours_are_part_of_days_and_days_of_months() -> None:
    assert (period_around("2026112112"), period_around("20261121"), period_around("202611")) == (
        "20261121",
        "202611",
        None,
    )


def test_hours_that_have_begun_since_are_those_after_it() -> None:
    assert hours_since(None, NOON) == [HOUR]
    assert hours_since(NOON, NOON + timedelta(minutes=59)) == []
    assert hours_since(NOON, NOON + timedelta(hours=2)) == ["2026112113", "2026112114"]
    assert len(hours_since(NOON - timedelta(days=400), NOON)) == 31 * 24 + 1
