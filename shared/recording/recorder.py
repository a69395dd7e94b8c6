"""The recorder: messages in, sinks written.

Rule: what cannot be an event is set aside and never stops the rest. What a sink does not take right now waits on the shelf
and stops no other sink; only where the shelf is away too is the failure raised, so that the trigger delivers again. All of
that is safe because sinks take an event any number of times, in any order.
"""

import logging
from collections.abc import Sequence

import msgspec
from azure.core.exceptions import AzureError, HttpResponseError

from shared.core.call_record import CallRecord
from shared.core.recording.archive import Head, digest_of
from shared.core.recording.archive import encode as encode_call
from shared.core.recording.events import Chunk, Closed, Record, Undecodable, decode, encode, unpack
from shared.core.tracing import Kind
from shared.recording.quarantine import Quarantine
from shared.recording.shelf import Shelf
from shared.sinks import Sink
from shared.sinks.archive import Archive, NotTheCall
from shared.telemetry import OFF, Telemetry

_log = logging.getLogger(__name__)

_TOLD = (
    *("call_id", "client_id", "operation", "model", "deployment", "outcome", "status", "duration_ms"),
    *("usage_source", "trace_id"),
)
"""The fields of a record that a log line has."""


class Recorder(msgspec.Struct, frozen=True, kw_only=True):
    """Where events go. Holds nothing between two messages: any instance can record any of them."""

    archive: Archive
    sinks: Sequence[Sink]
    quarantine: Quarantine
    shelf: Shelf
    patient: Sequence[Sink] = ()
    """The sinks as the timer writes to them, for as long as that takes: nobody else waits for it. None: as they are."""
    telemetry: Telemetry = OFF

    async def record(self, messages: Sequence[bytes]) -> None:
        """Keeps the calls in `messages`. Raises an ExceptionGroup where some could neither be kept nor shelved."""
        lines = [line for message in messages for line in unpack(message)]
        await self.record_lines(lines)

    async def record_lines(self, lines: Sequence[bytes]) -> None:
        """The same for events, a line each."""
        records: list[Record] = []
        chunks: dict[tuple[str, str], list[Chunk]] = {}
        for line in lines:
            try:
                event = decode(line)
            except Undecodable as reason:
                await self._set_aside(line, str(reason))
                continue
            if isinstance(event, Chunk):
                chunks.setdefault((event.call_id, event.sha256), []).append(event)
            else:
                records.append(_with_digest(event))
        for pieces in chunks.values():
            records.extend(await self._joined(pieces))
        with self.telemetry.step("record", Kind.CONSUMER, *(each.record.trace for each in records)):
            await self._keep(records)
        for each in records:
            _tell(each.record)

    async def _joined(self, pieces: Sequence[Chunk]) -> Sequence[Closed]:
        """The call that these chunks complete, if they do. Its bodies stay in the archive, where the chunks are blocks of
        its blob: written anew it would have none, and a chunk that comes again would find its siblings gone."""
        call_id = pieces[0].call_id
        try:
            head = await self.archive.add_chunks(pieces)
        except NotTheCall as reason:
            async for piece in self.archive.chunks(call_id, reason.etag):
                is_event = isinstance(piece, Chunk)
                await self._set_aside(
                    encode(piece) if isinstance(piece, Chunk) else piece, str(reason), is_event=is_event
                )
            await self.archive.remove(call_id, reason.etag)
            return ()
        except Exception as failure:
            if is_outage(failure):
                raise
            for piece in pieces:
                await self._set_aside(encode(piece), repr(failure))
            return ()
        return _closed(head)

    async def _keep(self, records: Sequence[Record]) -> None:
        if not records:
            return  # chunks whose siblings are still on their way
        failures: list[Exception] = []
        for sink in self.sinks:
            failed, failure = await _write(sink, records)
            if failure is None:
                continue
            _log.warning("sink failed", extra={"sink": sink.name, "events": len(failed), "reason": repr(failure)})
            try:
                await self.shelf.put(outbox(sink), [encode(record) for record in failed])
            except Exception as shelf_failure:  # noqa: BLE001 - raised below, with the others
                failures += [failure, shelf_failure]
        if failures:
            raise ExceptionGroup("some calls could neither be kept nor shelved", failures)

    async def recover(self, call_id: str) -> bool:
        """Records a call whose end has got as far as the archive. False where it is not there.

        A call that is archived ahead of its event gets no further where the gateway dies in between.
        """
        closed = _closed(await self.archive.head(call_id))
        await self._keep(closed)
        return bool(closed)

    async def replay(self, closed: Sequence[Closed]) -> None:
        """Hands calls that are archived to the sinks once more. Raises as `record` does."""
        await self._keep(closed)

    async def drain(self) -> int:
        """Hands every sink what it did not take before, until it fails again. Returns how many blobs were delivered."""
        delivered = 0
        for sink in self.patient or self.sinks:

            async def deliver(lines: Sequence[bytes], sink: Sink = sink) -> None:
                records = [event for event in map(decode, lines) if not isinstance(event, Chunk)]
                failed, failure = await _write(sink, records)
                if failure is not None and is_outage(failure):
                    raise failure
                for record in failed:
                    await self._set_aside(encode(record), f"{sink.name}: {failure!r}")

            try:
                delivered += await self.shelf.deliver(outbox(sink), deliver)
            except Exception as failure:  # noqa: BLE001 - still down; the next run tries again
                _log.warning("outbox waits", extra={"sink": sink.name, "reason": repr(failure)})
        return delivered

    async def _set_aside(self, line: bytes, reason: str, *, is_event: bool = True) -> None:
        await self.quarantine.put(line, reason, is_event=is_event)
        _log.warning("event quarantined", extra={"reason": reason, "bytes": len(line)})


def _closed(head: Head | None) -> Sequence[Closed]:
    """The event of a call that is archived, without its bodies; none of one that is not."""
    return () if head is None else (Closed(record=head.header.record, archive_sha256=head.sha256),)


def _with_digest(event: Record) -> Record:
    """The event with the digest of what will be archived of it: the ledger has it from here, and not from the archive."""
    if not isinstance(event, Closed) or (call := event.call) is None:
        return event
    return msgspec.structs.replace(event, archive_sha256=digest_of(encode_call(call)))


def _tell(record: CallRecord) -> None:
    if record.outcome is not None:
        _log.info("call recorded", extra={name: getattr(record, name) for name in _TOLD})


async def _write(sink: Sink, records: Sequence[Record]) -> tuple[Sequence[Record], Exception | None]:
    """What a sink did not take, and why. One record that it cannot take does not keep it from the others."""
    try:
        await sink.write(records)
    except Exception as failure:  # noqa: BLE001 - a sink that is down must not stop the others
        if is_outage(failure) or len(records) == 1:
            return records, failure
    else:
        return (), None
    failed: list[Record] = []
    last: Exception | None = None
    for index, record in enumerate(records):
        try:
            await sink.write([record])
        except Exception as failure:  # noqa: BLE001 - likewise
            if is_outage(failure):
                return [*failed, *records[index:]], failure
            failed.append(record)
            last = failure
    return failed, last


def is_outage(failure: Exception) -> bool:
    """Whether it is the store that is at fault and not what was to be written."""
    if isinstance(failure, ExceptionGroup):
        return any(map(is_outage, failure.exceptions))
    if isinstance(failure, HttpResponseError):
        return failure.status_code in (401, 403, 404, 408, 409, 412, 429, None) or failure.status_code >= 500
    return isinstance(failure, AzureError | OSError)  # TimeoutError is an OSError


def outbox(sink: Sink) -> str:
    """The shelf's place for what a sink did not take."""
    return f"outbox-{sink.name}"
