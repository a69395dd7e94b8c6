"""Chunks whose siblings never came: nothing of them is dropped, and a late one still completes the call."""

from datetime import timedelta

import pytest

from shared.core.recording.events import decode, encode, split
from shared.recording.recorder import Recorder
from shared.recording.replaying import replay_quarantine
from shared.recording.sweeping import sweep
from tests.emulator import Storage
from tests.examples import NOON, archived, call_id, closed

LARGE = archived(7, request=b"\xff\x00" * 800, response=b"answer")
CHUNKS = split(LARGE, 1000)
NEXT_DAY = NOON + timedelta(days=1, minutes=1)


def recorder(storage: Storage) -> Recorder:
    return Recorder(
        archive=storage.archive,
        sinks=(storage.archive, storage.ledger),
        quarantine=storage.quarantine,
        shelf=storage.shelf,
    )


async def test_chunks_without_their_siblings_are_quarantined_each_as_it_came(storage: Storage) -> None:
    await recorder(storage).record([encode(chunk) for chunk in CHUNKS[1:]])
    assert await sweep(storage.archive, storage.quarantine, now=NEXT_DAY) == 1
    quarantined = await storage.quarantined()
    assert sorted(map(decode, quarantined), key=lambda event: event.index) == list(CHUNKS[1:])  # type: ignore[union-attr]
    assert set(quarantined.values()) == {f"the other chunks of call {call_id(7)} never came: there are {len(CHUNKS)}"}
    assert await storage.archive.content(call_id(7)) is None
    assert await sweep(storage.archive, storage.quarantine, now=NEXT_DAY) == 0


@pytest.mark.parametrize("days", [1, 6])
async def test_what_is_young_or_whole_is_left_alone(storage: Storage, days: int) -> None:
    await recorder(storage).record([encode(CHUNKS[0]), encode(closed(1))])
    assert await sweep(storage.archive, storage.quarantine, now=NOON + timedelta(hours=23)) == 0
    await recorder(storage).record([encode(chunk) for chunk in CHUNKS[1:]])
    assert await sweep(storage.archive, storage.quarantine, now=NOON + timedelta(days=days, hours=1)) == 0
    assert await storage.archive.get(call_id(7)) == LARGE


async def test_a_call_that_becomes_whole_while_it_is_swept_stays(storage: Storage) -> None:
    await storage.archive.add_chunks(CHUNKS[1:])
    assert await taken(storage, 7) == len(CHUNKS) - 1
    assert await storage.archive.add_chunks(CHUNKS[:1])
    await storage.archive.let_go(call_id(7))
    assert await storage.archive.get(call_id(7)) == LARGE
    assert await taken(storage, 7) == 0


async def taken(storage: Storage, number: int) -> int:
    """How many pieces there are of a call that is not whole."""
    return len([piece async for piece in storage.archive.take_unfinished(call_id(number))])


async def test_a_sweep_that_died_is_made_again_with_what_came_since(storage: Storage) -> None:
    """Guards that content does not lie in the archive for ever, as no call and in no quarantine."""
    await storage.archive.add_chunks(CHUNKS[1:3])
    assert await taken(storage, 7) == 2
    await storage.archive.add_chunks(CHUNKS[3:4])
    assert await sweep(storage.archive, storage.quarantine, now=NEXT_DAY) == 1
    kept = [decode(line) for line in await storage.quarantined()]
    assert sorted(kept, key=lambda event: event.index) == list(CHUNKS[1:4])  # type: ignore[union-attr]
    assert await sweep(storage.archive, storage.quarantine, now=NEXT_DAY) == 0


async def test_an_upload_that_broke_off_is_quarantined_too(storage: Storage) -> None:
    writer = storage.archive.writer(call_id(3))
    await writer.add(b"one, ")
    await writer.add(b"two")
    assert await sweep(storage.archive, storage.quarantine, now=NEXT_DAY) == 1
    assert await storage.quarantined() == {
        piece: f"piece {number} of an upload of call {call_id(3)} that broke off"
        for number, piece in enumerate((b"one, ", b"two"), 1)
    }


async def test_an_upload_that_looks_like_an_event_is_never_recorded_as_one(storage: Storage) -> None:
    """Guards the ledger: a client that breaks off an upload of made-up events would charge others for what they never called."""
    forged = encode(closed(9, client_id="another"))
    await storage.archive.writer(call_id(3)).add(b"a line\n" + forged)
    await sweep(storage.archive, storage.quarantine, now=NEXT_DAY)
    replayed = await replay_quarantine(storage.quarantine, recorder(storage))
    assert (replayed.taken, replayed.left) == (0, 1)
    assert await storage.entries(closed(9)) == []
    assert (await storage.quarantined()).keys() == {b"a line\n" + forged}


async def test_a_late_chunk_and_the_quarantine_replayed_make_the_call(storage: Storage) -> None:
    await recorder(storage).record([encode(chunk) for chunk in CHUNKS[1:]])
    await sweep(storage.archive, storage.quarantine, now=NEXT_DAY)
    await recorder(storage).record([encode(CHUNKS[0])])
    assert await storage.archive.get(call_id(7)) is None
    replayed = await replay_quarantine(storage.quarantine, recorder(storage))
    assert (replayed.taken, replayed.left) == (len(CHUNKS) - 1, 0)
    assert await storage.archive.get(call_id(7)) == LARGE
    assert (await storage.entry(closed(7))).outcome is LARGE.record.outcome
