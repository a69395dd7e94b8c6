"""Budgets: what is used is what was counted, and a forecast is no more than the pace of the last days."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from shared.core.configuration import Client, Limits
from shared.core.money.ledger import Span, UsageHour, UsageKey
from shared.core.reports.budgets import Budget, budgets, days_of
from shared.core.reports.usage_report import Part

NOW = datetime(2026, 11, 16, tzinfo=UTC)  # half of the month
CLIENT = Client(id="a", name="A", cost_center="CC", limits=Limits(tokens_per_month=3000, money_per_month=Decimal(60)))


def day(number: int, cost: str, tokens: int = 0, client_id: str = "a", month: int = 11) -> UsageHour:
    key = UsageKey(client_id=client_id, cost_center="", operation="", model="m", model_served="", deployment="")
    half = tokens // 2
    return UsageHour(
        hour=f"2026{month:02}{number:02}", key=key, cost=Decimal(cost), input_tokens=half, output_tokens=tokens - half
    )


def of(measure: str, rows: list[UsageHour], now: datetime = NOW, client: Client = CLIENT) -> Budget:
    [found] = [each for each in budgets([client], rows, "USD", None, now).data if each.measure == measure]
    return found


def test_a_month_comes_to_what_is_used_and_the_pace_of_the_last_seven_days() -> None:
    rows = [day(number, "2", 100) for number in range(1, 16)]
    spent = of("money_per_month", rows)
    assert (spent.limit, spent.used, spent.forecast) == ("60", "30", "60.00")
    assert (spent.used_share, spent.forecast_share) == (0.5, 1.0)
    tokens = of("tokens_per_month", rows)
    assert (tokens.limit, tokens.used, tokens.forecast) == (3000, 1500, 3000)


def test_a_pace_that_has_risen_counts_and_the_calm_before_does_not() -> None:
    rows = [day(number, "1") for number in range(1, 9)] + [day(number, "4") for number in range(9, 16)]
    assert of("money_per_month", rows).forecast == "96.00"  # 8 + 7 * 4 + 15 * 4


def test_early_in_a_month_the_pace_is_that_of_the_last_one_whose_spending_does_not_count() -> None:
    now = datetime(2026, 11, 2, tzinfo=UTC)
    rows = [day(number, "7", month=10) for number in range(26, 32)] + [day(1, "7")]
    spent = of("money_per_month", rows, now)
    assert (spent.used, spent.forecast) == ("7", "210.00")


def test_who_began_yesterday_is_measured_by_a_day_and_who_began_today_is_not_forecast() -> None:
    assert of("money_per_month", [day(15, "3")]).forecast == "48.00"  # 3 + 15 * 3
    later = NOW + timedelta(hours=5)
    begun = of("money_per_month", [day(16, "3")], later)
    assert (begun.used, begun.forecast, begun.forecast_share) == ("3", None, None)


def test_who_has_used_nothing_lately_comes_to_what_is_used() -> None:
    assert of("money_per_month", [day(1, "3")]).forecast == "3"
    assert of("money_per_month", []).forecast == "0"


def test_nobodys_usage_counts_for_another_and_who_has_no_budget_has_no_line() -> None:
    free = Client(id="free")
    report = budgets([CLIENT, free], [day(1, "9", client_id="free"), day(2, "5", 10)], "EUR", NOW, NOW)
    assert {budget.client_id for budget in report.data} == {"a"}
    assert [budget.used for budget in report.data] == ["5", 10]  # the one of which most is used comes first
    assert (report.month, report.currency) == ("2026-11", "EUR")


def test_the_days_that_are_read_hold_the_month_and_the_pace() -> None:
    assert days_of(NOW) == Part(Span.DAY, "20261101", "20261117")
    assert days_of(datetime(2026, 11, 2, 5, tzinfo=UTC)) == Part(Span.DAY, "20261026", "20261103")
