"""The stand-in's front: it listens, gives its connection string, and lets a test look inside or break things."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from devtools.eventhubs.broker import Broker, Faults, StoredEvent
from devtools.eventhubs.connection import Connection

STANDARD_LIMIT = 1_048_576  # bytes of one transfer, a whole batch included; the Basic tier allows 262,144
IDLE_TIMEOUT = 240.0


class EventHubsServer:
    """An Event Hubs namespace on 127.0.0.1, as an async context manager.

    hubs: name -> number of partitions. port: 0 chooses a free one. max_message_size: bytes. idle_timeout: seconds.
    data: a file that keeps the events across processes; without it they are in memory only.
    """

    def __init__(
        self,
        hubs: Mapping[str, int],
        *,
        port: int = 0,
        max_message_size: int = STANDARD_LIMIT,
        idle_timeout: float = IDLE_TIMEOUT,
        data: Path | None = None,
    ) -> None:
        self.port = port
        self._broker = Broker(hubs, data)
        self._max_message_size, self._idle_timeout = max_message_size, idle_timeout
        self._connections: set[Connection] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.drop_connections()
        await self._listener.wait_closed()
        self._broker.close()

    @property
    def connection_string(self) -> str:
        """For the SDK and the app's settings; the emulator flag makes them use plain TCP."""
        return (
            f"Endpoint=sb://127.0.0.1:{self.port};SharedAccessKeyName=RootManageSharedAccessKey;"
            "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;"
        )

    @property
    def faults(self) -> Faults:
        """What to get wrong on purpose: set its fields."""
        return self._broker.faults

    def events(self, hub: str) -> list[StoredEvent]:
        """Every event of a hub, partition by partition, in order. Raises Refused when there is no such hub."""
        return [event for partition in self._broker.hub(hub).partitions.values() for event in partition.events]

    async def stored(self, hub: str, count: int) -> list[StoredEvent]:
        """Wait until a hub holds at least `count` events; returns all of them."""
        await self._until(lambda: len(self.events(hub)) >= count)
        return self.events(hub)

    async def attached(self, hub: str, count: int) -> None:
        """Wait until at least `count` receivers are attached to a hub's partitions."""
        partitions = self._broker.hub(hub).partitions.values()
        await self._until(lambda: sum(len(partition.readers) for partition in partitions) >= count)

    async def _until(self, ready: Callable[[], bool]) -> None:
        changed = asyncio.Event()
        self._broker.watchers.add(watcher := changed.set)
        try:
            while not ready():
                changed.clear()
                await changed.wait()
        finally:
            self._broker.watchers.discard(watcher)

    def drop_connections(self) -> None:
        """Break every connection, as a failing gateway does."""
        for connection in tuple(self._connections):
            connection.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults.refuse_connections:
            writer.transport.abort()
            return
        connection = Connection(
            (reader, writer),
            self._broker,
            max_message_size=self._max_message_size,
            idle_timeout=self._idle_timeout,
        )
        self._connections.add(connection)
        with contextlib.suppress(OSError, EOFError):  # the client left, or was dropped
            await connection.run()
        self._connections.discard(connection)
        connection.close()
