"""Uploads: request bodies too large to be held, which pass through as they come, once.

Rule: what has passed is in the archive, and only there: blocks of the blob that the call will be, behind a head that is written
when the call has ended. The pace is that of the slowest of client, archive and upstream; nothing piles up.
"""

import hashlib
from collections.abc import AsyncIterator, Callable

from azure.core.exceptions import AzureError

from shared.core.api.named_models import LineReader
from shared.core.call_record import CallRecord
from shared.core.errors import BadRequest, NotReady
from shared.core.recording.archive import Extent, digest_of, head_of
from shared.gateway.stickiness import PassingIds
from shared.sinks.archive import ArchiveWriter

_BLOCK_BYTES = 4 * 1024 * 1024


class Upload:
    """One request body. Read once."""

    def __init__(
        self,
        chunks: Callable[[], AsyncIterator[bytes]],
        declared_bytes: int,
        writer: ArchiveWriter | None,
        ids: PassingIds | None = None,
    ) -> None:
        """Without a `writer` the body is not kept. `ids` reads along where what it names may be used."""
        self.declared_bytes = declared_bytes
        self.passed_bytes = 0
        self.is_begun = False
        """Whether somebody has begun to read it, and so knows of it."""
        self._chunks = chunks
        self._writer = writer
        self._ids = ids
        self._digest = hashlib.sha256()
        self._block = bytearray()
        """What has passed and is not in the archive yet."""

    @property
    def sha256(self) -> str:
        """Of what has passed, in hex."""
        return self._digest.hexdigest()

    async def chunks(self, lines: LineReader | None = None) -> AsyncIterator[bytes]:
        """The body, as it comes, with `lines` reading along. Raises what they do; NotReady where the archive does not take it."""
        self.is_begun = True
        block = self._block
        async for chunk in self._chunks():
            if (
                self.passed_bytes + len(chunk) > self.declared_bytes
            ):  # the upstream would take the rest for another request
                raise BadRequest("The request body is longer than its Content-Length says.")
            is_last = self.passed_bytes + len(chunk) == self.declared_bytes  # whoever gets its last byte has it all
            if self._ids:
                await self._ids.feed(chunk)
            if lines:
                lines.feed(chunk)
                if is_last:
                    lines.end()
            self.passed_bytes += len(chunk)
            self._digest.update(chunk)
            if self._writer:
                block += chunk
                if len(block) >= _BLOCK_BYTES or is_last:
                    await self._stage(bytes(block))
                    block.clear()
            yield chunk

    async def finish(self, record: CallRecord, response: bytes) -> str | None:
        """Completes the archived call. The digest of its head; None where the body is not kept. Raises AzureError."""
        if self._writer is None:
            return None
        if self._block:  # of a body that broke off
            await self._writer.add(bytes(self._block))
            self._block.clear()
        head = head_of(record, Extent(self.passed_bytes, self.sha256), Extent.of(response))
        await self._writer.finish(head, response)
        return digest_of(head)

    async def _stage(self, block: bytes) -> None:
        assert self._writer
        try:
            await self._writer.add(block)
        except AzureError as error:
            raise NotReady("The upload cannot be recorded, because the gateway's storage account is away.") from error
