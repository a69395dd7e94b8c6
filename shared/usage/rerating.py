"""Rerating: other money for what was used, from a day on.

Rule: money is computed from the usage of hours, by class of token; no ledger entry is read and no token changes. An hour that a
rollup counts meanwhile is rated again; a day is marked after its hours are written, so stopping anywhere and starting again
is safe.
"""

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import msgspec

from shared.core.money.ledger import Span, UsageHour
from shared.core.money.prices import PriceSheet
from shared.core.money.pricing import rated
from shared.sinks.ledger import Ledger
from shared.usage.rollup import add_up_marked
from shared.usage.table import UsageTable


class Money(msgspec.Struct, frozen=True):
    """What rows say of money."""

    cost: Decimal
    unpriced_calls: int

    @classmethod
    def of(cls, rows: Iterable[UsageHour]) -> "Money":
        total, unpriced = Decimal(0), 0
        for row in rows:
            total += row.cost
            unpriced += row.unpriced_calls
        return cls(total, unpriced)


class Rerated(msgspec.Struct, frozen=True, kw_only=True):
    """A day that was rated again."""

    day: date
    calls: int
    tokens: int
    before: Money
    after: Money


async def rerate(
    ledger: Ledger, usage: UsageTable, prices: PriceSheet, *, first: date, now: datetime
) -> AsyncIterator[Rerated]:
    """Computes the money of all hours from a day on (UTC) by these prices. Gives each day as it is done; the months are done
    when it ends."""
    day = first
    while day <= now.date():
        yield await _rerate_day(ledger, usage, prices, day, now)
        day += timedelta(days=1)
    await add_up_marked(ledger, usage)


async def _rerate_day(ledger: Ledger, usage: UsageTable, prices: PriceSheet, day: date, now: datetime) -> Rerated:
    period = f"{day:%Y%m%d}"
    before = [row async for row in usage.parts_of(period)]
    hours = {row.hour for row in before}
    if prices.provisioned(day):
        hours |= {
            f"{period}{hour:02}"
            for hour in range(24)
            if datetime(day.year, day.month, day.day, hour, tzinfo=UTC) <= now
        }
    after = [row for hour in sorted(hours) for row in await _rerate_hour(usage, prices, hour)]
    if hours:
        await ledger.mark_dirty(period)
    return Rerated(
        day=day,
        calls=sum(row.calls for row in after),
        tokens=sum(row.input_tokens + row.output_tokens for row in after),
        before=Money.of(before),
        after=Money.of(after),
    )


async def _rerate_hour(usage: UsageTable, prices: PriceSheet, hour: str) -> list[UsageHour]:
    while True:
        stored = await usage.stored(hour)
        rows = rated(prices, hour, [row async for row in usage.rows(Span.HOUR, hour, f"{hour}:", None)])
        if await usage.replace(stored, rows):
            return rows
