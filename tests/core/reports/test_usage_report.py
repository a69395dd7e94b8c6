"""The answer of GET /usage."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from shared.core.errors import BadRequest
from shared.core.money.histogram import Histogram
from shared.core.money.ledger import COUNTERS, Span, UsageHour, UsageKey
from shared.core.parameters import Parameters
from shared.core.reports.usage_report import GROUPS, Figures, Part, Report, UsageReport, flat, parse_query, parts_of

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
    "for ever": ({"start": "0001-01-01", "end": "9999-12-31T23:59Z"}, "1970-01-01T00:00", "9999-01-01T00:00"),
    "a zone of its own": (
        {"start": "2026-03-29", "end": "2026-03-30", "time_zone": "Europe/Zurich"},
        "2026-03-28T23:00",
        "2026-03-29T22:00",
    ),
    "this month, there": ({"time_zone": "Asia/Tokyo"}, "2026-10-31T15:00", "2026-11-21T13:00"),
    "empty is missing": ({"start": "", "end": ""}, "2026-11-01T00:00", "2026-11-21T13:00"),
}


@pytest.mark.parametrize(("parameters", "start", "end"), SPANS.values(), ids=SPANS.keys())
def test_a_query_spans_whole_hours(parameters: dict[str, str], start: str, end: str) -> None:
    query = parse_query(asked(**parameters), NOW)
    assert (query.start, query.end) == (instant(start), instant(end))
    assert query.group_by == ("client_id", "model")


def test_a_report_can_be_grouped_by_every_field_of_a_key_and_by_time() -> None:
    assert {"hour", "day", "month", *UsageKey.__struct_fields__} == set(GROUPS)
    assert parse_query(asked(group_by=f" {' , '.join(GROUPS)},"), NOW).group_by == GROUPS


BAD = {
    "no granularity": ({"granularity": "week"}, "granularity", "hour, day, month"),
    "no zone": ({"time_zone": "Mars/Base"}, "time_zone", "IANA"),
    "a zone that is a path": ({"time_zone": "../../etc/passwd"}, "time_zone", "IANA"),
    "a page that is none": ({"page": "!!"}, "page", "next_page"),
    "a page of another report": ({"page": "WyJhIl0"}, "page", "grouped otherwise"),
    "no limit": ({"limit": "0"}, "limit", "1 to 10000"),
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


def row(hour: str, calls: int, *, cost: str = "0", ms: tuple[int, ...] = (), **key: str) -> UsageHour:
    return UsageHour(
        hour=hour,
        key=msgspec.structs.replace(KEY, **key),
        calls=calls,
        input_tokens=10 * calls,
        cost=Decimal(cost),
        price_version="v1" if cost != "0" else "",
        duration_ms_histogram=Histogram.of(ms),
    )


ROWS = [row("2026112102", 1), row("2026112101", 2, model="n"), row("2026112101", 4, client_id="red")]


def reported(rows: list[UsageHour], owner: str | None = None, **parameters: str) -> UsageReport:
    report = Report(parse_query(asked(**parameters), NOW, owner))
    for each in rows:
        report.add(each)
    return report.page("EUR", NOW)


def lines(rows: list[UsageHour], group_by: str, **parameters: str) -> list[tuple[Any, ...]]:
    data = reported(rows, group_by=group_by, **parameters).data
    return [(*(line[name] for name in group_by.split(",")), line["calls"], line["input_tokens"]) for line in data]


def test_rows_are_added_up_by_what_was_asked_and_ordered() -> None:
    assert lines(ROWS, "client_id") == [("blue", 3, 30), ("red", 4, 40)]
    assert lines(ROWS, "hour,model") == [
        ("2026-11-21T01:00Z", "m", 4, 40),
        ("2026-11-21T01:00Z", "n", 2, 20),
        ("2026-11-21T02:00Z", "m", 1, 10),
    ]
    assert lines(ROWS, "model,client_id") == [("m", "blue", 1, 10), ("m", "red", 4, 40), ("n", "blue", 2, 20)]
    assert lines(ROWS, "day") == [("2026-11-21", 7, 70)]
    assert lines(ROWS, "month") == [("2026-11", 7, 70)]


def test_a_granularity_is_the_first_group() -> None:
    assert parse_query(asked(granularity="day"), NOW).group_by == ("day", "client_id", "model")
    assert parse_query(asked(granularity="day", group_by="model,day"), NOW).group_by == ("day", "model")


def test_a_group_that_is_named_twice_is_one_column() -> None:
    """Guards that the figures of a CSV stand below their own names."""
    assert parse_query(asked(group_by="model,day,model"), NOW).group_by == ("model", "day")


def test_days_are_those_of_the_zone_that_is_asked_for() -> None:
    """The clocks of Zurich went back on 2026-10-25 at 01:00 UTC: that day has 25 hours."""
    hours = [row(f"{day}{hour:02}", 1) for day in ("20261024", "20261025", "20261026") for hour in range(24)]
    assert lines(hours, "day", time_zone="Europe/Zurich") == [
        ("2026-10-24", 22, 220),
        ("2026-10-25", 25, 250),
        ("2026-10-26", 24, 240),
        ("2026-10-27", 1, 10),
    ]
    assert lines([row("2026103122", 1), row("2026103123", 2)], "month", time_zone="Europe/Zurich") == [
        ("2026-10", 1, 10),
        ("2026-11", 2, 20),
    ]


FILTERS: dict[str, tuple[dict[str, str], str | None, int]] = {
    "one value": ({"model": "n"}, None, 2),
    "several values": ({"client_id": "red,blue"}, None, 7),
    "two fields": ({"client_id": "blue", "model": "m"}, None, 1),
    "nobody's": ({"deployment": "nowhere"}, None, 0),
    "a client's own": ({}, "blue", 3),
    "another's, asked for by a client": ({"client_id": "red"}, "blue", 0),
}


@pytest.mark.parametrize(("parameters", "client_id", "calls"), FILTERS.values(), ids=FILTERS.keys())
def test_only_rows_that_were_asked_for_and_may_be_seen_are_counted(
    parameters: dict[str, str], client_id: str | None, calls: int
) -> None:
    """Guards that a client sees its own usage only, whatever it asks for."""
    assert reported(ROWS, client_id, **parameters).total["calls"] == calls


def test_pages_hold_every_line_once_and_all_have_the_total_of_all() -> None:
    rows = [row("2026112101", 1, client_id=f"client-{number}") for number in range(5)]
    seen, page = [], reported(rows, limit="2")
    while True:
        seen += [line["client_id"] for line in page.data]
        assert page.total["calls"] == 5
        if not page.has_more:
            break
        page = reported(rows, limit="2", page=str(page.next_page))
    assert seen == [f"client-{number}" for number in range(5)]
    assert page.next_page is None


def test_every_line_and_the_total_have_every_figure() -> None:
    answer = reported(ROWS, group_by="model")
    figures = {*COUNTERS, "closed", "cost", "price_version", "duration_ms", "first_byte_ms"}
    assert all(line.keys() == {"model", *figures} for line in answer.data)
    assert answer.total.keys() == figures


def test_money_and_latencies_add_up() -> None:
    rows = [row("2026112101", 1, cost="0.1", ms=(10, 20)), row("2026112102", 1, cost="0.2000001", ms=(30,) * 98)]
    total = reported(rows, group_by="model").total
    assert (total["cost"], total["price_version"]) == ("0.3000001", "v1")
    assert total["duration_ms"] == {"p50": 30, "p95": 30, "p99": 30}
    assert total["first_byte_ms"] == {"p50": None, "p95": None, "p99": None}, "what was not measured is not 0"
    assert reported([row("2026112101", 1, cost="1E-9")], group_by="model").total["cost"] == "0.000000001"


def test_a_span_without_usage_has_a_total_of_nothing() -> None:
    answer = reported([], group_by="model")
    assert answer.data == []
    assert {answer.total[name] for name in COUNTERS} == {0}


HOUR, DAY, MONTH = Span.HOUR, Span.DAY, Span.MONTH
PARTS: dict[str, tuple[dict[str, str], list[Part]]] = {
    "whole months": ({"start": "2026-01-01", "end": "2026-11-01"}, [Part(MONTH, "202601", "202611")]),
    "a month, days and hours": (
        {"start": "2026-09-29T22:00", "end": "2026-11-02T03:00"},
        [
            Part(HOUR, "2026092922", "2026093000"),
            Part(DAY, "20260930", "20261001"),
            Part(MONTH, "202610", "202611"),
            Part(DAY, "20261101", "20261102"),
            Part(HOUR, "2026110200", "2026110203"),
        ],
    ),
    "within a day": (
        {"start": "2026-11-02T03:00", "end": "2026-11-02T05:00"},
        [Part(HOUR, "2026110203", "2026110205")],
    ),
    "from an hour to the next day's end": (
        {"start": "2026-11-02T23:00", "end": "2026-11-04"},
        [Part(HOUR, "2026110223", "2026110300"), Part(DAY, "20261103", "20261104")],
    ),
    "by hour": (
        {"start": "2026-11-01", "end": "2026-12-01", "group_by": "hour"},
        [Part(HOUR, "2026110100", "2026120100")],
    ),
    "by day": ({"start": "2026-11-01", "end": "2026-12-01", "group_by": "day"}, [Part(DAY, "20261101", "20261201")]),
    "by month": ({"start": "2026-11-01", "end": "2026-12-01", "group_by": "month"}, [Part(MONTH, "202611", "202612")]),
    "by day of another zone": (
        {"start": "2026-11-01", "end": "2026-11-02", "group_by": "day", "time_zone": "Europe/Zurich"},
        [Part(HOUR, "2026103123", "2026110123")],
    ),
    "in another zone, but not by time": (
        {"start": "2026-11-01", "end": "2026-11-03", "time_zone": "Europe/Zurich"},
        [
            Part(HOUR, "2026103123", "2026110100"),
            Part(DAY, "20261101", "20261102"),
            Part(HOUR, "2026110200", "2026110223"),
        ],
    ),
    "nothing": ({"start": "2026-11-02", "end": "2026-11-02"}, []),
    "for ever": ({"start": "0001-01-01", "end": "9999-12-31"}, [Part(MONTH, "197001", "999901")]),
}


@pytest.mark.parametrize(("parameters", "expected"), PARTS.values(), ids=PARTS.keys())
def test_the_fewest_rows_are_read_that_say_what_is_asked(parameters: dict[str, str], expected: list[Part]) -> None:
    assert list(parts_of(parse_query(asked(**parameters), NOW))) == expected


def test_a_flat_line_has_a_column_for_every_percentile() -> None:
    columns = flat({"model": "m", **Figures().line()})
    assert {"model", "calls", "cost", "duration_ms_p50", "first_byte_ms_p99"} <= columns.keys()
    assert not any(isinstance(value, dict) for value in columns.values())
