"""The overview adds up what `/usage` adds up, several ways in one reading."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from shared.core.errors import BadRequest
from shared.core.money.histogram import Histogram
from shared.core.money.ledger import UsageHour, UsageKey
from shared.core.parameters import Parameters
from shared.core.reports.overview import Overview
from shared.core.reports.usage_report import Report, parse_query

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def row(hour: str, client_id: str, model: str, calls: int, cost: str = "0") -> UsageHour:
    key = UsageKey(
        client_id=client_id, cost_center="", operation="chat.completions", model=model, model_served="", deployment=""
    )
    return UsageHour(
        hour=hour,
        key=key,
        calls=calls,
        input_tokens=10 * calls,
        cost=Decimal(cost),
        duration_ms_histogram=Histogram.of([calls] * calls),
    )


ROWS = [
    row("20261126", "a", "small", 3, "0.30"),
    row("20261126", "b", "large", 1, "2.50"),
    row("20261127", "a", "large", 2, "5.00"),
    row("20261128", "b", "", 4),
]


def overview(query: str, client_id: str | None = None) -> Overview:
    added = Overview(parse_query(Parameters.of(query), NOW, client_id))
    for each in ROWS:
        added.add(each)
    return added


def test_lines_are_those_of_the_usage_report() -> None:
    shown = overview("granularity=day&group_by=model").report("EUR", NOW)
    report = Report(parse_query(Parameters.of("group_by=day"), NOW))
    for each in ROWS:
        report.add(each)
    page = report.page("EUR", NOW)
    assert shown.total == page.total
    assert [line | {"period": None} for line in shown.periods] == [
        {name: value for name, value in line.items() if name != "day"} | {"period": None} for line in page.data
    ]
    assert (shown.currency, shown.watermark, shown.time_zone) == ("EUR", NOW, "UTC")


def test_groups_come_by_cost_and_then_by_calls() -> None:
    shown = overview("granularity=day&group_by=model").report("USD", None)
    assert [(line["name"], line["cost"], line["calls"]) for line in shown.groups] == [
        ("large", "7.50", 3),
        ("small", "0.30", 3),
        ("", "0", 4),
    ]
    assert [(line["name"], line["calls"]) for line in shown.clients] == [("a", 5), ("b", 5)]


def test_points_add_up_to_their_groups_and_to_their_periods() -> None:
    shown = overview("granularity=month&group_by=client_id").report("USD", None)
    assert [(point.period, point.name, point.calls, point.cost) for point in shown.points] == [
        ("2026-11", "a", 5, "5.30"),
        ("2026-11", "b", 5, "2.50"),
    ]
    assert [line["calls"] for line in shown.periods] == [10]


def test_a_filter_narrows_the_figures_and_not_what_there_is_to_filter_by() -> None:
    shown = overview("granularity=day&group_by=model&model=small").report("USD", None)
    assert shown.total["calls"] == 3
    assert shown.names["model"] == ["large", "small"]


def test_the_rows_of_every_client_that_may_be_seen_are_read_whatever_the_filters() -> None:
    """Guards that somebody who looks at one client can go on to the next."""
    query = "granularity=day&group_by=model&client_id=a"
    assert overview(query).rows.reads_client is None
    assert overview(query, "b").rows.reads_client == "b"


def test_a_client_gets_its_own_only() -> None:
    shown = overview("granularity=day&group_by=client_id&client_id=b", client_id="a").report("USD", None)
    assert (shown.total["calls"], shown.clients, shown.names["client_id"]) == (0, [], ["a"])


@pytest.mark.parametrize(
    "query", ["group_by=model", "group_by=day,hour", "granularity=day&group_by=model,client_id", ""]
)
def test_another_grouping_is_refused(query: str) -> None:
    with pytest.raises(BadRequest):
        overview(query)
