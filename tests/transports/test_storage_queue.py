"""The storage queue: messages that do not expire, and the poison queue, which is emptied."""

import base64
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from devtools.azurite import Azurite
from shared.transports.storage_queue import StorageQueue


class Delivered:
    """Takes what is delivered again, or fails at a message."""

    def __init__(self, *, fails_at: bytes | None = None) -> None:
        self.messages: list[bytes] = []
        self._fails_at = fails_at

    async def __call__(self, messages: Sequence[bytes]) -> None:
        if self._fails_at in messages:
            raise OSError("still down")
        self.messages += messages


@pytest.fixture
async def queues(azurite: Azurite, prefix: str) -> AsyncIterator[tuple[QueueClient, QueueClient]]:
    """The queue and its poison queue; the host makes the second when it first needs it."""
    async with QueueServiceClient.from_connection_string(azurite.connection_string) as service:
        queue, poison = service.get_queue_client(f"{prefix}-calls"), service.get_queue_client(f"{prefix}-calls-poison")
        await StorageQueue(queue, poison).prepare()
        async with queue, poison:
            yield queue, poison


async def test_a_message_does_not_expire(queues: tuple[QueueClient, QueueClient]) -> None:
    """Guards that a recorder that is broken for a week loses nothing: by default messages live for seven days."""
    await StorageQueue(*queues).send([b"one", b"two"])
    expiries = [message.expires_on async for message in queues[0].receive_messages() if message.expires_on]
    assert len(expiries) == 2
    assert min(expiries) > datetime.now(UTC) + timedelta(days=10_000)


async def test_where_nothing_has_ever_failed_there_is_nothing_to_deliver(
    queues: tuple[QueueClient, QueueClient],
) -> None:
    assert await StorageQueue(*queues).redeliver(Delivered()) == 0


async def test_what_the_host_gave_up_on_is_delivered_again_and_forgotten(
    queues: tuple[QueueClient, QueueClient],
) -> None:
    """Guards that nothing is left in a poison queue, more than one page of it too."""
    _, poison = queues
    await poison.create_queue()
    bodies = [b"\xff\x00%d" % number for number in range(40)]
    for body in bodies:
        await poison.send_message(base64.b64encode(body).decode())
    delivered, again = Delivered(), Delivered()
    assert await StorageQueue(*queues).redeliver(delivered) == 40
    assert sorted(delivered.messages) == sorted(bodies)
    assert await StorageQueue(*queues).redeliver(again) == 0
    assert (await poison.get_queue_properties()).approximate_message_count == 0


async def test_a_message_that_is_not_base64_is_delivered_as_it_is(queues: tuple[QueueClient, QueueClient]) -> None:
    """The host moves what it cannot decode, too; the recorder sets it aside."""
    _, poison = queues
    await poison.create_queue()
    await poison.send_message("{not base64}")
    delivered = Delivered()
    assert await StorageQueue(*queues).redeliver(delivered) == 1
    assert delivered.messages == [b"{not base64}"]


async def test_a_message_that_fails_once_more_stays(queues: tuple[QueueClient, QueueClient]) -> None:
    _, poison = queues
    await poison.create_queue()
    for body in (b"good", b"bad", b"other"):
        await poison.send_message(base64.b64encode(body).decode())
    delivered = Delivered(fails_at=b"bad")
    with pytest.raises(OSError, match="still down"):
        await StorageQueue(*queues).redeliver(delivered)
    assert delivered.messages == [b"good"]
    assert (await poison.get_queue_properties()).approximate_message_count == 2
