"""The ledger's lines, and what they add up to."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.call_record import CallRecord, Outcome, UsageSource
from shared.core.ledger import COUNTERS, TOKEN_CLASSES, UsageEntry, UsageHour, UsageKey, entry_of, roll_up
from shared.core.usage import TokenUsage
from shared.tables import properties_of
from tests.examples import call_id, closed_record, opened_record

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


ENTRIES = [
    entry_of(closed_record(1)),
    entry_of(closed_record(2)),
    entry_of(closed_record(3, outcome=Outcome.CLIENT_CLOSED, usage=None, usage_source=UsageSource.NONE)),
    entry_of(opened_record(4)),
    entry_of(closed_record(5, client_id="team-red", usage=TokenUsage(reasoning_tokens=7))),
]


def test_an_hour_is_added_up_by_key_and_ordered() -> None:
    key = UsageKey(
        client_id="team-blue",
        cost_center="cc-1",
        operation="chat.completions",
        model="gpt-4o",
        model_served="gpt-4o-2024-11-20",
        deployment="east",
    )
    still_open = msgspec.structs.replace(key, model_served="", deployment="")
    red = msgspec.structs.replace(key, client_id="team-red")
    blue_hour = UsageHour(
        hour=HOUR,
        key=key,
        calls=3,
        completed=2,
        client_closed=1,
        usage_unknown=1,
        input_tokens=20,
        cached_input_tokens=8,
        output_tokens=10,
        request_bytes=51,
        response_bytes=3 * 4711,
    )
    assert roll_up(HOUR, ENTRIES) == [
        UsageHour(hour=HOUR, key=still_open, calls=1, open=1, request_bytes=17),
        blue_hour,
        UsageHour(hour=HOUR, key=red, calls=1, completed=1, reasoning_tokens=7, request_bytes=17, response_bytes=4711),
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
    incomplete = entry_of(opened_record(outcome=Outcome.INCOMPLETE, usage_source=UsageSource.NONE))
    (row,) = roll_up(HOUR, [incomplete, entry_of(opened_record(1))])
    assert (row.calls, row.incomplete, row.open, row.usage_unknown) == (2, 1, 1, 1)
