"""The rollup: ledger entries of an hour -> usage of that hour.

Rule: an hour is always counted afresh from all of its entries, so stopping anywhere and starting again is safe. An hour
stays marked while a call in it is open; a call that stays open too long is ended: as the archive has it or, where that does
not have it, as incomplete.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from shared.core.ledger import UsageEntry, roll_up
from shared.sinks.ledger import DirtyHour, Ledger
from shared.usage_table import UsageTable

_log = logging.getLogger(__name__)


type Recover = Callable[[str], Awaitable[bool]]
"""Ends a call, by its id, as the archive has it. False where it is not archived."""


async def run(
    ledger: Ledger, usage: UsageTable, recover: Recover, *, now: datetime, incomplete_after: timedelta
) -> int:
    """Rolls up every hour that is marked; `now` is UTC. Returns how many there were."""
    hours = await ledger.dirty_hours()
    for dirty in hours:
        entries = [entry async for entry in ledger.entries(dirty.hour)]
        overdue = [each for each in entries if each.outcome is None and each.opened_at < now - incomplete_after]
        if await _end(ledger, recover, overdue):
            entries = [entry async for entry in ledger.entries(dirty.hour)]
        await _roll_up_hour(ledger, usage, dirty, entries)
    return len(hours)


async def _roll_up_hour(ledger: Ledger, usage: UsageTable, dirty: DirtyHour, entries: list[UsageEntry]) -> None:
    await usage.replace_hour(dirty.hour, roll_up(dirty.hour, entries))
    if any(entry.outcome is None for entry in entries):
        return  # counted again when they have ended
    if not await ledger.clear_dirty(dirty):
        # Entries came meanwhile, or another rollup ran: what was just written may be older than what it wrote.
        await ledger.mark_dirty(dirty.hour)


async def _end(ledger: Ledger, recover: Recover, overdue: list[UsageEntry]) -> int:
    """Ends calls that are overdue. Returns how many had not ended by themselves."""
    ended = 0
    for entry in overdue:
        if await recover(entry.call_id):
            ended += 1
        elif await ledger.mark_incomplete(entry):
            ended += 1
            _log.warning("call incomplete", extra={"call_id": entry.call_id, "client_id": entry.client_id})
    return ended
