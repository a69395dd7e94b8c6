"""Sweeping: chunks whose siblings never came go to the quarantine, before they expire with their blocks after a week.

Rule: what is quarantined are the chunks themselves, so that replaying them together with a late one still makes the call.
The call itself has long become `incomplete` by then (shared/usage/rollup.py).
"""

import logging
from datetime import datetime, timedelta

from shared.core.call_ids import opened_at
from shared.core.recording.events import Chunk, encode
from shared.recording.quarantine import Quarantine
from shared.sinks.archive import Archive

_log = logging.getLogger(__name__)

_GRACE = timedelta(days=1)
"""After a call was opened: transports that were down deliver late."""
_BLOCKS_LAST = timedelta(days=7)


async def sweep(archive: Archive, quarantine: Quarantine, *, now: datetime) -> int:
    """Quarantines what never became a call. Returns of how many calls there was something."""
    swept = 0
    for days in range(_BLOCKS_LAST.days + 2):
        async for call_id in archive.unfinished((now - timedelta(days=days)).date()):
            if _is_due(call_id, now):
                swept += await _sweep(archive, quarantine, call_id)
    return swept


def _is_due(call_id: str, now: datetime) -> bool:
    try:
        return opened_at(call_id) < now - _GRACE
    except ValueError:
        return False  # not ours


async def _sweep(archive: Archive, quarantine: Quarantine, call_id: str) -> bool:
    kept = 0
    async for piece in archive.take_unfinished(call_id):
        kept += 1
        if isinstance(piece, Chunk):
            await quarantine.put(
                encode(piece), f"the other chunks of call {call_id} never came: there are {piece.count}"
            )
        else:
            reason = f"piece {kept} of an upload of call {call_id} that broke off"
            await quarantine.put(piece, reason, is_event=False)
    await archive.let_go(call_id)
    if kept:
        _log.warning("unfinished call quarantined", extra={"call_id": call_id, "pieces": kept})
    return bool(kept)
