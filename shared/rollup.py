"""The rollup: ledger entries of an hour -> usage of that hour.

Rule: an hour is always counted afresh from all of its entries, so stopping anywhere and starting again is safe. An hour
stays marked while a call in it is open; a call that stays open too long is ended as incomplete.
"""

import logging
from datetime import datetime, timedelta

from shared.core.ledger import UsageEntry, roll_up
from shared.sinks.ledger import DirtyHour, Ledger
from shared.usage_table import UsageTable

_log = logging.getLogger(__name__)


async def run(ledger: Ledger, usage: UsageTable, now: datetime, incomplete_after: timedelta) -> int:
    """Rolls up every hour that is marked; `now` is UTC. Returns how many there were."""
    hours = await ledger.dirty_hours()
    for dirty in hours:
        await _roll_up_hour(ledger, usage, dirty, now - incomplete_after)
    return len(hours)


async def _roll_up_hour(ledger: Ledger, usage: UsageTable, dirty: DirtyHour, opened_before: datetime) -> None:
    entries = [entry async for entry in ledger.entries(dirty.hour)]
    is_open = [entry for entry in entries if entry.outcome is None]
    if await _end_overdue(ledger, is_open, opened_before):
        entries = [entry async for entry in ledger.entries(dirty.hour)]
    await usage.replace_hour(dirty.hour, roll_up(dirty.hour, entries))
    if any(entry.outcome is None for entry in entries):
        return  # counted again when they have ended
    if not await ledger.clear_dirty(dirty):
        # Entries came meanwhile, or another rollup ran: what was just written may be older than what it wrote.
        await ledger.mark_dirty(dirty.hour)


async def _end_overdue(ledger: Ledger, is_open: list[UsageEntry], opened_before: datetime) -> int:
    ended = 0
    for entry in is_open:
        if entry.opened_at < opened_before and await ledger.mark_incomplete(entry):
            ended += 1
            _log.warning("call incomplete", extra={"call_id": entry.call_id, "client_id": entry.client_id})
    return ended
