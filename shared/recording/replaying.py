"""Replaying: what was set aside goes to the recorder once more, and what is archived to the ledger and Data Explorer.

Rule: replaying any part of what was recorded, any number of times, changes nothing that is right already.
"""

from collections.abc import AsyncIterator
from datetime import date, timedelta

import msgspec

from shared.core.recording import archive
from shared.core.recording.events import Closed
from shared.recording.quarantine import Quarantine
from shared.recording.recorder import Recorder
from shared.sinks.archive import Archive

_AT_ONCE = 100
"""Calls that are handed to the sinks together. Their bodies are read one after another."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    taken: int
    """Messages or calls that were recorded."""
    left: int
    """Those that could not be, and are where they were."""


async def replay_quarantine(quarantine: Quarantine, recorder: Recorder) -> Replayed:
    """Hands the recorder what is quarantined: after a defect was mended, say, or a newer version is here. Pieces of uploads stay:
    a line of one that is written like an event would be taken for one."""
    taken = left = 0
    async for held in quarantine.messages():
        if not held.is_event:
            left += 1
            continue
        await recorder.record([held.content])
        if await quarantine.remove(held):
            taken += 1
        else:
            left += 1  # it was quarantined again
    return Replayed(taken=taken, left=left)


async def replay_archive(
    kept: Archive, recorder: Recorder, first: date, last: date, *, client_id: str | None
) -> Replayed:
    """Writes the archived calls of these UTC days, both included, of one client or of all, into the other sinks again."""
    taken = left = 0
    batch: list[Closed] = []
    async for closed in _archived(kept, first, last):
        if closed is None:
            left += 1
        elif client_id in (None, closed.record.client_id):
            batch.append(closed)
            taken += 1
        if len(batch) == _AT_ONCE:
            await recorder.replay(batch)
            batch = []
    await recorder.replay(batch)
    return Replayed(taken=taken, left=left)


async def _archived(kept: Archive, first: date, last: date) -> AsyncIterator[Closed | None]:
    """The calls, without their bodies; None for what cannot be read. What was purged is passed over."""
    for number in range((last - first).days + 1):
        async for call_id in kept.call_ids(first + timedelta(days=number)):
            try:
                head = await kept.head(call_id)
            except ValueError:
                yield None
                continue
            if head and not head.header.purged_at:
                yield closed_of(head)


def closed_of(head: archive.Head) -> Closed:
    """The event of an archived call: a claim check."""
    return Closed(record=head.header.record, archive_sha256=head.sha256)
