"""Shelves: messages that could not be delivered, kept in Blob until the timer delivers them.

    spill/<time>-<random>           messages that the transport did not take; the recorder gets them
    outbox-<sink>/<time>-<random>   events that a sink did not take; that sink gets them

Rule: what is on a shelf was told to be durable. It is taken off only after it has been delivered; delivering it twice is safe.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient

from shared.core.recording.events import pack, unpack

_LARGEST = 4 * 1024 * 1024
"""Bytes to a blob, and of blobs that are delivered together."""

AT_ONCE = 64
"""Blobs, at the most. What one message could not deliver is a blob: one by one, an hour's would take more than an hour."""

_COUNTED = 1000


class Shelf:
    """One container."""

    def __init__(self, container: ContainerClient, now: Callable[[], datetime]) -> None:
        self._container = container
        self._now = now

    async def put(self, place: str, lines: Sequence[bytes]) -> None:
        """Returns when the lines are durable."""
        for content in pack(lines, _LARGEST):
            name = f"{place}/{self._now():%Y%m%d%H%M%S%f}-{secrets.token_hex(4)}"
            await self._container.upload_blob(name, content)

    async def deliver(self, place: str, deliver: Callable[[Sequence[bytes]], Awaitable[None]]) -> int:
        """Hands over what is in a place, oldest first and many blobs at a time, until `deliver` raises. Returns how many blobs
        were delivered."""
        delivered = 0
        async for names in self._handfuls(place):
            async with asyncio.TaskGroup() as group:
                found = [group.create_task(self._lines(name)) for name in names]
            if lines := [line for each in found for line in each.result()]:
                await deliver(lines)
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(self._remove(name))
            delivered += len(names)
        return delivered

    async def lines(self) -> AsyncIterator[bytes]:
        """All that waits, in whatever place. What is delivered meanwhile may be left out."""
        async for name in self._container.list_blob_names():
            for line in await self._lines(name):
                yield line

    async def waiting(self, place: str) -> int:
        """How many blobs wait in a place."""
        return len([name async for name in self._names(place)])

    async def count(self) -> int:
        """How many blobs wait in all places; of very many, the first."""
        return await first_page(self._container)

    async def prepare(self) -> None:
        try:
            await self._container.create_container()
        except ResourceExistsError:
            return

    async def close(self) -> None:
        await self._container.close()

    async def _handfuls(self, place: str) -> AsyncIterator[Sequence[str]]:
        names: list[str] = []
        size = 0
        async for blob in self._container.list_blobs(name_starts_with=f"{place}/"):
            if names and (size + blob.size > _LARGEST or len(names) == AT_ONCE):
                yield names
                names, size = [], 0
            names.append(blob.name)
            size += blob.size
        if names:
            yield names

    async def _lines(self, name: str) -> Sequence[bytes]:
        """None where another has delivered them meanwhile."""
        try:
            content = await (await self._container.download_blob(name)).readall()
        except ResourceNotFoundError:
            return ()
        return unpack(content)

    async def _remove(self, name: str) -> None:
        with contextlib.suppress(ResourceNotFoundError):  # likewise
            await self._container.delete_blob(name)

    async def _names(self, place: str) -> AsyncIterator[str]:
        async for name in self._container.list_blob_names(name_starts_with=f"{place}/"):
            yield name


async def first_page(container: ContainerClient) -> int:
    """How many blobs there are, up to as many as one request tells of."""
    async for page in container.list_blob_names(results_per_page=_COUNTED).by_page():
        return len([name async for name in page])
    return 0
