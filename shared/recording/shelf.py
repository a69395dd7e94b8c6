"""Shelves: messages that could not be delivered, kept in Blob until the timer delivers them.

    spill/<time>-<random>           messages that the transport did not take; the recorder gets them
    outbox-<sink>/<time>-<random>   events that a sink did not take; that sink gets them

Rule: what is on a shelf was told to be durable. It is taken off only after it has been delivered; delivering it twice is safe.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime

from azure.core.exceptions import ResourceExistsError
from azure.storage.blob.aio import ContainerClient

from shared.core.recording.events import pack, unpack

_LARGEST = 4 * 1024 * 1024
"""Bytes to a blob, so that one can be read and delivered as a whole."""

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
        """Hands over what is in a place, oldest first, until `deliver` raises. Returns how many blobs were delivered."""
        delivered = 0
        async for name in self._names(place):
            download = await self._container.download_blob(name)
            await deliver(unpack(await download.readall()))
            await self._container.delete_blob(name)
            delivered += 1
        return delivered

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

    async def _names(self, place: str) -> AsyncIterator[str]:
        async for name in self._container.list_blob_names(name_starts_with=f"{place}/"):
            yield name


async def first_page(container: ContainerClient) -> int:
    """How many blobs there are, up to as many as one request tells of."""
    async for page in container.list_blob_names(results_per_page=_COUNTED).by_page():
        return len([name async for name in page])
    return 0
