"""Purging: what one person said, and was answered, is taken out of the archive and of Data Explorer.

Rule: the ledger keeps what was used, and a tombstone stays in the archive: the record without what tells of the person, with the
digests of what was sent. The chain says that the call was purged, so `verify` can tell it from one that was lost. Stopping
anywhere and purging again is safe.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime

import msgspec

from shared.core.call_ids import opened_at
from shared.core.call_record import CallRecord
from shared.core.recording.archive import Extent, digest_of, head_of
from shared.recording.verifying import Kept
from shared.sinks import Forgetting


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    calls: int
    """Calls of the person whose content is gone."""
    unfinished: tuple[str, ...]
    """Ids of calls that have not ended or whose chain was just written by another: purge again."""


async def purge(kept: Kept, end_user: str, *, forgetting: Sequence[Forgetting], now: datetime) -> Purged:
    """Purges the calls whose `end_user` is that person, at all times. Raises what the stores raise."""
    by_chain: dict[tuple[str, date], list[tuple[str, str]]] = defaultdict(list)
    unfinished = []
    async for entry in kept.ledger.entries_of(end_user):
        if entry.archive_sha256 is None:
            unfinished.append(entry.call_id)
            continue
        digest = await _bury(kept, entry.call_id, now)
        if digest:
            by_chain[entry.client_id, opened_at(entry.call_id).date()].append((entry.call_id, digest))
    done: list[str] = []
    for (client_id, day), calls in by_chain.items():
        if not await kept.chains.append(client_id, day, calls, are_purged=True):
            unfinished += [call_id for call_id, _ in calls]
            continue
        for call_id, digest in calls:
            await kept.ledger.set_digest(call_id, digest)
        done += [call_id for call_id, _ in calls]
    for sink in forgetting:
        await sink.forget(done)
    return Purged(calls=len(done), unfinished=tuple(unfinished))


async def _bury(kept: Kept, call_id: str, now: datetime) -> str | None:
    """Puts the tombstone in the place of the call, and returns its digest. None where nothing is archived."""
    head = await kept.archive.head(call_id)
    if head is None:
        return None
    if head.header.purged_at:
        return head.sha256  # by a run that may not have come further
    tombstone = head_of(_nameless(head.header.record), Extent.of(b""), Extent.of(b""), purged_at=now)
    await kept.archive.put_content(call_id, tombstone)
    return digest_of(tombstone)


def _nameless(record: CallRecord) -> CallRecord:
    """The record without what tells of the person."""
    return msgspec.structs.replace(
        record, end_user=None, caller_ip=None, user_agent=None, request_parameters={}, error=None, content="none"
    )
