"""The rollup: ledger entries -> usage of hours -> of days -> of months.

Rule: a period is always counted afresh from all of its parts, so stopping anywhere and starting again is safe. It stays marked
until it is counted, and by then the period around it is marked. An hour stays marked while a call in it is open; a call that
stays open too long is ended: as the archive has it or, where that does not have it, as incomplete. Two rollups at once do no
harm: what one has written the other cannot replace by something older (see table.py). An hour gets its money as it is
counted; rerating gives it other money later.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import msgspec

from shared.core.money.ledger import HourCount, PeriodSum, Span, UsageEntry, UsageHour, hours_since, period_around
from shared.core.money.prices import PriceSheet
from shared.core.money.pricing import rated
from shared.recording.recorder import is_outage
from shared.sinks.ledger import Dirty, Ledger
from shared.usage.table import UsageTable

_log = logging.getLogger(__name__)


type Recover = Callable[[str], Awaitable[bool]]
"""Ends a call, by its id, as the archive has it. False where it is not archived."""


async def run(
    ledger: Ledger,
    usage: UsageTable,
    recover: Recover,
    prices: PriceSheet,
    *,
    now: datetime,
    incomplete_after: timedelta,
) -> int:
    """Counts every period that is marked; `now` is UTC. Returns how many hours there were.

    Raises AzureError; an ExceptionGroup where hours could not be counted: then the watermark stays, as it does where another
    rollup overtook this one.
    """
    rollup = _Rollup(ledger, usage, recover, prices, now=now, overdue_before=now - incomplete_after)
    if prices.provisioned(now.date()):
        for hour in hours_since(await usage.watermark(), now):
            await ledger.mark_dirty(hour)  # provisioned throughput costs money also while nobody uses it
    hours = await ledger.dirty(Span.HOUR)
    failures: list[Exception] = []
    is_whole = True
    for dirty in hours:
        try:
            is_whole &= await rollup.count_hour(dirty)
        except Exception as failure:
            if is_outage(failure):
                raise
            _log.warning("hour not counted", extra={"hour": dirty.period, "reason": repr(failure)})
            failures.append(failure)
    is_whole &= await add_up_marked(ledger, usage)
    if failures:
        raise ExceptionGroup("some hours are left for the next run", failures)
    if is_whole:
        await usage.set_watermark(now)
    return len(hours)


async def add_up_marked(ledger: Ledger, usage: UsageTable) -> bool:
    """Adds up every day, and then every month, that is marked. False where another rollup overtook this one."""
    is_whole = True
    for span in (Span.DAY, Span.MONTH):
        for dirty in await ledger.dirty(span):
            stored = await usage.stored(dirty.period)
            total = PeriodSum()
            async for row in usage.parts_of(dirty.period):
                total.add(row)
            if await usage.replace(stored, total.rows(dirty.period)):
                await _done(ledger, dirty, is_final=True)
            else:
                is_whole = False
    return is_whole


async def _done(ledger: Ledger, dirty: Dirty, *, is_final: bool) -> None:
    """The period is counted, and the one around it has to be. Where its mark was set again meanwhile it stays, and the next
    run counts it."""
    if is_final:
        await ledger.clear_dirty(dirty)
    elif around := period_around(dirty.period):
        await ledger.mark_dirty(around)


class _Hour(msgspec.Struct, frozen=True):
    """What an hour adds up to, and its calls that have not ended."""

    rows: list[UsageHour]
    open: list[UsageEntry]


class _Rollup:
    """One run."""

    def __init__(
        self,
        ledger: Ledger,
        usage: UsageTable,
        recover: Recover,
        prices: PriceSheet,
        *,
        now: datetime,
        overdue_before: datetime,
    ) -> None:
        self._ledger = ledger
        self._usage = usage
        self._recover = recover
        self._prices = prices
        self._now = now
        self._overdue_before = overdue_before

    async def count_hour(self, dirty: Dirty) -> bool:
        """False where another rollup overtook this one: the mark stays."""
        stored = await self._usage.stored(dirty.period)
        hour = await self._counted(dirty.period)
        if await self._end([each for each in hour.open if each.opened_at < self._overdue_before]):
            hour = await self._counted(dirty.period)
        if not await self._usage.replace(stored, rated(self._prices, dirty.period, hour.rows)):
            return False
        await _done(self._ledger, dirty, is_final=not hour.open)
        return True

    async def _counted(self, hour: str) -> _Hour:
        count, still_open = HourCount(), []
        async for entry in self._ledger.lines(hour):
            count.add(entry)
            if entry.outcome is None:
                still_open.append(entry)
        return _Hour(count.rows(hour, self._now), still_open)

    async def _end(self, overdue: list[UsageEntry]) -> int:
        """Ends calls that are overdue. Returns how many had not ended by themselves."""
        ended = 0
        for entry in overdue:
            if await self._recover(entry.call_id):
                ended += 1
            elif await self._ledger.mark_incomplete(entry):
                ended += 1
                _log.warning("call incomplete", extra={"call_id": entry.call_id, "client_id": entry.client_id})
        return ended
