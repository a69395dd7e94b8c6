"""How clients stand against their budgets, and what the month will come to: `GET /usage/budgets`.

Rule: what is used is what the rollup has counted and priced. A forecast is that plus, for the rest of the month, the pace of
the last seven days, in which each weekday is once; where there is less than a day to go by, it is not known.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

import msgspec

from shared.core.configuration import Client
from shared.core.money.ledger import Span, UsageHour
from shared.core.reports.usage_report import Part, money, period_of

PACE = timedelta(days=7)
_CENT = Decimal("0.01")


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """One budget of one client. Tokens are whole numbers, money is decimal text in the report's currency."""

    client_id: str
    name: str
    cost_center: str
    measure: str
    """The limit's name: `tokens_per_month` or `money_per_month`."""
    limit: int | str
    used: int | str
    forecast: int | str | None
    """What the month will come to at the pace of the last days."""
    used_share: float
    """Of the limit; 1 is all of it."""
    forecast_share: float | None


class BudgetReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer; the budget of which most is used comes first."""

    object: str = "usage.budgets"
    month: str
    currency: str
    watermark: datetime | None
    data: list[Budget]


def days_of(now: datetime) -> Part:
    """The days to read: this month's, and those that the pace is taken from."""
    return Part(
        Span.DAY, period_of(min(_month(now), now - PACE), Span.DAY), period_of(now + timedelta(days=1), Span.DAY)
    )


def budgets(
    clients: Iterable[Client], rows: Iterable[UsageHour], currency: str, watermark: datetime | None, now: datetime
) -> BudgetReport:
    """Every budget of these clients, from the rows of `days_of(now)`."""
    days: dict[str, dict[str, dict[str, Decimal]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(Decimal)))
    for row in rows:
        of_client = days[row.key.client_id]
        of_client["tokens_per_month"][row.hour] += row.input_tokens + row.output_tokens
        of_client["money_per_month"][row.hour] += row.cost
    data = [budget for client in clients for budget in _of_client(client, days[client.id], watermark or now, now)]
    return BudgetReport(
        month=f"{now:%Y-%m}",
        currency=currency,
        watermark=watermark,
        data=sorted(data, key=lambda budget: (-budget.used_share, budget.client_id, budget.measure)),
    )


def _of_client(
    client: Client, days: dict[str, dict[str, Decimal]], counted: datetime, now: datetime
) -> Iterator[Budget]:
    for measure in ("tokens_per_month", "money_per_month"):
        limit: int | Decimal | None = getattr(client.limits, measure)
        if limit is None:
            continue
        used, forecast = _standing(days[measure], counted, now)
        amount = _tokens if measure == "tokens_per_month" else money
        yield Budget(
            client_id=client.id,
            name=client.name,
            cost_center=client.cost_center,
            measure=measure,
            limit=amount(Decimal(limit)),
            used=amount(used),
            forecast=None if forecast is None else amount(forecast),
            used_share=round(float(used / limit), 4),
            forecast_share=None if forecast is None else round(float(forecast / limit), 4),
        )


def _standing(days: dict[str, Decimal], counted: datetime, now: datetime) -> tuple[Decimal, Decimal | None]:
    """What is used, and what the month will come to."""
    month = _month(now)
    used = sum((amount for day, amount in days.items() if day >= period_of(month, Span.DAY)), Decimal(0))
    since = (now - PACE).replace(hour=0, minute=0, second=0, microsecond=0)
    recent = {day: amount for day, amount in days.items() if amount and day >= period_of(since, Span.DAY)}
    if not recent:
        return used, used
    first = max(since, datetime.strptime(min(recent), "%Y%m%d").replace(tzinfo=UTC))
    spent_in = min(counted, now) - first
    if spent_in < timedelta(days=1):
        return used, None
    pace = sum(recent.values(), Decimal(0)) / _seconds(spent_in)
    left = _month(month + timedelta(days=31)) - min(counted, now)
    return used, used + (pace * max(Decimal(0), _seconds(left))).quantize(_CENT, ROUND_HALF_UP)


def _month(instant: datetime) -> datetime:
    return instant.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _seconds(span: timedelta) -> Decimal:
    return Decimal(span // timedelta(seconds=1))


def _tokens(amount: Decimal) -> int:
    return int(amount)
