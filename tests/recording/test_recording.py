"""The recorder: what is no event is set aside, and no sink stops another."""

import asyncio
from collections.abc import Sequence
from typing import override

import msgspec
import pytest
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError, ServiceRequestError

from shared.core.recording.archive import ArchivedCall
from shared.core.recording.events import Chunk, Closed, Event, Record, decode, encode, split
from shared.recording.gathering import Gathering
from shared.recording.recorder import Recorder, outbox
from shared.sinks import Sink
from tests.emulator import Storage
from tests.examples import archived, call_id, closed, opened


class ListSink:
    """A sink that keeps in memory, but for the digests, or is away."""

    def __init__(self, name: str = "list", failure: Exception | None = None) -> None:
        self.name = name
        self.events: list[Record] = []
        self._failure = failure

    async def write(self, events: Sequence[Record], /) -> None:
        if self._failure:
            raise self._failure
        self.events += [
            msgspec.structs.replace(event, archive_sha256=None) if isinstance(event, Closed) else event
            for event in events
        ]

    async def prepare(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


def call_id_of(event: Event) -> str:
    return event.call_id if isinstance(event, Chunk) else event.record.call_id


def recorder(storage: Storage, *sinks: Sink) -> Recorder:
    """With the sinks that are named, or the archive and the ledger."""
    kept = sinks or (storage.archive, storage.ledger)
    return Recorder(archive=storage.archive, sinks=kept, quarantine=storage.quarantine, shelf=storage.shelf)


async def test_the_ledger_has_the_digest_of_what_is_archived(storage: Storage) -> None:
    """Whether the call came in one message, in chunks, ahead of its event, or not before somebody looked for it."""
    await recorder(storage).record([encode(closed(1)), *chunk_lines(LARGE)])
    ahead = await storage.archive.put(archived(2))
    await recorder(storage).record([encode(Closed(record=archived(2).record, archive_sha256=ahead))])
    await storage.archive.put(archived(3))
    assert await recorder(storage).recover(call_id(3))
    for number in (1, 2, 3, 7):
        head = await storage.archive.head(call_id(number))
        assert head is not None
        assert (await storage.entry(closed(number))).archive_sha256 == head.sha256


async def test_every_event_of_every_message_reaches_every_sink_in_order(storage: Storage) -> None:
    one, other = ListSink(), ListSink()
    messages = [encode(opened(1)) + b"\n" + encode(closed(1)), encode(opened(2))]
    await recorder(storage, one, other).record(messages)
    assert one.events == other.events == [opened(1), closed(1), opened(2)]
    assert await storage.quarantined() == {}


async def test_a_line_that_is_no_event_is_set_aside_and_does_not_stop_the_rest(storage: Storage) -> None:
    """Guards that nothing is dropped, and that one bad line loses no good one."""
    sink, future = ListSink(), encode(opened(3)).replace(b'"v":1', b'"v":7')
    messages = [b"\n".join((encode(opened(1)), b"{broken", future, encode(opened(2)))), b"\xff\xfe", encode(closed(1))]
    await recorder(storage, sink).record(messages)
    assert sink.events == [opened(1), opened(2), closed(1)]
    kept = await storage.quarantined()
    assert kept.keys() == {b"{broken", future, b"\xff\xfe"}
    assert kept[future] == "version 7; known here is 1"


async def test_a_call_without_an_id_of_ours_is_set_aside(storage: Storage) -> None:
    """It would fail in every sink, every time, and hold up whatever shares its message."""
    stranger = encode(closed(1)).replace(closed(1).record.call_id.encode(), b"chatcmpl-1")
    await recorder(storage).record([stranger + b"\n" + encode(closed(2))])
    assert (await storage.quarantined()).keys() == {stranger}
    assert await storage.archive.get(closed(2).record.call_id) is not None


async def test_a_sink_that_is_down_stops_no_other_and_its_work_waits(storage: Storage) -> None:
    """Invariant: a sink that is down neither stops the others nor loses data."""
    first, sink, last = ListSink("first", OSError()), ListSink(), ListSink("last", OSError())
    await recorder(storage, first, sink, last).record([encode(closed())])
    assert sink.events == [closed()]
    assert [await storage.shelf.waiting(outbox(each)) for each in (first, sink, last)] == [1, 0, 1]


async def test_where_the_shelf_is_away_too_the_message_comes_again(storage: Storage, storage_away: Storage) -> None:
    failure, sink = OSError("first"), ListSink()
    both = msgspec.structs.replace(recorder(storage, ListSink("first", failure), sink), shelf=storage_away.shelf)
    with pytest.raises(ExceptionGroup) as caught:
        await both.record([encode(closed())])
    assert caught.value.exceptions[0] is failure
    assert sink.events == [closed()]


async def test_a_quarantine_that_is_away_stops_the_message_so_that_it_comes_again(
    storage: Storage, storage_away: Storage
) -> None:
    away = msgspec.structs.replace(recorder(storage, ListSink()), quarantine=storage_away.quarantine)
    with pytest.raises(Exception, match=r".+"):
        await away.record([b"{broken"])


async def test_recording_a_message_again_changes_nothing(storage: Storage) -> None:
    message = encode(opened()) + b"\n" + encode(closed()) + b"\nbroken"
    await recorder(storage).record([message])
    before = (await storage.entries(closed()), await storage.archive.get(closed().record.call_id))
    await recorder(storage).record([message, message])
    assert before == (await storage.entries(closed()), await storage.archive.get(closed().record.call_id))
    assert (await storage.quarantined()).keys() == {b"broken"}


def chunk_lines(call: ArchivedCall, limit: int = 1000) -> list[bytes]:
    return [encode(chunk) for chunk in split(call, limit)]


LARGE = archived(7, request=b"\xff\x00" * 800, response=b"answer")


async def test_a_call_in_chunks_reaches_every_sink_when_the_last_is_there(storage: Storage) -> None:
    sink, lines = ListSink(), chunk_lines(LARGE)
    for line in lines[1:]:
        await recorder(storage, storage.archive, storage.ledger, sink).record([line])
        assert sink.events == []
    await recorder(storage, storage.archive, storage.ledger, sink).record([lines[0] + b"\n" + encode(opened(1))])
    assert {event.record.call_id for event in sink.events} == {LARGE.record.call_id, opened(1).record.call_id}
    assert await storage.archive.get(LARGE.record.call_id) == LARGE
    assert (await storage.entry(Closed(record=LARGE.record))).outcome is LARGE.record.outcome


@pytest.mark.parametrize("index", [0, 3, 7])
async def test_a_recorder_that_dies_between_two_sinks_leaves_no_sink_without_the_call(
    storage: Storage, storage_away: Storage, index: int
) -> None:
    """Invariant: every call is a ledger entry, whatever is killed. The messages of the other chunks are gone by then."""
    lines = chunk_lines(LARGE)
    dies = msgspec.structs.replace(
        recorder(storage, storage.archive, ListSink(failure=OSError())), shelf=storage_away.shelf
    )
    for line in (*lines[:index], *lines[index + 1 :]):
        await dies.record([line])
    with pytest.raises(ExceptionGroup):
        await dies.record([lines[index]])
    await recorder(storage).record([lines[index]])
    assert (await storage.entry(Closed(record=LARGE.record))).outcome is LARGE.record.outcome
    assert await storage.archive.get(LARGE.record.call_id) == LARGE


async def test_chunks_that_are_not_what_was_sent_are_set_aside_all_of_them(storage: Storage) -> None:
    """Guards that nothing is dropped: the chunks that came earlier are in no message any more."""
    chunks = list(split(LARGE, 1000))
    forged = [*chunks[:-1], msgspec.structs.replace(chunks[-1], data=b"forged")]
    good = ListSink()
    for chunk in forged[:-1]:
        await recorder(storage).record([encode(chunk)])
    await recorder(storage, good).record([encode(forged[-1]), encode(closed(1))])
    assert await storage.archive.get(LARGE.record.call_id) is None
    reason = f"the {len(chunks)} chunks of call {LARGE.record.call_id} are not what was sent"
    assert await storage.quarantined() == {encode(chunk): reason for chunk in forged}
    assert good.events == [closed(1)]


async def test_a_chunk_that_the_archive_cannot_take_is_set_aside_and_stops_nothing(storage: Storage) -> None:
    """Guards that no message fails for ever: an Event Hubs partition would stand still behind it."""
    sink, chunk = ListSink(), split(LARGE, 1000)[0]
    wrong = [msgspec.structs.replace(chunk, sha256=digest) for digest in ("", "é" * 64)]
    await recorder(storage).record([encode(chunk)])
    await recorder(storage, sink).record([*map(encode, wrong), encode(closed(1))])
    assert (await storage.quarantined()).keys() <= set(map(encode, wrong))
    assert sink.events == [closed(1)]


async def test_chunks_wait_where_the_archive_is_away(storage: Storage, storage_away: Storage) -> None:
    away = msgspec.structs.replace(recorder(storage), archive=storage_away.archive)
    with pytest.raises((AzureError, ExceptionGroup)):
        await away.record(chunk_lines(LARGE))
    assert await storage.quarantined() == {}


class PickySink(ListSink):
    """A sink that cannot take some calls."""

    def __init__(self, failure: Exception, *numbers: int) -> None:
        super().__init__("picky")
        self._refused = {call_id(number): failure for number in numbers}

    def accept(self) -> None:
        self._refused = {}

    def refuse(self, failure: Exception, *numbers: int) -> None:
        self._refused |= {call_id(number): failure for number in numbers}

    @override
    async def write(self, events: Sequence[Record], /) -> None:
        for event in events:
            if failure := self._refused.get(event.record.call_id):
                raise failure
        await super().write(events)


def answered(status: int) -> HttpResponseError:
    error = HttpResponseError(f"status {status}")
    error.status_code = status
    return error


DEFECTS: dict[str, Exception] = {
    "a bad request": answered(400),
    "too large": answered(413),
    "a defect of ours": KeyError("x"),
    "in a group": ExceptionGroup("some", [ValueError("x")]),
}
OUTAGES: dict[str, Exception] = {
    "a store that fails": answered(500),
    "a store that throttles": answered(429),
    "a store that is busy with itself": answered(503),
    "rights that are missing": answered(403),
    "a container that is being made again": answered(409),
    "a container that is gone": ResourceNotFoundError("gone"),
    "no connection": ServiceRequestError("refused"),
    "an answer that does not come": TimeoutError(),
    "a connection that breaks": ConnectionResetError(),
    "in a group": ExceptionGroup("some", [ValueError("x"), ServiceRequestError("refused")]),
}
NUMBERS = range(5)
BATCH = [encode(closed(number)) for number in NUMBERS]


def numbers_of(sink: ListSink) -> list[int]:
    return [number for number in NUMBERS if call_id(number) in {event.record.call_id for event in sink.events}]


@pytest.mark.parametrize("failure", DEFECTS.values(), ids=DEFECTS.keys())
async def test_one_record_that_a_sink_cannot_take_takes_no_other_with_it(storage: Storage, failure: Exception) -> None:
    sink = PickySink(failure, 2)
    recording = recorder(storage, sink)
    await recording.record(BATCH)
    assert numbers_of(sink) == [0, 1, 3, 4]
    assert await recording.drain() == 1
    assert await storage.shelf.waiting(outbox(sink)) == 0
    kept = await storage.quarantined()
    assert [call_id_of(decode(line)) for line in kept] == [call_id(2)]
    (reason,) = kept.values()
    assert reason.startswith("picky: ")


@pytest.mark.parametrize("failure", OUTAGES.values(), ids=OUTAGES.keys())
async def test_what_waits_for_a_store_is_delivered_when_it_is_back_and_never_set_aside(
    storage: Storage, failure: Exception
) -> None:
    """Invariant: a sink that is down neither stops the others nor loses data."""
    sink = PickySink(failure, *NUMBERS)
    recording = recorder(storage, sink)
    await recording.record(BATCH)
    assert (await recording.drain(), numbers_of(sink), await storage.shelf.waiting(outbox(sink))) == (0, [], 1)
    sink.accept()
    assert (await recording.drain(), numbers_of(sink), await storage.shelf.waiting(outbox(sink))) == (
        1,
        [0, 1, 2, 3, 4],
        0,
    )
    assert await recording.drain() == 0
    assert await storage.quarantined() == {}


class SlowSink(ListSink):
    """A sink that takes events once it is let."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.go = asyncio.Event()

    @override
    async def write(self, events: Sequence[Record], /) -> None:
        await self.go.wait()
        await super().write(events)


async def test_the_timer_waits_for_a_sink_that_hangs_for_as_long_as_it_takes(storage: Storage) -> None:
    """Guards that an outbox whose delivery takes longer than a message may wait never becomes empty."""
    sink = SlowSink()
    recording = msgspec.structs.replace(recorder(storage, Gathering(sink, patience_s=0.01)), patient=(sink,))
    await recording.record(BATCH)
    assert await storage.shelf.waiting(outbox(sink)) == 1
    drained = asyncio.create_task(recording.drain())
    await asyncio.sleep(0.1)
    assert not drained.done()
    sink.go.set()
    assert (await drained, await storage.shelf.waiting(outbox(sink))) == (1, 0)


async def test_an_outage_amid_defects_sets_nothing_aside(storage: Storage) -> None:
    """Guards that a record is not given up for its neighbour's fault."""
    sink = PickySink(ValueError("defect"), 0, 4)
    sink.refuse(answered(503), 2)
    recording = recorder(storage, sink)
    await recording.record(BATCH)
    assert await recording.drain() == 0
    assert await storage.quarantined() == {}
    sink.accept()
    sink.refuse(ValueError("defect"), 0, 4)
    assert await recording.drain() == 1
    assert numbers_of(sink) == [1, 2, 3]
    assert len(await storage.quarantined()) == 2


async def test_draining_delivers_again_what_was_delivered_and_not_taken_off(storage: Storage) -> None:
    """Guards that a timer that dies while it drains changes nothing: sinks take an event any number of times."""
    recording = recorder(storage)
    await storage.shelf.put(outbox(storage.ledger), [encode(opened()), encode(closed())])
    await storage.shelf.put(outbox(storage.ledger), [encode(closed())])
    assert await recording.drain() == 2
    before = await storage.entries(closed())
    await storage.shelf.put(outbox(storage.ledger), [encode(opened())])
    assert await recording.drain() == 1
    assert await storage.entries(closed()) == before


async def test_an_outbox_that_is_still_down_holds_up_no_other(storage: Storage) -> None:
    down, up = ListSink("down", OSError()), ListSink("up", OSError())
    recording = recorder(storage, down, up)
    await recording.record([encode(closed())])
    recovered = ListSink("up")
    assert await recorder(storage, down, recovered).drain() == 1
    assert recovered.events == [closed()]
    assert await storage.shelf.waiting(outbox(down)) == 1
