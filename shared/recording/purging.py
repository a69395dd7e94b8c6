"""Purging: what one person said, and was answered, is taken out of archive, quarantine and Data Explorer.

Rule: the ledger keeps what was used, and a tombstone stays in the archive: the record without what tells of the person, with the
digests of what was sent. The chain says that the call was purged, so `verify` can tell it from one that was lost. What is still
on its way is not touched, for its numbers would be lost: it is told as unfinished. Stopping anywhere and purging again is safe.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta

import msgspec

from shared.core.call_ids import opened_at
from shared.core.call_record import CallRecord, Outcome
from shared.core.money.ledger import UsageEntry
from shared.core.recording.archive import Extent, digest_of, head_of
from shared.core.recording.events import Chunk, Closed, Opened, Undecodable, decode, encode
from shared.recording.quarantine import Quarantine
from shared.recording.shelf import Shelf
from shared.recording.verifying import Kept
from shared.sinks import Forgetting

_SWEPT_AFTER = timedelta(days=2)
"""A day of grace, and a night until the timer comes (sweeping.py)."""
_CALL_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class Aside(msgspec.Struct, frozen=True):
    """Where content is that got no further."""

    quarantine: Quarantine
    shelf: Shelf


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    calls: int
    """Calls of the person whose content is gone."""
    quarantined: int
    """Messages of the person that were taken out of the quarantine."""
    unfinished: tuple[str, ...]
    """Ids of calls that have not ended, wait on the shelf, or whose chain was just written by another: purge again."""


async def purge(kept: Kept, aside: Aside, end_user: str, *, forgetting: Sequence[Forgetting], now: datetime) -> Purged:
    """Purges the calls whose `end_user` is that person, at all times. Raises what the stores raise."""
    waiting = {
        call async for line in aside.shelf.lines() if (call := _call_in(line))
    }  # first: the timer may deliver it
    entries = [entry async for entry in kept.ledger.entries_of(end_user)]
    call_ids = {entry.call_id for entry in entries}
    ended = [entry for entry in entries if entry.archive_sha256 or _is_swept(entry, now)]
    unfinished = call_ids - {entry.call_id for entry in ended}
    done: list[str] = []
    for (client_id, day), calls in (await _buried(kept, ended, now)).items():
        if not await kept.chains.append(client_id, day, calls, are_purged=True):
            unfinished |= {call_id for call_id, _ in calls}
            continue
        for call_id, digest in calls:
            await kept.ledger.set_digest(call_id, digest)
        done += [call_id for call_id, _ in calls]
    for sink in forgetting:
        await sink.forget(done)
    unfinished |= {call_id for call_id, person in waiting if call_id in call_ids or person == end_user}
    quarantined = await _taken_out(aside.quarantine, end_user, call_ids)
    return Purged(calls=len(done), quarantined=quarantined, unfinished=tuple(sorted(unfinished)))


async def _buried(
    kept: Kept, entries: Iterable[UsageEntry], now: datetime
) -> Mapping[tuple[str, date], Sequence[tuple[str, str]]]:
    """Puts tombstones in the place of calls; of each chain, the calls and their digests."""
    by_chain: dict[tuple[str, date], list[tuple[str, str]]] = defaultdict(list)
    for entry in entries:
        if digest := await _bury(kept, entry.call_id, now):
            by_chain[entry.client_id, opened_at(entry.call_id).date()].append((entry.call_id, digest))
    return by_chain


def _is_swept(entry: UsageEntry, now: datetime) -> bool:
    """Whether what there is of a call that never ended is in the quarantine by now."""
    return entry.outcome is Outcome.INCOMPLETE and opened_at(entry.call_id) < now - _SWEPT_AFTER


def _call_in(line: bytes) -> tuple[str, str | None] | None:
    """The call that a line is of, and the person, as far as it says; None for what the recorder will quarantine."""
    try:
        event = decode(line)
    except Undecodable:
        return None
    return (event.call_id, None) if isinstance(event, Chunk) else (event.record.call_id, event.record.end_user)


async def _taken_out(quarantine: Quarantine, end_user: str, call_ids: Collection[str]) -> int:
    """How many messages of the person there were. Of an event the record stays, nameless: its numbers may be nowhere else."""
    taken = 0
    name = b'"end_user":' + msgspec.json.encode(end_user)
    async for held in quarantine.messages():
        found = {each for each in _CALL_ID.findall(held.content + held.reason.encode()) if each.decode() in call_ids}
        if not found and name not in held.content:
            continue
        numbers = _without_content(held.content) if held.is_event else None
        if numbers == held.content:
            continue  # by a run before
        if numbers:
            await quarantine.put(numbers, held.reason)
        taken += await quarantine.remove(held)
    return taken


def _without_content(line: bytes) -> bytes | None:
    """The event in a line, as far as it tells what was used. None where it does not."""
    try:
        event = decode(line)
    except Undecodable:
        return None
    if isinstance(event, Chunk):
        return None
    record = _nameless(event.record)
    return encode(Opened(record=record) if isinstance(event, Opened) else Closed(record=record))


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
