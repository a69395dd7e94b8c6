"""The recorder: what is no event is set aside, and no sink stops another."""

from collections.abc import Sequence

import msgspec
import pytest

from shared.core.events import Record, encode
from shared.recording import Recorder, outbox
from shared.sinks import Sink
from tests.examples import closed, opened
from tests.storage import Storage


class ListSink:
    """A sink that keeps in memory, or is away."""

    def __init__(self, name: str = "list", failure: Exception | None = None) -> None:
        self.name = name
        self.events: list[Record] = []
        self._failure = failure

    async def write(self, events: Sequence[Record], /) -> None:
        if self._failure:
            raise self._failure
        self.events += events

    async def prepare(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


def recorder(storage: Storage, *sinks: Sink) -> Recorder:
    """With the sinks that are named, or the archive and the ledger."""
    kept = sinks or (storage.archive, storage.ledger)
    return Recorder(archive=storage.archive, sinks=kept, quarantine=storage.quarantine, shelf=storage.shelf)


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
