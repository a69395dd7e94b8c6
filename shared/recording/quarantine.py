"""Where messages go that cannot be understood, with the reason.

Rule: nothing is dropped. The same bytes are kept once, under their own SHA-256: a piece of an upload apart from what may be
recorded after all.
"""

import hashlib
from collections.abc import AsyncIterator

import msgspec
from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError
from azure.storage.blob.aio import ContainerClient

from shared.recording.shelf import first_page

_PIECE = "piece-"
"""What the names begin with of what is no event."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is quarantined."""

    name: str
    etag: str
    content: bytes
    reason: str
    is_event: bool
    """Whether the gateway wrote it; else it is a piece of what a client sent, whatever it looks like."""


class Quarantine:
    """Writes to one container."""

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    async def put(self, message: bytes, reason: str, *, is_event: bool = True) -> None:
        """Keeps `message`; the blob's metadata says why."""
        name = ("" if is_event else _PIECE) + hashlib.sha256(message).hexdigest()
        await self._container.upload_blob(name, message, overwrite=True, metadata={"reason": _header_safe(reason)})

    async def count(self) -> int:
        """How many messages are here; of very many, the first."""
        return await first_page(self._container)

    async def messages(self) -> AsyncIterator[Held]:
        """Everything that is in it, one after another."""
        async for name in self._container.list_blob_names():
            download = await self._container.download_blob(name)
            yield Held(
                name=name,
                etag=download.properties.etag,
                content=await download.readall(),
                reason=download.properties.metadata.get("reason", ""),
                is_event=not name.startswith(_PIECE),
            )

    async def remove(self, held: Held) -> bool:
        """Takes a message out. False where it has been put in again since it was read: it stays."""
        try:
            await self._container.delete_blob(held.name, etag=held.etag, match_condition=MatchConditions.IfNotModified)
        except ResourceModifiedError:
            return False
        return True

    async def prepare(self) -> None:
        try:
            await self._container.create_container()
        except ResourceExistsError:
            return

    async def close(self) -> None:
        await self._container.close()


def _header_safe(text: str) -> str:
    """Metadata travels as an HTTP header: printable ASCII, and not long."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text[:500]).strip()
