"""The storage-queue transport. Messages are base64, as the queue trigger expects (host.json, `messageEncoding`).

A message holds 64 KiB of text (https://learn.microsoft.com/azure/storage/queues/scalability-targets), hence 48 KiB of bytes.
"""

import asyncio
import base64
from collections.abc import Sequence

from azure.core.exceptions import AzureError, ResourceExistsError
from azure.storage.queue.aio import QueueClient

from shared.transports import TransportDown


class StorageQueue:
    """Sends to one queue."""

    max_message_bytes = 48 * 1024

    def __init__(self, client: QueueClient) -> None:
        self._client = client

    async def send(self, messages: Sequence[bytes]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for message in messages:
                    group.create_task(self._send(message))
        except* AzureError as errors:
            raise TransportDown(str(errors.exceptions[0])) from errors

    async def _send(self, message: bytes) -> None:
        await self._client.send_message(base64.b64encode(message).decode())

    async def prepare(self) -> None:
        try:
            await self._client.create_queue()
        except ResourceExistsError:
            return

    async def close(self) -> None:
        await self._client.close()
