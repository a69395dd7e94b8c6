"""One HTTP exchange over ASGI: reads the body, writes the answer at its pace with its faults, notices a hang-up.

Spec: https://asgi.readthedocs.io/en/latest/specs/www.html.
"""

import asyncio
import gzip
import hashlib
import socket
import struct
import zlib
from typing import cast

from starlette.types import Receive, Scope, Send

from devtools.simulator.account import Entry
from devtools.simulator.calls import Event, Reply, Stream, to_json
from devtools.simulator.errors import status_error
from devtools.simulator.faults import HEALTHY, Fault
from devtools.simulator.headers import Headers
from devtools.simulator.pacing import Pace

_PADDED_EVENT = 2
_YIELD_EVERY = 8


class ClientGoneError(Exception):
    """The caller hung up, or a fault reset the connection."""


class Exchange:
    """One request and its answer. The entry of the account is brought up to date as it goes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, entry: Entry) -> None:
        self._receive, self._send, self._entry = receive, send, entry
        self._connection = cast(asyncio.Transport, scope["extensions"]["simulator.transport"])
        self._hangup: asyncio.Task[None] | None = None
        self._started_at = 0.0
        self._fault = HEALTHY
        self._pace = Pace()
        self._digest = hashlib.sha256()
        self._is_broken = False
        self._compressor: zlib._Compress | None = None
        self._headers: Headers = []

    async def read_body(self) -> bytes:
        """Returns the whole request body; raises `ClientGoneError` when it does not come."""
        parts: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            parts.append(message["body"])
            if not message.get("more_body", False):
                return b"".join(parts)

    async def respond(self, reply: Reply | Stream, headers: Headers, fault: Fault, pace: Pace) -> None:
        """Writes the answer. Raises `ClientGoneError` when the caller hung up before its end."""
        self._fault, self._pace, self._headers = fault, fault.pace(pace), headers
        self._started_at = asyncio.get_running_loop().time() + fault.delay_ms / 1000
        try:
            await self._wait(fault.delay_ms / 1000)
            if fault.drop:
                await self._reset()
            if isinstance(reply, Reply):
                await self._write_reply(reply)
            else:
                await self._write_stream(reply)
        finally:
            if self._hangup is not None:
                self._hangup.cancel()
            self._entry.response_sha256 = self._digest.hexdigest()

    async def _write_reply(self, reply: Reply) -> None:
        entry, fault = self._entry, self._fault
        try:
            await self._wait(self._due(reply.tokens))
        except ClientGoneError:
            elapsed = asyncio.get_running_loop().time() - self._started_at
            entry.usage = reply.meter(self._pace.generated(elapsed)) if reply.meter else None
            raise
        if reply.meter is not None and reply.status == 200:
            entry.usage = reply.meter(reply.tokens)
        body = _damaged(reply.body, fault)
        if fault.gzip:
            body = gzip.compress(body, mtime=0)
        await self._start(reply.status, reply.content_type, len(body))
        if fault.cut_after_chunks == 0:
            await self._reset()
        entry.chunks_sent = 1
        await self._write(body, is_last=True)

    async def _write_stream(self, reply: Stream) -> None:
        self._compressor = zlib.compressobj(wbits=31) if self._fault.gzip else None
        is_events = reply.content_type.startswith("text/event-stream")
        await self._start(200, reply.content_type, None)
        for index, event in enumerate(reply.events):
            await self._fault_before(index, reply)
            if index == self._fault.error_after_chunks:
                self._is_broken = True
                await self._write(_frame(_error_event(reply, index), self._fault, index))
                break
            await self._wait(self._due(event.tokens) if event.tokens else 0, index)
            if reply.meter is not None:
                self._entry.usage = reply.meter(event.tokens)
            await self._write(_frame(event, self._fault, index) if is_events else event.data)
            self._entry.chunks_sent = index + 1
        else:
            await self._fault_before(self._entry.chunks_sent, reply)
        await self._wait(0, 0)
        await self._write(b"", is_last=True)

    async def _fault_before(self, index: int, reply: Stream) -> None:
        fault = self._fault
        if index == 0 and reply.meter is not None:
            self._entry.usage = reply.meter(0)
        if fault.stall_s and index == fault.stall_after_chunks:
            await self._wait(fault.stall_s)
            self._started_at += fault.stall_s
        if index == fault.cut_after_chunks:
            await self._reset()

    def _due(self, tokens: int) -> float:
        return self._started_at + self._pace.due_s(tokens) - asyncio.get_running_loop().time()

    async def _wait(self, seconds: float, index: int = 1) -> None:
        """Sleeps, or lets others run now and then; raises once the caller is gone."""
        if seconds > 0 or index % _YIELD_EVERY == 0:
            if self._hangup is None:
                self._hangup = asyncio.create_task(self._watch())
            await asyncio.wait((self._hangup,), timeout=max(seconds, 0))
        if self._connection.is_closing():
            raise ClientGoneError

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _start(self, status: int, content_type: str, length: int | None) -> None:
        self._entry.status = status
        headers = [(b"content-type", content_type.encode()), *self._headers]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        if self._fault.gzip:
            headers.append((b"content-encoding", b"gzip"))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _write(self, data: bytes, *, is_last: bool = False) -> None:
        if self._compressor is not None:
            data = self._compressor.compress(data) + self._compressor.flush(
                zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH
            )
        room = None if self._fault.cut_after_bytes is None else self._fault.cut_after_bytes - self._entry.response_bytes
        is_cut = room is not None and len(data) >= room
        data = data[:room]
        self._entry.response_bytes += len(data)
        self._digest.update(data)
        if is_last and not is_cut:  # settled before the last byte goes, so that whoever reads that byte can read this
            self._entry.completed = not self._is_broken
            self._entry.response_sha256 = self._digest.hexdigest()
        while self._fault.split_bytes and len(data) > self._fault.split_bytes:
            await self._body(data[: self._fault.split_bytes], more=True)
            data = data[self._fault.split_bytes :]
            await asyncio.sleep(0)  # so that each piece is a write of its own
        await self._body(data, more=is_cut or not is_last)
        if is_cut:
            await self._reset()

    async def _body(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _reset(self) -> None:
        """Resets the connection (RST), so that the peer cannot take what it has for the end."""
        raw: socket.socket = self._connection.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.abort()
        while (await self._receive())["type"] != "http.disconnect":
            pass  # the server must have seen the end before this task ends
        raise ClientGoneError


def _error_event(reply: Stream, index: int) -> Event:
    """Where events have names the error is flat and numbered, else it is wrapped as in an answer with a status."""
    fields = status_error(500).openai_fields
    if reply.error_name is None:
        return Event(to_json({"error": fields}))
    return Event(to_json({**fields, "type": "error", "sequence_number": index}), name=reply.error_name)


def _damaged(data: bytes, fault: Fault) -> bytes:
    if fault.huge_mb and data.endswith(b"}"):
        data = data[:-1] + b',"simulator_padding":"' + b"x" * int(fault.huge_mb * 1_000_000) + b'"}'
    return data[: len(data) * 2 // 3] if fault.malformed_json else data


def _frame(event: Event, fault: Fault, index: int) -> bytes:
    data = _damaged(event.data, fault) if index == _PADDED_EVENT else event.data
    name = b"" if event.name is None else b"event: %b\n" % event.name.encode()
    framed = b"%b%bdata: %b\n\n" % (b": keep-alive\n\n" if fault.comments else b"", name, data)
    if fault.no_space:
        framed = framed.replace(b"data: ", b"data:", 1).replace(b"event: ", b"event:", 1)
    return framed.replace(b"\n", b"\r\n") if fault.crlf else framed
