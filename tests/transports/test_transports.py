"""What every transport promises."""

import pytest

from shared.core.events import decode, encode, unpack
from shared.transports import Transport, TransportDown
from tests.examples import closed, opened
from tests.transports.conftest import Carrier


async def test_messages_arrive_as_they_were_sent(tested: Carrier) -> None:
    """Guards that `send` returns when messages are durable: they can be received at once."""
    messages = [encode(opened(1)), encode(opened(2)) + b"\n" + encode(closed(2)), "{grün\u2028}".encode()]
    await tested.transport.send(messages)
    assert sorted(await tested.received()) == sorted(messages)


async def test_a_message_of_the_largest_size_arrives(tested: Carrier) -> None:
    message = b"x" * tested.transport.max_message_bytes
    await tested.transport.send([message])
    assert await tested.received() == [message]


async def test_a_message_above_the_largest_size_would_not(tested: Carrier) -> None:
    """The limit is no guess: it is the store's own, less what is certain to be lost to its encoding."""
    with pytest.raises(TransportDown):
        await tested.transport.send([b"x" * (tested.transport.max_message_bytes + 3)])


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


async def test_a_store_that_is_away_is_transport_down(unreachable: Transport) -> None:
    with pytest.raises(TransportDown, match=r".+"):
        await unreachable.send([b"one", b"two"])
