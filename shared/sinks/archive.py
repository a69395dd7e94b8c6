"""The archive: one blob per call, named by its id, written whole (see shared/core/recording/archive.py for its form).

Rule: the archive is the truth; everything else that is kept can be made again from it.
"""

import asyncio
import base64
import contextlib
import io
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import date
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobBlock, BlobProperties, ContentSettings
from azure.storage.blob.aio import BlobClient, ContainerClient

from shared.core.recording import archive
from shared.core.recording.archive import ArchivedCall, Head
from shared.core.recording.events import Chunk, Closed, Record
from shared.core.recording.gzipped import compressed
from shared.storage.blob_wire import LARGEST, BlobPutter

_PIECE_BYTES = 4 * 1024 * 1024
"""Of an object that is read piece by piece."""
_BEHIND_THE_END = 416
_OPAQUE = ContentSettings(content_type="application/octet-stream")
_UNFINISHED = ContentSettings(content_type="application/x-unfinished")
_UPLOAD = "upload-"


class NotTheCall(Exception):
    """What was put together is not the call that was sent; `etag` is of that."""

    def __init__(self, reason: str, etag: str) -> None:
        super().__init__(reason)
        self.etag = etag


class ArchiveWriter:
    """Writes the archive object of one call. The blob is not seen before it is finished."""

    def __init__(self, blob: BlobClient, packed: Callable[[bytes], bytes]) -> None:
        self._blob = blob
        self._packed = packed
        self._blocks: list[str] = []

    @property
    def is_empty(self) -> bool:
        return not self._blocks

    async def add(self, block: bytes) -> None:
        """Adds a piece of the bodies, the request's first. Raises AzureError."""
        block_id = _upload_block_id(len(self._blocks) + 1)
        packed = await asyncio.to_thread(self._packed, block)
        await self._blob.stage_block(
            block_id, io.BytesIO(packed), len(packed)
        )  # raw bytes would hold the event loop up
        self._blocks.append(block_id)

    async def finish(self, head: bytes, response: bytes) -> None:
        """Puts the head before what was added and the response behind it. Raises AzureError."""
        first, last = _upload_block_id(0), _upload_block_id(len(self._blocks) + 1)
        await self._blob.stage_block(first, self._packed(head))
        if response:
            await self._blob.stage_block(last, await asyncio.to_thread(self._packed, response))
        order = [first, *self._blocks, *([last] if response else [])]
        await self._blob.commit_block_list([BlobBlock(each) for each in order], content_settings=_OPAQUE)


class Archive:
    """Writes to one container."""

    name = "archive"

    def __init__(self, container: ContainerClient, *, is_gzip: bool = False) -> None:
        self._container = container
        self._packed = compressed if is_gzip else bytes
        self._putter = BlobPutter(container)

    async def write(self, events: Sequence[Record]) -> None:
        async with asyncio.TaskGroup() as group:
            for event in events:
                if isinstance(event, Closed) and (call := event.call):
                    group.create_task(self.put(call))

    async def put(self, call: ArchivedCall) -> str:
        """Keeps one call, and returns the digest of its head. Putting it again writes the same bytes to the same name."""
        content = archive.encode(call)
        is_large = len(content) > LARGEST  # then it would hold the event loop up
        packed = await asyncio.to_thread(self._packed, content) if is_large else self._packed(content)
        await self.put_content(call.record.call_id, packed)
        return archive.digest_of(content)

    async def put_content(self, call_id: str, content: bytes) -> None:
        """Writes the object as it is."""
        name = archive.blob_name(call_id)
        if len(content) <= LARGEST and await self._putter.put(name, content):
            return
        await self._container.upload_blob(name, content, overwrite=True, content_settings=_OPAQUE)

    async def add_chunks(self, chunks: Sequence[Chunk]) -> Head | None:
        """Adds chunks of one call; the call's head once all are there, whoever brought the others. Raises NotTheCall; then
        it is to be removed, once what was put together is kept elsewhere.

        They are blocks of the archive's own blob: adding one again changes nothing, their order does not matter, and the
        blob is not seen before it is whole (https://learn.microsoft.com/rest/api/storageservices/put-block-list).
        """
        first = chunks[0]
        blob = self._blob(first.call_id)
        async with asyncio.TaskGroup() as group:
            for chunk in chunks:
                group.create_task(_stage(blob, chunk))
        committed, uncommitted = await blob.get_block_list("all")
        there = {block.id for block in (*committed, *uncommitted)}
        wanted = [_block_id(first, index) for index in range(first.count)]
        if not there.issuperset(wanted):
            return None
        whole = await blob.commit_block_list([BlobBlock(each) for each in wanted], content_settings=_OPAQUE)
        etag, reading = str(whole["etag"]), archive.Reading()
        try:
            async for piece in _pieces(blob, etag):
                reading.feed(piece)
        except ResourceModifiedError:
            return None  # another finished it as well: the last who did tells of it, and still has the message to do so
        if reading.sha256 != first.sha256:
            raise NotTheCall(f"the {first.count} chunks of call {first.call_id} are not what was sent", etag)
        try:
            return reading.end()
        except ValueError as error:
            raise NotTheCall(f"the {first.count} chunks of call {first.call_id} are no call: {error}", etag) from error

    async def chunks(self, call_id: str, etag: str) -> AsyncIterator[Chunk | bytes]:
        """What that version of a blob was put together from, one after another: chunks, or pieces of an upload. Ends where
        it is put anew."""
        blob = self._blob(call_id)
        blocks, _ = await blob.get_block_list("committed")
        start = 0
        for block in blocks:
            try:
                data, _ = await _range(blob, start, block.size, etag)
            except ResourceModifiedError:
                return
            yield _chunk_of(call_id, block.id, data)
            start += block.size

    async def unfinished(self, day: date) -> AsyncIterator[str]:
        """Calls that were opened on that UTC day and of which only blocks are there."""
        listing = self._container.list_blobs(name_starts_with=f"{day:%Y/%m/%d}/", include=["uncommittedblobs"])
        async for found in listing:
            if not found.size or _is_unfinished(found):
                yield found.name.rpartition("/")[2]

    async def take_unfinished(self, call_id: str) -> AsyncIterator[Chunk | bytes]:
        """What there is of a call that never became whole: its chunks, or pieces of its upload. Nothing where it did.

        Call `let_go` once that is kept elsewhere. Blocks can only be read as a blob, so they become one, unless there is one.
        """
        blob = self._blob(call_id)
        committed, uncommitted = await blob.get_block_list("all")
        unless: dict[str, Any] = {"match_condition": MatchConditions.IfMissing}
        try:
            if committed:  # by a run that did not come further
                properties = await blob.get_blob_properties()
                if not _is_unfinished(properties):
                    return
                unless = {"etag": properties.etag, "match_condition": MatchConditions.IfNotModified}
            ids = [BlobBlock(block.id) for block in (*committed, *uncommitted)]
            one = await blob.commit_block_list(ids, content_settings=_UNFINISHED, **unless)
            async for each in self.chunks(call_id, str(one["etag"])):
                yield each
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
            return

    async def let_go(self, call_id: str) -> None:
        """Takes away what `take_unfinished` told, unless it has become whole meanwhile."""
        blob = self._blob(call_id)
        with contextlib.suppress(ResourceNotFoundError, ResourceModifiedError):
            properties = await blob.get_blob_properties()
            if _is_unfinished(properties):
                await blob.delete_blob(etag=properties.etag, match_condition=MatchConditions.IfNotModified)

    async def remove(self, call_id: str, etag: str) -> None:
        """Takes away what is no call. Does nothing where that is gone, or something else is there."""
        with contextlib.suppress(ResourceNotFoundError, ResourceModifiedError):
            await self._blob(call_id).delete_blob(etag=etag, match_condition=MatchConditions.IfNotModified)

    def writer(self, call_id: str) -> "ArchiveWriter":
        """Writes one call piece by piece, while it goes on."""
        return ArchiveWriter(self._blob(call_id), self._packed)

    async def get(self, call_id: str) -> ArchivedCall | None:
        """The call, or None where it is not archived. Raises ValueError for an id that is none."""
        content = await self.content(call_id)
        return None if content is None else archive.decode(content)

    async def head(self, call_id: str) -> Head | None:
        """The call's record and digest, without its bodies, or None where it is not archived. Raises ValueError as `get` does."""
        try:
            beginning, _ = await _range(self._blob(call_id), 0, archive.LONGEST_HEAD)
        except ResourceNotFoundError:
            return None
        return archive.head_in(beginning)

    async def content(self, call_id: str) -> bytes | None:
        """The object as it is, or None where there is none."""
        try:
            download = await self._container.download_blob(archive.blob_name(call_id))
        except ResourceNotFoundError:
            return None
        return await download.readall()

    async def pieces(self, call_id: str) -> AsyncIterator[bytes]:
        """The object as it is, piece by piece. Raises ResourceNotFoundError, and ResourceModifiedError where it is put anew."""
        async for piece in _pieces(self._blob(call_id)):
            yield piece

    async def call_ids(self, day: date) -> AsyncIterator[str]:
        """What is archived of the calls that were opened on that UTC day. What is no call's name is told as it stands."""
        async for name in self._container.list_blob_names(name_starts_with=f"{day:%Y/%m/%d}/"):
            yield name.rpartition("/")[2]

    async def prepare(self) -> None:
        try:
            await self._container.create_container()
        except ResourceExistsError:
            return

    async def close(self) -> None:
        await self._putter.close()
        await self._container.close()

    def _blob(self, call_id: str) -> BlobClient:
        return self._container.get_blob_client(archive.blob_name(call_id))


def _is_unfinished(blob: BlobProperties) -> bool:
    return blob.content_settings.content_type == _UNFINISHED.content_type


async def _pieces(blob: BlobClient, etag: str | None = None) -> AsyncIterator[bytes]:
    """All of a blob, of that version or of the one that its first piece is of."""
    start = 0
    while True:
        piece, etag = await _range(blob, start, _PIECE_BYTES, etag)
        yield piece
        start += len(piece)
        if len(piece) < _PIECE_BYTES:
            return


async def _range(blob: BlobClient, start: int, length: int, etag: str | None = None) -> tuple[bytes, str | None]:
    """A part of a blob, which ends where that does, and the blob's version. Raises ResourceModifiedError where it is another."""
    of_version: dict[str, Any] = {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}
    try:
        download = await blob.download_blob(offset=start, length=length, **of_version)
    except HttpResponseError as error:
        if error.status_code != _BEHIND_THE_END:
            raise
        return b"", etag
    return await download.readall(), download.properties.etag


async def _stage(blob: BlobClient, chunk: Chunk) -> None:
    await blob.stage_block(_block_id(chunk, chunk.index), chunk.data)


def _block_id(chunk: Chunk, index: int) -> str:
    """All block ids of a blob must be of one length. The digest keeps the chunks of two accounts of a call apart; with it, a
    block says all that its chunk said."""
    digest = base64.urlsafe_b64encode(bytes.fromhex(chunk.sha256)).decode()
    return f"{digest}{index:08d}{chunk.count:08d}"


def _chunk_of(call_id: str, block_id: str, data: bytes) -> Chunk | bytes:
    """The chunk that a block was; its bytes where it was a piece of an upload."""
    if block_id.startswith(_UPLOAD):
        return data
    sha256 = base64.urlsafe_b64decode(block_id[:44]).hex()
    return Chunk(call_id=call_id, index=int(block_id[44:52]), count=int(block_id[52:]), sha256=sha256, data=data)


def _upload_block_id(index: int) -> str:
    """As long as a chunk's: a call whose upload broke off may still end in chunks."""
    return f"{_UPLOAD}{index:053d}"
