"""Group commit: many events, few sends; what is not sent is spilled; a failure reaches everyone it concerns and no one else."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import override

import msgspec
import pytest
from azure.core.exceptions import ServiceRequestError

from shared.core.recording.archive import ArchivedCall
from shared.core.recording.events import Chunk, Closed, Opened, decode, encode, split, unpack
from shared.core.recording.gzipped import compressed
from shared.recording import publishing, shelf
from shared.recording.publishing import SPILL, Publisher, Sizes
from shared.recording.shelf import Shelf
from shared.sinks.archive import Archive
from shared.transports import TransportDown
from tests.emulator import Storage
from tests.examples import archived, call_id, opened_record

SIZES = Sizes(claim_check_bytes=1000, waiting_bytes=100_000)


class HeldTransport:
    """A transport whose every send waits to be let through, or to fail."""

    max_message_bytes = 4096

    def __init__(self) -> None:
        self.sends: list[Sequence[bytes]] = []
        self._verdicts: asyncio.Queue[Exception | None] = asyncio.Queue()
        self._begun: asyncio.Queue[None] = asyncio.Queue()

    async def send(self, messages: Sequence[bytes], /) -> None:
        self.sends.append(messages)
        self._begun.put_nowait(None)
        if verdict := await self._verdicts.get():
            raise verdict

    async def redeliver(self, deliver: Callable[[Sequence[bytes]], Awaitable[None]], /) -> int:
        raise NotImplementedError

    async def prepare(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def has_begun(self) -> None:
        """Returns once one more send is under way."""
        await self._begun.get()

    def let(self, verdict: Exception | None = None) -> None:
        self._verdicts.put_nowait(verdict)

    def ids(self, send: int) -> list[str]:
        return ids_of(self.sends[send])


def ids_of(messages: Sequence[bytes]) -> list[str]:
    return [id_of(line) for message in messages for line in unpack(message)]


def id_of(line: bytes) -> str:
    event = decode(line)
    return event.call_id if isinstance(event, Chunk) else event.record.call_id


class NoArchive(Archive):
    """An archive that is away; nothing small may ask for it."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.asked_for: list[str] = []
        self._hangs = hangs

    @override
    async def put(self, call: ArchivedCall) -> None:
        self.asked_for.append(call.record.call_id)
        if self._hangs:
            await asyncio.Event().wait()
        raise ServiceRequestError("away")


class NoShelf(Shelf):
    """A shelf that is away, or hangs."""

    def __init__(self, *, hangs: bool = False) -> None:
        self._hangs = hangs
        self.asked_for: list[tuple[str, int]] = []

    @override
    async def put(self, place: str, lines: Sequence[bytes]) -> None:
        self.asked_for.append((place, len(lines)))
        if self._hangs:
            await asyncio.Event().wait()
        raise ServiceRequestError("away")


@pytest.fixture
def transport() -> HeldTransport:
    return HeldTransport()


@pytest.fixture
def publisher(transport: HeldTransport) -> Publisher:
    """One that has nothing but the transport."""
    return Publisher(transport, NoArchive(), NoShelf(), SIZES)


def publish(publisher: Publisher, *numbers: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(publisher.opened(opened_record(number))) for number in numbers]


async def test_a_lone_event_is_sent_at_once_and_returns_when_it_is_durable(
    transport: HeldTransport, publisher: Publisher
) -> None:
    """Guards that nothing counts as opened before the transport has it."""
    (waiting,) = publish(publisher, 1)
    await transport.has_begun()
    assert not waiting.done()
    transport.let()
    await waiting
    assert transport.ids(0) == [call_id(1)]


async def test_events_that_come_during_a_send_share_the_next(transport: HeldTransport, publisher: Publisher) -> None:
    first = publish(publisher, 0)
    await transport.has_begun()
    rest = publish(publisher, *range(1, 101))
    transport.let()
    await transport.has_begun()
    transport.let()
    await asyncio.gather(*first, *rest)
    assert len(transport.sends) == 2
    assert transport.ids(1) == [call_id(number) for number in range(1, 101)]
    assert all(len(message) <= transport.max_message_bytes for message in transport.sends[1])
    assert len(transport.sends[1]) < 50


FAILURES = {"the transport's own": TransportDown("queue away"), "another": RuntimeError("a defect")}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_where_nothing_takes_them_a_failure_reaches_everyone_who_waits_for_that_send_and_later_ones_go_on(
    transport: HeldTransport, publisher: Publisher, failure: Exception
) -> None:
    first = publish(publisher, 0)
    await transport.has_begun()
    second = publish(publisher, 1, 2, 3)
    transport.let()
    await transport.has_begun()
    transport.let(failure)
    results = await asyncio.gather(*first, *second, return_exceptions=True)
    assert results[0] is None
    assert all(isinstance(result, TransportDown) for result in results[1:])
    transport.let()
    await publisher.opened(opened_record(4))


async def test_one_who_is_cancelled_harms_nobody(transport: HeldTransport, publisher: Publisher) -> None:
    first = publish(publisher, 0)
    await transport.has_begun()
    leaves, stays = publish(publisher, 1, 2)
    first[0].cancel()
    await asyncio.sleep(0)  # lets both wait
    leaves.cancel()
    transport.let()
    await transport.has_begun()
    transport.let()
    await stays
    results = await asyncio.gather(*first, leaves, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert transport.ids(1) == [call_id(1), call_id(2)]  # an event that was handed over is published


async def test_a_failure_that_nobody_waits_for_any_more_is_silent(
    transport: HeldTransport, publisher: Publisher
) -> None:
    (waiting,) = publish(publisher, 0)
    await transport.has_begun()
    waiting.cancel()
    transport.let(TransportDown("away"))
    transport.let()
    await publisher.opened(opened_record(1))
    assert transport.ids(1) == [call_id(1)]


async def test_a_call_that_fits_a_message_travels_whole(transport: HeldTransport, publisher: Publisher) -> None:
    call = archived(request=b'{"a":1}', response=b"\xff\x00")
    transport.let()
    await publisher.closed(call)
    (message,) = transport.sends[0]
    event = decode(message)
    assert isinstance(event, Closed)
    assert event.record == call.record
    assert event.request is not None
    assert event.response is not None
    assert (event.request.content, event.response.content) == (call.request, call.response)


@pytest.mark.parametrize("over", [-1, 0, 1])
async def test_chunks_begin_one_byte_above_what_a_message_takes(
    transport: HeldTransport, publisher: Publisher, over: int
) -> None:
    call = archived(request=b"r" * 100, response=b"s" * 100)
    transport.max_message_bytes = len(encode(Closed.of(call))) - over
    transport.let()
    await publisher.closed(call)
    events = [decode(line) for message in transport.sends[0] for line in unpack(message)]
    assert {type(event) for event in events} == {Chunk if over > 0 else Closed}
    assert all(len(message) <= transport.max_message_bytes for message in transport.sends[0])


@pytest.mark.parametrize("over", [-1, 0, 1])
async def test_compressed_it_is_the_bytes_that_travel_that_begin_chunks_and_the_claim_check(
    transport: HeldTransport, storage: Storage, over: int
) -> None:
    call = archived(request=random.Random(7).randbytes(6000), response=bytes(6000))
    transport.max_message_bytes = len(compressed(encode(Closed.of(call)))) - over
    sizes = Sizes(claim_check_bytes=100_000, waiting_bytes=100_000, is_gzip=True)
    transport.let()
    await Publisher(transport, NoArchive(), NoShelf(), sizes).closed(call)
    events = [decode(line) for message in transport.sends[0] for line in unpack(message)]
    assert {type(event) for event in events} == {Chunk if over > 0 else Closed}
    assert all(len(message) <= transport.max_message_bytes for message in transport.sends[0])
    claimed = len(compressed(call.request + call.response)) - over
    transport.let()
    await Publisher(
        transport, storage.archive, NoShelf(), msgspec.structs.replace(sizes, claim_check_bytes=claimed)
    ).closed(call)
    assert await storage.archive.get(call.record.call_id) == (call if over > 0 else None)


@pytest.mark.parametrize("over", [-1, 0, 1])
async def test_the_claim_check_begins_one_byte_above_its_setting(
    transport: HeldTransport, storage: Storage, over: int
) -> None:
    call = archived(request=b"r" * 600, response=b"s" * (SIZES.claim_check_bytes - 600 + over))
    transport.let()
    await Publisher(transport, storage.archive, storage.shelf, SIZES).closed(call)
    event = decode(transport.sends[0][0])
    assert isinstance(event, Closed)
    assert (event.request is None) == (event.response is None) == (over > 0)
    assert await storage.archive.get(call.record.call_id) == (call if over > 0 else None)


async def test_a_large_call_travels_in_chunks_where_the_archive_does_not_take_it(transport: HeldTransport) -> None:
    archive = NoArchive()
    call = archived(request=bytes(5000))
    transport.let()
    await Publisher(transport, archive, NoShelf(), SIZES).closed(call)
    assert archive.asked_for == [call.record.call_id]
    lines = [line for message in transport.sends[0] for line in unpack(message)]
    assert lines == [encode(chunk) for chunk in split(call, transport.max_message_bytes)]


async def test_a_call_that_would_fill_the_room_to_wait_in_travels_in_chunks_once_compressed(
    transport: HeldTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the record of a large call of few compressed bytes: nothing takes it for too large, and it must fit as it waits."""
    monkeypatch.setattr(publishing, "_MOST_COMPRESSED_BYTES", 50_000)
    sizes = Sizes(claim_check_bytes=1000, waiting_bytes=100_000, is_gzip=True)
    call = archived(request=b"r" * 200_000)
    transport.let()
    await Publisher(transport, NoArchive(), NoShelf(), sizes).closed(call)
    lines = [line for message in transport.sends[0] for line in unpack(message)]
    assert lines == [encode(chunk) for chunk in split(call, transport.max_message_bytes, is_gzip=True)]


async def test_an_archive_that_neither_takes_nor_refuses_is_waited_for_a_while(
    transport: HeldTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_PATIENCE_S", 0.05)
    archive = NoArchive(hangs=True)
    transport.let()
    await Publisher(transport, archive, NoShelf(), SIZES).closed(archived(request=bytes(5000)))
    assert set(ids_of(transport.sends[0])) == {call_id()}


async def test_opened_and_closed_share_a_message(transport: HeldTransport, publisher: Publisher) -> None:
    first = publish(publisher, 0)
    await transport.has_begun()
    both = [*publish(publisher, 1), asyncio.create_task(publisher.closed(archived(2)))]
    transport.let()
    await transport.has_begun()
    transport.let()
    await asyncio.gather(*first, *both)
    (message,) = transport.sends[1]
    assert [type(decode(line)) for line in unpack(message)] == [Opened, Closed]


class Delivered:
    """Takes what a shelf hands over, or a part of it."""

    def __init__(self, at_most: int = 1000) -> None:
        self.lines: list[bytes] = []
        self._at_most = at_most

    async def __call__(self, lines: Sequence[bytes]) -> None:
        if len(self.lines) + len(lines) > self._at_most:
            raise ServiceRequestError("down again")
        self.lines += lines

    @property
    def ids(self) -> list[str]:
        return [id_of(line) for line in self.lines]


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_what_the_transport_does_not_take_is_durable_on_the_shelf(
    transport: HeldTransport, storage: Storage, failure: Exception
) -> None:
    """Invariant: nothing is lost while a transport is down; whoever waits is told as soon as the shelf has it."""
    publisher, delivered = Publisher(transport, NoArchive(), storage.shelf, SIZES), Delivered()
    transport.let(failure)
    await publisher.opened(opened_record(1))
    assert await storage.shelf.waiting(SPILL) == 1
    small, chunked = archived(1), archived(2, request=b"r" * 900, response=b"")
    transport.max_message_bytes = 1500  # the small one fits, the other does not
    for call in (small, chunked):
        transport.let(failure)
        await publisher.closed(call)
    assert await storage.shelf.deliver(SPILL, delivered) == 3
    assert delivered.ids[:2] == [call_id(1), call_id(1)]
    assert set(delivered.ids[2:]) == {call_id(2)}
    assert await storage.shelf.waiting(SPILL) == 0


async def test_two_timers_that_deliver_a_shelf_at_once_lose_nothing_and_do_not_fail(storage: Storage) -> None:
    """What one has taken off the other finds gone, before it read it or after."""
    for number in range(5):
        await storage.shelf.put(SPILL, [encode(Opened(record=opened_record(number)))])
    everything = {call_id(number) for number in range(5)}
    other = Delivered()

    async def overtaken(lines: Sequence[bytes]) -> None:
        await storage.shelf.deliver(SPILL, other)
        assert {id_of(line) for line in lines} == everything

    assert await storage.shelf.deliver(SPILL, overtaken) == 5
    assert set(other.ids) == everything

    first, second = Delivered(), Delivered()
    for number in range(5):
        await storage.shelf.put(SPILL, [encode(Opened(record=opened_record(number)))])
    await asyncio.gather(storage.shelf.deliver(SPILL, first), storage.shelf.deliver(SPILL, second))
    assert set(first.ids) | set(second.ids) == everything
    assert await storage.shelf.waiting(SPILL) == 0


@pytest.mark.parametrize("shelf_hangs", [False, True], ids=["the shelf refuses", "the shelf hangs"])
@pytest.mark.parametrize("transport_hangs", [False, True], ids=["the transport refuses", "the transport hangs"])
async def test_nobody_waits_for_ever_where_neither_takes_it(
    transport: HeldTransport, monkeypatch: pytest.MonkeyPatch, transport_hangs: bool, shelf_hangs: bool
) -> None:
    monkeypatch.setattr(publishing, "_PATIENCE_S", 0.05)
    shelf = NoShelf(hangs=shelf_hangs)
    publisher = Publisher(transport, NoArchive(), shelf, SIZES)
    if not transport_hangs:
        transport.let(TransportDown("away"))
    with pytest.raises(TransportDown, match="neither the transport nor the shelf"):
        await publisher.opened(opened_record(1))
    assert shelf.asked_for == [(SPILL, 1)]
    transport.let()
    await publisher.opened(opened_record(2))


async def test_a_transport_that_hangs_is_waited_for_a_while_and_what_it_may_have_taken_is_spilled(
    transport: HeldTransport, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_PATIENCE_S", 0.2)
    await Publisher(transport, NoArchive(), storage.shelf, SIZES).opened(opened_record(1))
    assert (transport.ids(0), await storage.shelf.waiting(SPILL)) == ([call_id(1)], 1)


async def test_no_more_waits_to_be_sent_than_there_is_room_for(transport: HeldTransport) -> None:
    """Guards the worker's memory while a transport is slow."""
    size = len(encode(Opened(record=opened_record(1))))
    sizes = Sizes(claim_check_bytes=1000, waiting_bytes=3 * size)
    publisher = Publisher(transport, NoArchive(), NoShelf(), sizes)
    first = publish(publisher, 0)
    await transport.has_begun()
    waiting = publish(publisher, 1, 2, 3)
    await asyncio.sleep(0)  # lets them wait
    with pytest.raises(TransportDown, match="too much is waiting"):
        await publisher.opened(opened_record(4))
    transport.let()
    await transport.has_begun()
    more = publish(publisher, 5)  # there is room again
    transport.let()
    transport.let()
    await asyncio.gather(*first, *waiting, *more)
    assert transport.ids(1) == [call_id(1), call_id(2), call_id(3)]


async def test_a_shelf_is_delivered_oldest_first_many_blobs_at_a_time_and_keeps_what_was_not_taken(
    storage: Storage,
) -> None:
    lines = [encode(Opened(record=opened_record(number))) for number in range(shelf.AT_ONCE + 2)]
    for line in lines:
        await storage.shelf.put(SPILL, [line])
    await storage.shelf.put("outbox-other", lines[:1])
    some, rest = Delivered(at_most=shelf.AT_ONCE), Delivered()
    with pytest.raises(ServiceRequestError):
        await storage.shelf.deliver(SPILL, some)
    assert (some.lines, await storage.shelf.waiting(SPILL)) == (lines[: shelf.AT_ONCE], 2)
    assert await storage.shelf.deliver(SPILL, rest) == 2
    assert rest.lines == lines[shelf.AT_ONCE :]
    assert (await storage.shelf.waiting(SPILL), await storage.shelf.waiting("outbox-other")) == (0, 1)


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # the storage SDK does, up to 4 MiB
async def test_a_shelf_takes_more_than_one_blob_holds(storage: Storage) -> None:
    lines, delivered = [b"%d" % number * 1_500_000 for number in range(5)], Delivered()
    await storage.shelf.put(SPILL, lines)
    assert await storage.shelf.waiting(SPILL) == 3
    await storage.shelf.deliver(SPILL, delivered)
    assert sorted(delivered.lines) == lines


async def test_a_transport_that_failed_is_spared_for_a_while(
    transport: HeldTransport, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards that an outage costs one send its patience, and not every call that comes meanwhile."""
    publisher = Publisher(transport, NoArchive(), storage.shelf, SIZES)
    transport.let(TransportDown("away"))
    for number in range(3):
        await publisher.opened(opened_record(number))
    assert (len(transport.sends), await storage.shelf.waiting(SPILL)) == (1, 3)
    monkeypatch.setattr(publishing, "_SPARED_S", 0.0)
    publisher._spared_until = 0.0  # the while is over
    transport.let(TransportDown("still away"))
    await publisher.opened(opened_record(3))
    transport.let()
    await publisher.opened(opened_record(4))
    assert (transport.ids(2), await storage.shelf.waiting(SPILL)) == ([call_id(4)], 4)


async def test_a_transport_that_is_spared_is_asked_where_the_shelf_is_away(
    transport: HeldTransport, publisher: Publisher
) -> None:
    transport.let(TransportDown("away"))
    with pytest.raises(TransportDown):
        await publisher.opened(opened_record(1))
    transport.let()
    await publisher.opened(opened_record(2))
    assert transport.ids(1) == [call_id(2)]
