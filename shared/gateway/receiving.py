"""Answers as they are kept: here while they are small and, past that, in the archive and only there.

Rule: what is larger than may be held passes through, as a large upload does: blocks of the blob that the call will be, behind a
head that is written when the call has ended. What is recorded is whole, however much that is.
"""

import hashlib
import logging
import math
from collections.abc import Callable

from azure.core.exceptions import AzureError

from shared.core.call_record import CallRecord
from shared.core.errors import NotReady
from shared.core.recording.archive import Extent, digest_of, head_of
from shared.sinks.archive import ArchiveWriter

_log = logging.getLogger(__name__)

_BLOCK_BYTES = 4 * 1024 * 1024


class Received:
    """The body of one answer, as the upstream sent it."""

    def __init__(
        self,
        most_held: float = math.inf,
        *,
        request: bytes = b"",
        writer: Callable[[], ArchiveWriter | None] = lambda: None,
        may_be_lost: bool = False,
    ) -> None:
        """Above `most_held` bytes it passes through to the `writer`, with the `request` before it; without one it is not kept."""
        self._most_held = most_held
        self._request = request
        self._begin = writer
        self._may_be_lost = may_be_lost
        self._writer: ArchiveWriter | None = None
        self._pieces: list[bytes] = []
        """What is held: all of it or, where it passes through, what is not in the archive yet."""
        self._held = 0
        self._size = 0
        self._digest = hashlib.sha256()
        self.is_passing = False

    async def add(self, chunk: bytes) -> None:
        """Keeps what came. Raises NotReady where the archive does not take it."""
        self._pieces.append(chunk)
        self._held += len(chunk)
        if self.is_passing:
            self._count(chunk)
            if self._held >= _BLOCK_BYTES:
                await self._stage()
        elif self._held > self._most_held:
            self.is_passing = True
            self._writer = self._begin()
            for piece in self._pieces:
                self._count(piece)
            await self._stage()

    @property
    def body(self) -> bytes:
        """All of it; nothing where it passes through."""
        return b"" if self.is_passing else b"".join(self._pieces)

    @property
    def passed(self) -> Extent | None:
        """How much passed through, and its digest; None where it did not."""
        return Extent(self._size, self._digest.hexdigest()) if self.is_passing else None

    async def finish(self, record: CallRecord) -> str | None:
        """Completes the archived call. The digest of its head; None where the body is not kept there. Raises AzureError."""
        if self._writer is None or (passed := self.passed) is None:
            return None
        await self._add()
        head = head_of(record, Extent.of(self._request), passed)
        await self._writer.finish(head, b"")
        return digest_of(head)

    def _count(self, chunk: bytes) -> None:
        self._size += len(chunk)
        self._digest.update(chunk)

    async def _stage(self) -> None:
        try:
            await self._add()
        except AzureError as error:
            if not self._may_be_lost:
                raise NotReady(
                    "The answer cannot be recorded, because the gateway's storage account is away."
                ) from error
            _log.error("answer not kept", extra={"reason": repr(error)})
            self._writer = None
            self._drop()

    async def _add(self) -> None:
        """Moves what is held into the archive."""
        if self._writer and self._writer.is_empty and self._request:
            await self._writer.add(self._request)
        if self._writer and self._pieces:
            await self._writer.add(b"".join(self._pieces))
        self._drop()

    def _drop(self) -> None:
        self._pieces.clear()
        self._held = 0
