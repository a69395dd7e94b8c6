"""Every transport, on a store of its own, with a way to see what a trigger would get.

Rule: a transport that is not in TRANSPORTS is not tested; tests/test_architecture.py finds it.
"""

import base64
import gc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from azure.eventhub.aio import EventHubProducerClient
from azure.storage.queue.aio import QueueServiceClient

from devtools.azurite import Azurite
from devtools.eventhubs import EventHubsServer
from shared.transports import Transport
from shared.transports.event_hubs import EventHubs
from shared.transports.storage_queue import StorageQueue
from tests.emulator import AWAY

NO_HUBS = "Endpoint=sb://127.0.0.1:9;SharedAccessKeyName=x;SharedAccessKey=x;UseDevelopmentEmulator=true;"
ONCE: dict[str, Any] = {"retry_total": 0}


@dataclass(frozen=True)
class Carrier:
    """A transport; `received` takes what has arrived, as bytes."""

    transport: Transport
    received: Callable[[], Awaitable[list[bytes]]]


@asynccontextmanager
async def storage_queue(storage: str, name: str) -> AsyncIterator[Carrier]:
    async with QueueServiceClient.from_connection_string(storage, **ONCE) as queues:
        client = queues.get_queue_client(name)

        async def received() -> list[bytes]:
            # As the queue trigger does, host.json says base64.
            return [
                base64.b64decode(message.content) async for message in client.receive_messages(messages_per_page=32)
            ]

        transport = StorageQueue(client, queues.get_queue_client(f"{name}-poison"))
        yield Carrier(transport, received)
        await transport.close()


@asynccontextmanager
async def event_hubs(max_message_bytes: int = 1_000_000) -> AsyncIterator[tuple[Carrier, EventHubsServer]]:
    async with EventHubsServer({"calls": 2}) as server:
        transport = hub_at(server.connection_string, max_message_bytes)

        async def received() -> list[bytes]:
            return [event.body for event in server.events("calls")]

        yield Carrier(transport, received), server
        await transport.close()


def hub_at(connection: str, max_message_bytes: int = 1_000_000) -> EventHubs:
    producer = EventHubProducerClient.from_connection_string(connection, eventhub_name="calls", **ONCE)
    return EventHubs(producer, max_message_bytes)


@asynccontextmanager
async def _queue_at(azurite: Azurite, name: str) -> AsyncIterator[Carrier]:
    async with storage_queue(azurite.connection_string, name) as carrier:
        yield carrier


@asynccontextmanager
async def _hub(azurite: Azurite, name: str) -> AsyncIterator[Carrier]:
    async with event_hubs() as (carrier, _):
        yield carrier


@asynccontextmanager
async def _queue_away() -> AsyncIterator[Transport]:
    async with storage_queue(AWAY, "away") as carrier:
        yield carrier.transport


@asynccontextmanager
async def _hub_away() -> AsyncIterator[Transport]:
    transport = hub_at(NO_HUBS)
    yield transport
    await transport.close()


TRANSPORTS: dict[type[Any], tuple[Any, Any]] = {StorageQueue: (_queue_at, _queue_away), EventHubs: (_hub, _hub_away)}
"""Each transport: one that works, and one whose store is away."""


@pytest.fixture(autouse=True)
def _leave_no_socket_to_the_next_test() -> Iterator[None]:
    """The Event Hubs SDK drops broken connections without closing their sockets: collect them here, and say nothing."""
    yield
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


@pytest.fixture(params=TRANSPORTS, ids=lambda kind: kind.__name__)
async def tested(request: pytest.FixtureRequest, azurite: Azurite, prefix: str) -> AsyncIterator[Carrier]:
    """A transport that is ready."""
    works, _ = TRANSPORTS[request.param]
    async with works(azurite, f"{prefix}-calls") as carrier:
        await carrier.transport.prepare()
        yield carrier


@pytest.fixture(params=TRANSPORTS, ids=lambda kind: kind.__name__)
async def unreachable(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    """A transport whose store is away."""
    _, away = TRANSPORTS[request.param]
    async with away() as transport:
        yield transport
