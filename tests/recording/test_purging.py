"""What one person said goes; what it cost stays; and that it went can be told from a loss."""

from datetime import datetime, timedelta

import msgspec
import pytest

from shared.core.money.ledger import Span
from shared.core.recording.archive import digest_of
from shared.core.recording.events import Closed, decode, encode, split
from shared.recording import purging
from shared.recording.chains import chain_hours
from shared.recording.purging import Aside, Purged
from shared.recording.recorder import Recorder
from shared.recording.verifying import Kept
from tests.emulator import Storage
from tests.examples import archived, call_id, closed, opened
from tests.recording.test_verifying import LATER, verify


class Forgetful:
    """Forgets, and remembers what."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    async def forget(self, call_ids: list[str], /) -> None:
        self.forgotten += call_ids


async def record(storage: Storage) -> None:
    """Ann's calls 1 and 2, Bob's 3; and one of Ann's that is open."""
    recorder = Recorder(
        archive=storage.archive,
        sinks=(storage.archive, storage.ledger),
        quarantine=storage.quarantine,
        shelf=storage.shelf,
    )
    users = {1: "ann", 2: "ann", 3: "bob"}
    await recorder.record([encode(closed(number, end_user=user)) for number, user in users.items()])


async def chained(storage: Storage) -> None:
    for dirty in await storage.ledger.dirty(Span.HOUR):
        await storage.ledger.clear_dirty(dirty)
    await chain_hours(storage.ledger, storage.chains, now=LATER)


async def purge(storage: Storage, *sinks: Forgetful, now: datetime = LATER) -> Purged:
    kept = Kept(storage.archive, storage.ledger, storage.chains)
    aside = Aside(storage.quarantine, storage.shelf)
    return await purging.purge(kept, aside, "ann", forgetting=sinks, now=now)


async def test_content_goes_the_ledger_stays_and_verify_tells_purged_from_lost(storage: Storage) -> None:
    await record(storage)
    await chained(storage)
    before = await storage.entries(closed())
    sink = Forgetful()
    assert await purge(storage, sink) == Purged(calls=2, quarantined=0, unfinished=())
    assert sorted(sink.forgotten) == [call_id(1), call_id(2)]
    for number in (1, 2):
        content = await storage.archive.content(call_id(number))
        assert content is not None
        assert not any(word in content for word in (b"ann", b"203.0.113.7", b'"model":"gpt-4o"}', b"chatcmpl-1}"))
    assert await storage.archive.get(call_id(3)) is not None
    after = await storage.entries(closed())
    assert [(each.call_id, each.input_tokens, each.end_user) for each in after] == [
        (each.call_id, each.input_tokens, each.end_user) for each in before
    ]
    report = await verify(storage)
    assert (report.calls, report.purged, report.findings) == (3, 2, ())
    await storage.archive.remove(call_id(1), "*")
    assert [each.what for each in (await verify(storage)).findings] == [call_id(1)]


@pytest.mark.parametrize("is_chained", [True, False])
async def test_a_purge_may_stop_anywhere_and_be_made_again(storage: Storage, is_chained: bool) -> None:
    await record(storage)
    if is_chained:
        await chained(storage)
    tombstone = await purging._bury(Kept(storage.archive, storage.ledger, storage.chains), call_id(1), LATER)
    assert await purge(storage) == await purge(storage) == Purged(calls=2, quarantined=0, unfinished=())
    content = await storage.archive.content(call_id(1))
    assert content is not None
    assert digest_of(content) == tombstone
    await chained(storage)
    report = await verify(storage)
    assert (report.calls, report.purged, report.findings) == (3, 2, ())


async def test_a_call_that_has_not_ended_is_told(storage: Storage) -> None:
    await storage.ledger.write([opened(4, end_user="ann")])
    assert await purge(storage) == Purged(calls=0, quarantined=0, unfinished=(call_id(4),))


async def test_a_call_that_never_ended_is_done_with_once_the_sweep_has_been_there(storage: Storage) -> None:
    """Guards that a purge can come to an end for a person one of whose calls was cut off."""
    await storage.ledger.write([opened(4, end_user="ann")])
    assert await storage.ledger.mark_incomplete(await storage.entry(opened(4)))
    assert (await purge(storage)).unfinished == (call_id(4),)
    assert (await purge(storage, now=LATER + timedelta(days=2))).unfinished == ()


async def test_quarantined_content_goes_and_the_numbers_that_are_nowhere_else_stay(storage: Storage) -> None:
    await record(storage)
    ended, other = closed(5, end_user="ann"), closed(6, end_user="bob")
    chunk = split(msgspec.structs.replace(archived(1), request=b"secret"), 1000)[0]
    lines = {
        encode(ended): "archive: a defect",
        encode(other): "archive: a defect",
        encode(chunk): "never came",
        encode(closed(7, end_user="ann")).replace(b'"v":1', b'"v":7'): "version 7; known here is 1",
        b"what ann said": f"piece 1 of an upload of call {call_id(2)} that broke off",
        b"what bob said": f"piece 1 of an upload of call {call_id(3)} that broke off",
    }
    for line, reason in lines.items():
        await storage.quarantine.put(line, reason)
    assert await purge(storage) == Purged(calls=2, quarantined=4, unfinished=())
    left = await storage.quarantined()
    assert {encode(other), b"what bob said"} < left.keys()
    (numbers,) = left.keys() - lines.keys()
    event = decode(numbers)
    assert isinstance(event, Closed)
    assert (event.record.usage, event.record.end_user, event.request) == (ended.record.usage, None, None)
    assert await purge(storage) == Purged(calls=2, quarantined=0, unfinished=())


async def test_a_piece_of_an_upload_goes_whole_whatever_it_looks_like(storage: Storage) -> None:
    """Guards the ledger: what was left of it would be an event, to be replayed, that its client has made up."""
    await record(storage)
    forged = encode(closed(9, end_user="ann"))
    await storage.quarantine.put(forged, f"piece 1 of an upload of call {call_id(2)} that broke off", is_event=False)
    assert (await purge(storage)).quarantined == 1
    assert await storage.quarantined() == {}


async def test_what_waits_on_the_shelf_is_told_and_left_for_the_timer(storage: Storage) -> None:
    await record(storage)
    chunk = split(archived(1), 1000)[0]
    lines = [encode(closed(5, end_user="ann")), encode(closed(6, end_user="bob")), encode(chunk), b"{broken"]
    await storage.shelf.put("spill", lines[:1])
    await storage.shelf.put("outbox-ledger", lines[1:])
    assert (await purge(storage)).unfinished == (call_id(1), call_id(5))
    assert [line async for line in storage.shelf.lines()] == [*lines[1:], lines[0]]
