"""Exports: tables that others read, made line by line.

Rule: memory does not grow with what is exported. An export is a stream of lines; whether it goes to a client or to a blob is
all the same to it. A blob is not seen before it is whole, so a file that is there is a whole one.
"""

import asyncio
import contextlib
import hashlib
import logging
import re
import secrets
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

import msgspec
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError

from shared.core.money.ledger import Span, UsageEntry
from shared.core.recording.archive import ArchivedCall
from shared.core.reports import evaluation, focus
from shared.core.reports.call_query import CallQuery
from shared.core.reports.csv_text import csv_line
from shared.core.reports.evaluation import evaluation_row
from shared.core.reports.focus import Month
from shared.core.reports.usage_report import period_of

if TYPE_CHECKING:  # what indexing does not have to load
    from azure.storage.blob.aio import ContainerClient

    from shared.sinks.archive import Archive
    from shared.usage.call_search import CallSearch
    from shared.usage.rows import UsageSource
    from shared.usage.table import UsageTable

_log = logging.getLogger(__name__)

type Lines = AsyncGenerator[bytes]

_READ_AHEAD = 4
"""Calls that are fetched from the archive at once. Their bodies are in memory meanwhile."""
_CHUNK_BYTES = 512 * 1024
"""And one line at the most. A blob has 50,000 blocks: 25 GB."""
_LINES_AT_A_TIME = 20
"""A few milliseconds of work: calls of clients are relayed by the same loop."""
_PROGRESS_S = 1.0
_MADE_OF = "made_of"
_FOCUS_FILE = re.compile(r"focus/\d{4}-\d{2}\.csv")


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written, and as what."""

    name: str
    """Of its file: `ledger/20261101-20261201.csv`."""
    content_type: str
    lines: Lines
    made_of: str = ""
    """The version of what it is made from, where that may change later."""


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far an export to a blob is. `blob` is there once the blob is, `error` where there will be none."""

    lines: int
    bytes: int
    blob: str | None = None
    error: str | None = None


async def ledger_lines(search: "CallSearch", query: CallQuery) -> Lines:
    """The ledger as CSV: a line a call, the oldest first, with every field of UsageEntry."""
    columns = UsageEntry.__struct_fields__
    yield csv_line(columns)
    async for entry in search.oldest(query):
        known = msgspec.to_builtins(entry)
        yield csv_line(known.get(column) for column in columns)


async def evaluation_lines(search: "CallSearch", archive: "Archive", query: CallQuery, *, as_csv: bool) -> Lines:
    """The calls as a Foundry evaluation dataset, as CSV or as lines of JSON."""
    if as_csv:
        yield csv_line(evaluation.COLUMNS)
    async for call in _archived(search, archive, query):
        if (row := evaluation_row(call)) is not None:
            yield csv_line(msgspec.structs.astuple(row)) if as_csv else msgspec.json.encode(row) + b"\n"


async def focus_lines(source: "UsageSource", month: Month, client_id: str | None) -> Lines:
    """A month of usage as a FOCUS file: its header, and the lines of each day's rows."""
    yield focus.header()
    first, last = period_of(month.start, Span.DAY), period_of(month.end, Span.DAY)
    async for row in source.rows(Span.DAY, first, last, client_id):
        for line in focus.focus_lines(month, row):
            yield line


async def due_months(store: "ExportStore", usage: "UsageTable", current: str) -> list[str]:
    """The months (`2026-11`) whose FOCUS files are to be written: the current one, before any that could fail, and those whose
    files are there and whose usage has changed since they were written."""
    months = {name[6:13] for name in await store.names("focus/") if _FOCUS_FILE.fullmatch(name)} - {current}
    versions = {month: await usage.version(month.replace("-", "")) for month in months}
    outdated = [month for month in months if await store.outdated(f"focus/{month}.csv", versions[month])]
    return [current, *sorted(outdated, reverse=True)]


async def _archived(search: "CallSearch", archive: "Archive", query: CallQuery) -> AsyncGenerator[ArchivedCall]:
    """The calls of the query that are archived, in their order, a few read ahead."""
    reading: list[asyncio.Task[ArchivedCall | None]] = []
    try:
        async for entry in search.oldest(query):
            reading.append(asyncio.create_task(_read(archive, entry.call_id)))
            if len(reading) >= _READ_AHEAD and (call := await reading.pop(0)):
                yield call
        while reading:
            if call := await reading.pop(0):
                yield call
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def _read(archive: "Archive", call_id: str) -> ArchivedCall | None:
    """The call; None where it is not archived, or its object is damaged: `verify` finds those."""
    try:
        return await archive.get(call_id)
    except ValueError as error:
        _log.warning("archived call not readable", extra={"call_id": call_id, "reason": str(error)})
        return None


class Download:
    """An export that goes to a client: what an answer streams."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def chunks(self) -> Lines:
        """The lines, many at a time. An error breaks the answer off, so that no client takes it for whole."""
        waiting, count = bytearray(), 0
        async for line in self._lines:
            waiting += line
            count += 1
            if count % _LINES_AT_A_TIME == 0:
                await asyncio.sleep(0)
            if len(waiting) >= _CHUNK_BYTES:
                yield bytes(waiting)
                waiting.clear()
        if waiting:
            yield bytes(waiting)

    async def finish(self) -> None:
        """Ends the reading where the client has gone."""
        await self._lines.aclose()


class ToBlob:
    """An export that goes to a blob: what an answer streams is its progress, a line of JSON each second."""

    def __init__(self, store: "ExportStore", export: Export) -> None:
        self._store = store
        self._export = export
        self._task: asyncio.Task[str] | None = None

    async def chunks(self) -> Lines:
        """Progress; the last line has the blob's name, or the error."""
        count = _Count()
        self._task = asyncio.create_task(self._store.put(self._export, count.add))
        while not (await asyncio.wait([self._task], timeout=_PROGRESS_S))[0]:
            yield _line(Progress(lines=count.lines, bytes=count.bytes))
        try:
            yield _line(Progress(lines=count.lines, bytes=count.bytes, blob=self._task.result()))
        except AzureError as error:
            yield _line(Progress(lines=count.lines, bytes=count.bytes, error=f"not written: {error.message}"))

    async def finish(self) -> None:
        """Stops where the client has gone: its blob is never seen."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])


class _Count:
    """What has been written, so far."""

    def __init__(self) -> None:
        self.lines = 0
        self.bytes = 0

    def add(self, line: bytes) -> None:
        self.lines += 1
        self.bytes += len(line)


def _line(progress: Progress) -> bytes:
    return msgspec.json.encode(progress) + b"\n"


def _digest(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()


class ExportStore:
    """Keeps exports as blobs of one container."""

    def __init__(self, container: "ContainerClient") -> None:
        self._container = container

    async def put(self, export: Export, count: Callable[[bytes], None] = lambda _: None) -> str:
        """Writes the export over whatever has its name. Returns `container/name`. Raises AzureError."""
        from azure.storage.blob import BlobBlock, ContentSettings

        async def counted() -> Lines:
            async for line in export.lines:
                count(line)
                yield line

        blob, blocks = self._container.get_blob_client(export.name), list[BlobBlock]()
        async for chunk in Download(counted()).chunks():
            blocks.append(BlobBlock(f"{secrets.token_hex(8)}-{len(blocks):06}"))  # two exports at once do not mix
            await blob.stage_block(blocks[-1].id, chunk)
        await blob.commit_block_list(
            blocks,
            content_settings=ContentSettings(content_type=export.content_type),
            metadata={_MADE_OF: _digest(export.made_of)},
        )
        return f"{self._container.container_name}/{export.name}"

    async def outdated(self, name: str, made_of: str | None) -> bool:
        """Whether the blob is there and was made from something else."""
        try:
            properties = await self._container.get_blob_client(name).get_blob_properties()
        except ResourceNotFoundError:
            return False
        return made_of is not None and properties.metadata.get(_MADE_OF) != _digest(made_of)

    async def names(self, folder: str) -> list[str]:
        """The blobs whose names begin so."""
        return [name async for name in self._container.list_blob_names(name_starts_with=folder)]

    async def prepare(self) -> None:
        with contextlib.suppress(ResourceExistsError):
            await self._container.create_container()

    async def close(self) -> None:
        await self._container.close()
