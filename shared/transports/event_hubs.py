"""The Event Hubs transport, on the official SDK.

A message is one event of the hub. 1 MB is the limit of the Standard tier, 256 KB of Basic, for the whole publication
(https://learn.microsoft.com/azure/event-hubs/event-hubs-quotas). Order and partition do not matter to the recorder, so events
go round robin.
"""

from collections.abc import Awaitable, Callable, Sequence

from azure.core.exceptions import AzureError
from azure.eventhub import EventData
from azure.eventhub.aio import EventHubProducerClient
from azure.eventhub.exceptions import EventHubError

from shared.transports import TransportDown


class EventHubs:
    """Sends to one hub."""

    def __init__(self, client: EventHubProducerClient, max_message_bytes: int) -> None:
        self._client = client
        self.max_message_bytes = max_message_bytes

    async def send(self, messages: Sequence[bytes]) -> None:
        try:
            batch = await self._client.create_batch()
            for message in messages:
                event = EventData(message)
                try:
                    batch.add(event)
                except ValueError:  # full
                    await self._client.send_batch(batch)
                    batch = await self._client.create_batch()
                    batch.add(event)
            if len(batch):
                await self._client.send_batch(batch)
        except (EventHubError, AzureError, ValueError, OSError) as error:
            raise TransportDown(str(error) or repr(error)) from error

    async def redeliver(self, deliver: Callable[[Sequence[bytes]], Awaitable[None]]) -> int:  # noqa: ARG002 - the protocol's
        """Nothing: the trigger's retry policy never gives up."""
        return 0

    async def backlog(self) -> int | None:
        """None: what a consumer has read is known to it alone."""
        try:
            await self._client.get_eventhub_properties()
        except (EventHubError, AzureError, OSError) as error:
            raise TransportDown(str(error) or repr(error)) from error
        return None

    async def prepare(self) -> None:
        """The hub is made with the namespace: a sender has no right to."""

    async def close(self) -> None:
        await self._client.close()
