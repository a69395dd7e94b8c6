"""Group commit: events of many calls share one send.

Rule: `opened` and `closed` return when the event is durable. While one send is under way the next ones gather, so the
cost of a send is shared by as many calls as are waiting for it, and a lone call waits for nobody. What the transport does
not take is shelved in Blob; only where that fails too does a caller hear of it.
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

import msgspec
from azure.core.exceptions import AzureError

from shared.core.call_record import CallRecord
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.events import Closed, Opened, encode, pack, split
from shared.core.recording.gzipped import compressed
from shared.core.tracing import Kind
from shared.recording.shelf import Shelf
from shared.sinks.archive import Archive, ArchiveWriter
from shared.telemetry import OFF, Telemetry
from shared.transports import Transport, TransportDown

_log = logging.getLogger(__name__)

_PATIENCE_S = 10.0
"""For a store that neither takes nor refuses."""

_SLOWEST_BYTES_PER_S = 1_000_000
"""Of a large call to the archive, before it is taken for hanging."""

_SPARED_S = 20.0
"""How long a transport that failed is asked only where the shelf is away: each call would wait for it to fail again."""

_MOST_COMPRESSED_BYTES = 4 * 1024 * 1024
"""Of an event that is to fit a message once compressed. A larger one goes in chunks: it would fill the room to wait in."""

SPILL = "spill"
"""The shelf's place for what the transport did not take."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """What is too large."""

    claim_check_bytes: int
    """A call above this goes into the archive at once, and only its record travels."""
    is_gzip: bool = False
    """Whether messages are compressed: then it is their compressed bytes that count, and those of a call."""
    waiting_bytes: int
    """The most that may wait to be sent; above it nothing more is taken."""


class Publisher:
    """One per process; used from one event loop."""

    def __init__(
        self, transport: Transport, archive: Archive, shelf: Shelf, sizes: Sizes, telemetry: Telemetry = OFF
    ) -> None:
        self._transport = transport
        self._archive = archive
        self._shelf = shelf
        self._sizes = sizes
        self._telemetry = telemetry
        self._waiting: list[tuple[Sequence[bytes], asyncio.Future[None]]] = []
        self._waiting_bytes = 0
        self._spared_until = 0.0
        """An instant of the event loop's clock."""
        self._sender: asyncio.Task[None] | None = None

    async def opened(self, record: CallRecord) -> None:
        """Tells that a call was accepted. Raises TransportDown where that may not have been kept."""
        with self._telemetry.step("publish opened", Kind.PRODUCER, record.trace):
            await self._publish([encode(Opened(record=record))])

    async def closed(self, call: ArchivedCall) -> None:
        """Tells that a call has ended. Raises TransportDown where that may not have been kept."""
        with self._telemetry.step("publish closed", Kind.PRODUCER, call.record.trace):
            await self._publish_closed(call)

    async def _publish_closed(self, call: ArchivedCall) -> None:
        size = len(call.request) + len(call.response)
        claimed = self._sizes.claim_check_bytes
        if size > claimed and self._sizes.is_gzip:
            size = len(await asyncio.to_thread(compressed, call.request + call.response))
        if size > claimed and (digest := await self._archived(call, size)):
            await self._publish([encode(Closed(record=call.record, archive_sha256=digest))])
            return
        made = partial(_lines, call, self._transport.max_message_bytes, is_gzip=self._sizes.is_gzip)
        await self._publish(
            made() if len(call.request) + len(call.response) <= claimed else await asyncio.to_thread(made)
        )

    async def _archived(self, call: ArchivedCall, size: int) -> str | None:
        """The digest under which the archive took the call. Where it did not, the transport still may."""
        try:
            async with asyncio.timeout(_PATIENCE_S + size / _SLOWEST_BYTES_PER_S):
                return await self._archive.put(call)
        except (AzureError, TimeoutError) as error:
            _log.warning("large call not archived ahead", extra={"call_id": call.record.call_id, "reason": repr(error)})
            return None

    def writer(self, call_id: str) -> ArchiveWriter:
        """Where a body is kept that is too large to be published, while it passes; then tell that it is `archived`."""
        return self._archive.writer(call_id)

    async def archived(self, record: CallRecord, sha256: str) -> None:
        """Tells that a call has ended which is in the archive already, with that digest of its head. Raises TransportDown."""
        with self._telemetry.step("publish closed", Kind.PRODUCER, record.trace):
            await self._publish([encode(Closed(record=record, archive_sha256=sha256))])

    async def _publish(self, lines: Sequence[bytes]) -> None:
        size = sum(map(len, lines))
        if self._waiting_bytes + size > self._sizes.waiting_bytes:
            raise TransportDown("too much is waiting to be sent")
        sent = asyncio.get_running_loop().create_future()
        self._waiting.append((lines, sent))
        self._waiting_bytes += size
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_waiting())
        await sent

    async def _send_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
            failure = await self._send([line for lines, _ in batch for line in lines])
            for _, sent in batch:
                _settle(sent, failure)

    async def _send(self, lines: Sequence[bytes]) -> TransportDown | None:
        now = asyncio.get_running_loop().time
        steps = [self._to_transport, self._to_shelf]
        if now() < self._spared_until:
            steps.reverse()
        reasons: list[str] = []
        for step in steps:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await step(lines)
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must not wait for ever
                reasons.append(repr(error))
                if step == self._to_transport:
                    self._spared_until = now() + _SPARED_S
            else:
                if reasons:
                    _log.warning("events took the other way", extra={"events": len(lines), "reason": reasons[0]})
                return None
        _log.error("events neither sent nor spilled", extra={"events": len(lines), "reason": reasons})
        return TransportDown(f"neither the transport nor the shelf is there: {'; '.join(reasons)}")

    async def _to_transport(self, lines: Sequence[bytes]) -> None:
        messages = pack(lines, self._transport.max_message_bytes)
        await self._transport.send(list(map(compressed, messages)) if self._sizes.is_gzip else messages)
        self._spared_until = 0.0

    async def _to_shelf(self, lines: Sequence[bytes]) -> None:
        await self._shelf.put(SPILL, lines)


def _lines(call: ArchivedCall, limit: int, *, is_gzip: bool) -> Sequence[bytes]:
    """A call that ended, as one event where that fits a message of `limit` bytes, else in chunks."""
    most = _MOST_COMPRESSED_BYTES if is_gzip else limit
    if len(call.request) + len(call.response) <= most:
        line = encode(Closed.of(call))
        if len(line) <= limit or (is_gzip and len(compressed(line)) <= limit):
            return [line]
    return [encode(chunk) for chunk in split(call, limit, is_gzip=is_gzip)]


def _settle(sent: asyncio.Future[None], failure: Exception | None) -> None:
    if sent.done():
        return  # whoever waited was cancelled
    if failure:
        sent.set_exception(failure)
    else:
        sent.set_result(None)
