"""The answer of GET /usage."""

from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec
import pytest

from shared.core.errors import BadRequest
from shared.core.ledger import COUNTERS, UsageHour, UsageKey
from shared.core.parameters import Parameters
from shared.core.usage_report import GROUPS, UsageQuery, parse_query, report

NOW = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)
KEY = UsageKey(
    client_id="blue", cost_center="cc", operation="chat.completions", model="m", model_served="m-1", deployment="d"
)


def asked(**parameters: str) -> Parameters:
    return Parameters.of(urlencode(parameters))


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text + "+00:00")


SPANS = {
    "this month so far": ({}, "2026-11-01T00:00", "2026-11-21T13:00"),
    "given": ({"start": "2026-01-02T03:00Z", "end": "2026-01-03T04:00Z"}, "2026-01-02T03:00", "2026-01-03T04:00"),
    "without a zone is UTC": ({"start": "2026-01-02", "end": "2026-01-03"}, "2026-01-02T00:00", "2026-01-03T00:00"),
    "another zone": (
        {"start": "2026-01-02T01:00+02:00", "end": "2026-01-02T05:00+02:00"},
        "2026-01-01T23:00",
        "2026-01-02T03:00",
    ),
    "whole hours around it": (
        {"start": "2026-01-02T03:59:59Z", "end": "2026-01-02T05:00:01Z"},
        "2026-01-02T03:00",
        "2026-01-02T06:00",
    ),
    "for ever": ({"start": "0001-01-01", "end": "9999-12-31T23:59Z"}, "0001-01-01T00:00", "9999-01-01T00:00"),
    "empty is missing": ({"start": "", "end": ""}, "2026-11-01T00:00", "2026-11-21T13:00"),
}


@pytest.mark.parametrize(("parameters", "start", "end"), SPANS.values(), ids=SPANS.keys())
def test_a_query_spans_whole_hours(parameters: dict[str, str], start: str, end: str) -> None:
    query = parse_query(asked(**parameters), NOW)
    assert (query.start, query.end) == (instant(start), instant(end))
    assert query.group_by == ("client_id", "model")


def test_a_report_can_be_grouped_by_every_field_of_a_key_and_by_the_hour() -> None:
    assert {"hour", *UsageKey.__struct_fields__} == set(GROUPS)
    assert parse_query(asked(group_by=f" {' , '.join(GROUPS)},"), NOW).group_by == GROUPS


BAD = {
    "unknown group": ({"group_by": "model,colour"}, "group_by", "colour"),
    "no instant": ({"start": "yesterday"}, "start", "ISO 8601"),
    "an end that is none": ({"end": "2026-13-01"}, "end", "ISO 8601"),
    "the first instant, in a zone that puts it before": ({"start": "0001-01-01T00:00+02:00"}, "start", "ISO 8601"),
}


@pytest.mark.parametrize(("parameters", "param", "message"), BAD.values(), ids=BAD.keys())
def test_a_query_that_cannot_be_answered_names_its_parameter(
    parameters: dict[str, str], param: str, message: str
) -> None:
    with pytest.raises(BadRequest, match=message) as caught:
        parse_query(asked(**parameters), NOW)
    assert caught.value.param == param


def row(hour: str, calls: int, **key: str) -> UsageHour:
    return UsageHour(hour=hour, key=msgspec.structs.replace(KEY, **key), calls=calls, input_tokens=10 * calls)


ROWS = [row("2026112102", 1), row("2026112101", 2, model="n"), row("2026112101", 4, client_id="red")]


def lines(*group_by: str) -> list[tuple[str | int, ...]]:
    query = UsageQuery(start=NOW, end=NOW, group_by=group_by)
    return [
        (*(line[name] for name in group_by), line["calls"], line["input_tokens"]) for line in report(query, ROWS).data
    ]


def test_rows_are_added_up_by_what_was_asked_and_ordered() -> None:
    assert lines("client_id") == [("blue", 3, 30), ("red", 4, 40)]
    assert lines("hour", "model") == [
        ("2026112101", "m", 4, 40),
        ("2026112101", "n", 2, 20),
        ("2026112102", "m", 1, 10),
    ]
    assert lines("model", "client_id") == [("m", "blue", 1, 10), ("m", "red", 4, 40), ("n", "blue", 2, 20)]
    assert lines() == [(7, 70)]


def test_every_line_and_the_total_have_every_counter() -> None:
    answer = report(UsageQuery(start=NOW, end=NOW, group_by=("model",)), ROWS)
    assert all(line.keys() == {"model", *COUNTERS} for line in answer.data)
    assert answer.total.keys() == set(COUNTERS)
    assert (answer.total["calls"], answer.total["input_tokens"]) == (7, 70)


def test_a_span_without_usage_has_a_total_of_nothing() -> None:
    answer = report(UsageQuery(start=NOW, end=NOW, group_by=("model",)), [])
    assert answer.data == []
    assert set(answer.total.values()) == {0}
