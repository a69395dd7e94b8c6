"""Group commit: many events, few sends; what is not sent is spilled; a failure reaches everyone it concerns and no one else."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.core.archive import ArchivedCall
from shared.core.events import Chunk, Closed, Opened, decode, encode, unpack
from shared.publishing import Publisher, Sizes
from shared.shelf import Shelf
from shared.sinks.archive import Archive
from shared.transports import TransportDown
from tests.examples import archived, call_id, opened_record
from tests.storage import Storage

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
        return [id_of(line) for message in self.sends[send] for line in unpack(message)]


def id_of(line: bytes) -> str:
    event = decode(line)
    return event.call_id if isinstance(event, Chunk) else event.record.call_id


class NoArchive(Archive):
    """An archive that is away; nothing small may ask for it."""

    def __init__(self) -> None:
        self.asked_for: list[str] = []

    async def put(self, call: ArchivedCall) -> None:
        self.asked_for.append(call.record.call_id)
        raise ServiceRequestError("away")


class NoShelf(Shelf):
    """A shelf that is away."""

    def __init__(self) -> None:
        self.asked_for: list[tuple[str, int]] = []

    async def put(self, place: str, lines: Sequence[bytes]) -> None:
        self.asked_for.append((place, len(lines)))
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
async def test_a_failure_reaches_everyone_who_waits_for_that_send_and_later_ones_go_on(
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


async def test_a_large_call_is_not_told_of_where_its_bodies_could_not_be_archived(
    transport: HeldTransport, publisher: Publisher
) -> None:
    with pytest.raises(TransportDown, match="archive: away"):
        await publisher.closed(archived(request=bytes(5000)))
    assert transport.sends == []


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
