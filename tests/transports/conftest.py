"""Every transport, on a store of its own, with a way to see what a trigger would get.

Rule: a transport that is not in TRANSPORTS is not tested; tests/test_architecture.py finds it.
"""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from azure.storage.queue.aio import QueueServiceClient

from devtools.azurite import Azurite, Ports, connection_string
from shared.transports import Transport
from shared.transports.storage_queue import StorageQueue


@dataclass(frozen=True)
class Carrier:
    """A transport; `received` takes what has arrived, as bytes."""

    transport: Transport
    received: Callable[[], Awaitable[list[bytes]]]


async def _storage_queue(storage: str, name: str) -> AsyncIterator[Carrier]:
    async with QueueServiceClient.from_connection_string(storage, retry_total=0) as queues:
        client = queues.get_queue_client(name)

        async def received() -> list[bytes]:
            # As the queue trigger does, host.json says base64.
            return [base64.b64decode(message.content) async for message in client.receive_messages()]

        transport = StorageQueue(client)
        yield Carrier(transport, received)
        await transport.close()


TRANSPORTS: dict[type[Any], Callable[[str, str], AsyncIterator[Carrier]]] = {StorageQueue: _storage_queue}


@pytest.fixture(params=TRANSPORTS, ids=lambda kind: kind.__name__)
async def tested(request: pytest.FixtureRequest, azurite: Azurite, prefix: str) -> AsyncIterator[Carrier]:
    """A transport that is ready."""
    async for each in TRANSPORTS[request.param](azurite.connection_string, f"{prefix}-calls"):
        await each.transport.prepare()
        yield each


@pytest.fixture(params=TRANSPORTS, ids=lambda kind: kind.__name__)
async def unreachable(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Transport]:
    """A transport whose store is away."""
    nobody = Ports(blob=9, queue=9, table=9)  # the discard port
    async for each in TRANSPORTS[request.param](connection_string(nobody), f"{prefix}-calls"):
        yield each.transport
