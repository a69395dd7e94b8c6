"""Where messages go that cannot be understood, with the reason.

Rule: nothing is dropped. The same bytes are kept once, under their own SHA-256.
"""

import hashlib

from azure.core.exceptions import ResourceExistsError
from azure.storage.blob.aio import ContainerClient

from shared.shelf import first_page


class Quarantine:
    """Writes to one container."""

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    async def put(self, message: bytes, reason: str) -> None:
        """Keeps `message`; the blob's metadata says why."""
        await self._container.upload_blob(
            hashlib.sha256(message).hexdigest(), message, overwrite=True, metadata={"reason": _header_safe(reason)}
        )

    async def count(self) -> int:
        """How many messages are here; of very many, the first."""
        return await first_page(self._container)

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
