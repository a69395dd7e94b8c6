"""SDK clients for the tests, set to retry quickly, and a receiver that tells when enough has arrived."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from azure.eventhub import EventData
from azure.eventhub.aio import EventHubConsumerClient, EventHubProducerClient, PartitionContext

from devtools.eventhubs import EventHubsServer

QUICK: dict[str, Any] = {"retry_backoff_factor": 0.05, "retry_backoff_max": 0.2}


def producer(server: EventHubsServer, hub: str = "calls", **options: Any) -> EventHubProducerClient:
    return EventHubProducerClient.from_connection_string(
        server.connection_string, eventhub_name=hub, **(QUICK | options)
    )


def event(body: bytes, **properties: Any) -> EventData:
    made = EventData(body)
    made.properties.update(properties)
    return made


class Received:
    """Events in order of arrival, with the partition contexts and errors of the receiver."""

    def __init__(self) -> None:
        self.events: list[tuple[PartitionContext, EventData]] = []
        self.owned: set[str] = set()
        self.errors: list[Exception] = []
        self._changed = asyncio.Condition()

    async def note(self, items: list[Any], item: Any) -> None:
        async with self._changed:
            items.append(item)
            self._changed.notify_all()

    async def own(self, partition_id: str, *, owned: bool) -> None:
        async with self._changed:
            (self.owned.add if owned else self.owned.discard)(partition_id)
            self._changed.notify_all()

    async def until(self, ready: Any) -> None:
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: ready(self))

    @property
    def bodies(self) -> list[str]:
        return [event.body_as_str() for _, event in self.events]


@asynccontextmanager
async def receiving(
    server: EventHubsServer,
    hub: str = "calls",
    *,
    group: str = "$Default",
    client: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Received]:
    received = Received()
    consumer = EventHubConsumerClient.from_connection_string(
        server.connection_string, consumer_group=group, eventhub_name=hub, **(QUICK | (client or {}))
    )

    async def on_event(context: PartitionContext, item: EventData | None) -> None:
        await received.note(received.events, (context, item))

    async def on_error(_context: PartitionContext | None, error: Exception) -> None:
        await received.note(received.errors, error)

    async def on_owned(context: PartitionContext) -> None:
        await received.own(context.partition_id, owned=True)

    async def on_lost(context: PartitionContext, _reason: object) -> None:
        await received.own(context.partition_id, owned=False)

    task = asyncio.create_task(
        consumer.receive(
            on_event=on_event,
            on_error=on_error,
            on_partition_initialize=on_owned,
            on_partition_close=on_lost,
            **({"starting_position": "-1"} | options),
        )
    )
    try:
        yield received
    finally:
        await consumer.close()
        task.cancel()  # the SDK's receive() outlives close() by seconds
        with suppress(asyncio.CancelledError):
            await task
