"""The recorder: what is no event is set aside, and no sink stops another."""

from collections.abc import Sequence

import pytest

from shared import recording
from shared.core.events import Event, encode
from tests.examples import closed, opened
from tests.storage import Storage


class ListSink:
    """A sink that keeps in memory, or is away."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.name = "list"
        self.events: list[Event] = []
        self._failure = failure

    async def write(self, events: Sequence[Event], /) -> None:
        if self._failure:
            raise self._failure
        self.events += events

    async def prepare(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


async def quarantined(storage: Storage) -> dict[bytes, str]:
    container, kept = storage.quarantine._container, {}
    async for name in container.list_blob_names():
        download = await container.download_blob(name)
        kept[await download.readall()] = download.properties.metadata["reason"]
    return kept


async def test_every_event_of_every_message_reaches_every_sink_in_order(storage: Storage) -> None:
    one, other = ListSink(), ListSink()
    messages = [encode(opened(1)) + b"\n" + encode(closed(1)), encode(opened(2))]
    await recording.record(messages, [one, other], storage.quarantine)
    assert one.events == other.events == [opened(1), closed(1), opened(2)]
    assert await quarantined(storage) == {}


async def test_a_line_that_is_no_event_is_set_aside_and_does_not_stop_the_rest(storage: Storage) -> None:
    """Guards that nothing is dropped, and that one bad line loses no good one."""
    sink, future = ListSink(), encode(opened(3)).replace(b'"v":1', b'"v":7')
    messages = [b"\n".join((encode(opened(1)), b"{broken", future, encode(opened(2)))), b"\xff\xfe", encode(closed(1))]
    await recording.record(messages, [sink], storage.quarantine)
    assert sink.events == [opened(1), opened(2), closed(1)]
    kept = await quarantined(storage)
    assert kept.keys() == {b"{broken", future, b"\xff\xfe"}
    assert kept[future] == "version 7; known here is 1"


async def test_a_call_without_an_id_of_ours_is_set_aside(storage: Storage) -> None:
    """It would fail in every sink, every time, and hold up whatever shares its message."""
    stranger = encode(closed(1)).replace(closed(1).record.call_id.encode(), b"chatcmpl-1")
    await recording.record(
        [stranger + b"\n" + encode(closed(2))], [storage.ledger, storage.archive], storage.quarantine
    )
    assert (await quarantined(storage)).keys() == {stranger}
    assert await storage.archive.get(closed(2).record.call_id) is not None


async def test_a_sink_that_is_away_does_not_stop_the_others_and_is_told_of(storage: Storage) -> None:
    """Guards that a message is delivered again until every sink has it."""
    first, last = OSError("first"), ValueError("last")
    sink = ListSink()
    with pytest.raises(ExceptionGroup) as caught:
        await recording.record([encode(closed())], [ListSink(first), sink, ListSink(last)], storage.quarantine)
    assert caught.value.exceptions == (first, last)
    assert sink.events == [closed()]


async def test_a_quarantine_that_is_away_stops_the_message_so_that_it_comes_again(storage_away: Storage) -> None:
    with pytest.raises(Exception, match=r".+"):
        await recording.record([b"{broken"], [ListSink()], storage_away.quarantine)


async def test_recording_a_message_again_changes_nothing(storage: Storage) -> None:
    message = encode(opened()) + b"\n" + encode(closed()) + b"\nbroken"
    sinks = [storage.archive, storage.ledger]
    await recording.record([message], sinks, storage.quarantine)
    before = (await storage.entries(closed()), await storage.archive.get(closed().record.call_id))
    await recording.record([message, message], sinks, storage.quarantine)
    assert before == (await storage.entries(closed()), await storage.archive.get(closed().record.call_id))
    assert (await quarantined(storage)).keys() == {b"broken"}
