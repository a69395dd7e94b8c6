"""What every transport promises."""

import pytest

from devtools.azurite import Azurite
from shared.core.recording.events import decode, encode, unpack
from shared.transports import Transport, TransportDown
from tests.examples import closed, opened
from tests.transports.conftest import Carrier, storage_queue

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # the Event Hubs SDK leaves broken sockets to the collector


async def test_messages_arrive_as_they_were_sent(tested: Carrier) -> None:
    """Guards that `send` returns when messages are durable: they can be received at once."""
    messages = [encode(opened(1)), encode(opened(2)) + b"\n" + encode(closed(2)), "{grün\u2028}".encode()]
    await tested.transport.send(messages)
    assert sorted(await tested.received()) == sorted(messages)


async def test_a_message_of_the_largest_size_arrives(tested: Carrier) -> None:
    message = b"x" * tested.transport.max_message_bytes
    await tested.transport.send([message])
    assert await tested.received() == [message]


async def test_a_message_well_above_the_largest_size_would_not(tested: Carrier) -> None:
    """The limit is no guess: it is the store's own, less a twentieth at most for its envelope."""
    with pytest.raises(TransportDown, match=r".+"):
        await tested.transport.send([b"small", b"x" * (tested.transport.max_message_bytes * 21 // 20)])


async def test_a_queues_limit_is_exact(azurite: Azurite, prefix: str) -> None:
    async with storage_queue(azurite.connection_string, f"{prefix}-calls") as carrier:
        await carrier.transport.prepare()
        with pytest.raises(TransportDown, match=r".+"):
            await carrier.transport.send([b"x" * (carrier.transport.max_message_bytes + 1)])


async def test_nothing_to_send_is_no_message(tested: Carrier) -> None:
    await tested.transport.send([])
    assert await tested.received() == []


async def test_what_arrives_are_the_events_that_were_sent(tested: Carrier) -> None:
    await tested.transport.send([encode(opened()) + b"\n" + encode(closed())])
    (message,) = await tested.received()
    assert [decode(line) for line in unpack(message)] == [opened(), closed()]


async def test_preparing_again_changes_nothing(tested: Carrier) -> None:
    await tested.transport.send([b"kept"])
    await tested.transport.prepare()
    assert await tested.received() == [b"kept"]


async def test_a_queue_tells_how_many_messages_wait(azurite: Azurite, prefix: str) -> None:
    async with storage_queue(azurite.connection_string, f"{prefix}-calls") as carrier:
        await carrier.transport.prepare()
        assert await carrier.transport.backlog() == 0
        await carrier.transport.send([b"1", b"2"])
        assert await carrier.transport.backlog() == 2


async def test_a_store_that_is_away_tells_no_backlog(unreachable: Transport) -> None:
    with pytest.raises(TransportDown, match=r".+"):
        await unreachable.backlog()


async def test_a_store_that_is_away_is_transport_down(unreachable: Transport) -> None:
    with pytest.raises(TransportDown, match=r".+"):
        await unreachable.send([b"one", b"two"])
