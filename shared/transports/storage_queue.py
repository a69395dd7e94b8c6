"""The storage-queue transport. Messages are base64, as the queue trigger expects (host.json, `messageEncoding`).

A message holds 64 KiB of text (https://learn.microsoft.com/azure/storage/queues/scalability-targets), hence 48 KiB of bytes.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient

from shared.transports import TransportDown

_FOR_EVER = -1
_IN_HAND_S = 60
"""How long a message that is being delivered again is kept from other instances."""


class StorageQueue:
    """Sends to one queue. The host moves what failed five times to the other, `<queue>-poison`, and leaves it there."""

    max_message_bytes = 48 * 1024

    def __init__(self, client: QueueClient, poison: QueueClient) -> None:
        self._client = client
        self._poison = poison

    async def send(self, messages: Sequence[bytes]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for message in messages:
                    group.create_task(self._send(message))
        except* AzureError as errors:
            raise TransportDown(str(errors.exceptions[0])) from errors

    async def _send(self, message: bytes) -> None:
        await self._client.send_message(base64.b64encode(message).decode(), time_to_live=_FOR_EVER)

    async def redeliver(self, deliver: Callable[[Sequence[bytes]], Awaitable[None]]) -> int:
        delivered = 0
        try:
            async for message in self._poison.receive_messages(messages_per_page=32, visibility_timeout=_IN_HAND_S):
                await deliver([_decoded(message.content)])
                await self._poison.delete_message(message)
                delivered += 1
        except ResourceNotFoundError:
            return delivered  # nothing has ever failed
        return delivered

    async def backlog(self) -> int:
        try:
            properties = await self._client.get_queue_properties()
        except AzureError as error:
            raise TransportDown(str(error)) from error
        return properties.approximate_message_count or 0

    async def prepare(self) -> None:
        try:
            await self._client.create_queue()
        except ResourceExistsError:
            return

    async def close(self) -> None:
        await self._client.close()
        await self._poison.close()


def _decoded(content: str) -> bytes:
    """The host moves a message as it is, also where it is not base64."""
    try:
        return base64.b64decode(content, validate=True)
    except ValueError:
        return content.encode()
