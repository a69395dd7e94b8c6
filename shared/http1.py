"""HTTP/1.1 (RFC 9112): to upstreams as the transport behind httpx, and to the Storage account for what it is asked most.

Rule: bytes in, bytes out. Header lines go out as they were given and come back as they came; what came of a body before it
broke off is handed on before the break is told; nothing is repeated. One socket read is one piece of a body.

httpx's own transport takes five times the CPU: it parses in Python, under four layers. aiohttp takes a fifth more than this,
writes headers as UTF-8 whatever they were, and forgets what came before a break. The parser is llhttp, Node's, by httptools.
"""

import asyncio
import re
import select
import socket
import ssl
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Iterable
from functools import cached_property
from typing import override

import httptools
import httpx

_HEADER_LINES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\x00-\x08\x0a-\x1f\x7f]*\r\n)*")
_MOST_HEADER_BYTES = 256 * 1024
_MOST_UNREAD_BYTES = 256 * 1024
"""Of a body, before its connection is read no further."""
_MOST_IDLE = 200
"""Connections that are kept to one origin."""
_PLAIN_IDLE_S = 4.0
"""How long a connection without TLS is kept where its server does not say: many (uvicorn, Node) close theirs after 5 s, what is
written into a closing one is lost without anybody knowing whether it was heard, and a new one costs next to nothing."""
_KEEPS_FOR = re.compile(rb"(?:^|[\s,])timeout\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_NO_BODY = frozenset({204, 304})
_ALIVE_S = 60
"""Of silence before TCP asks whether the other side is there: what lies between forgets a silent connection in minutes."""

type Origin = tuple[str, str, int]
"""Scheme, host and port."""


class Http1Transport(httpx.AsyncBaseTransport):
    """A pool of connections, used from one event loop. Errors are httpx's own."""

    def __init__(self, *, connections: int, idle_s: float) -> None:
        self._room = asyncio.Semaphore(connections)
        self._idle_s = idle_s
        self._idle: defaultdict[Origin, deque[_Connection]] = defaultdict(deque)

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        times = request.extensions["timeout"]
        head = _head(request)
        url = request.url
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        await _in_time(self._room.acquire(), times["pool"], httpx.PoolTimeout)
        exchange = None
        try:
            exchange = _Exchange(await self._connection(origin, times["connect"]), request.method)
            await exchange.ask(head, request, times["read"])
        except BaseException:
            if exchange:
                exchange.give_up()
            self._room.release()
            raise
        body = _Body(self, origin, exchange, times["read"])
        return httpx.Response(exchange.status, headers=exchange.headers, stream=body, request=request)

    async def whole(
        self, origin: Origin, method: str, request: bytes, *, connect_s: float, patience_s: float
    ) -> tuple[int, bytes]:
        """Sends a request that is written out; the status and the body of its answer, once there is room for it."""
        await self._room.acquire()
        exchange = None
        try:
            exchange = _Exchange(await self._connection(origin, connect_s), method)
            await exchange.connection.write(request, patience_s)
            body = b"".join([piece async for piece in exchange.body(patience_s)])
        except BaseException:
            if exchange:
                exchange.give_up()
            self._room.release()
            raise
        self.release(origin, exchange)
        return exchange.status, body

    async def _connection(self, origin: Origin, patience_s: float) -> "_Connection":
        scheme, host, port = origin
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            connection.keep()
            if connection.is_silent:
                return connection
            connection.close()
        if scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(f"{scheme} is not HTTP")
        connecting = asyncio.get_running_loop().create_connection(
            _Connection, host, port, ssl=self._ssl if scheme == "https" else None, happy_eyeballs_delay=0.25
        )
        try:
            return (await _in_time(connecting, patience_s, httpx.ConnectTimeout))[1]
        except (OSError, UnicodeError) as error:  # a name that cannot be one is a UnicodeError
            raise httpx.ConnectError(str(error)) from error

    def release(self, origin: Origin, exchange: "_Exchange") -> None:
        """The exchange is over: its connection waits for the next, where it can."""
        self._room.release()
        idle_s = rest_s(origin[0], exchange.headers, self._idle_s)
        if not exchange.leaves_open or idle_s <= 0:
            exchange.give_up()
            return
        idle = self._idle[origin]
        if len(idle) == _MOST_IDLE:
            idle.popleft().close()
        exchange.connection.rest(idle_s)
        idle.append(exchange.connection)

    @override
    async def aclose(self) -> None:
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()

    @cached_property
    def _ssl(self) -> ssl.SSLContext:
        return httpx.create_ssl_context(trust_env=False)


class _Connection(asyncio.Protocol):
    """One socket. What it hears is its exchange's."""

    exchange: "_Exchange | None" = None
    _transport: asyncio.Transport
    _expiry: asyncio.TimerHandle | None = None
    _writable: asyncio.Future[None] | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _ALIVE_S)

    @override
    def data_received(self, data: bytes) -> None:
        if self.exchange:
            self.exchange.heard(data)
        else:
            self.close()  # an answer to nothing

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self.exchange:
            self.exchange.lost(exc)
        self.resume_writing()
        self.keep()

    @override
    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    @override
    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable and not writable.done():
            writable.set_result(None)

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    @property
    def is_silent(self) -> bool:
        """Whether it is open and nothing waits to be read: its end may have come while the event loop was busy."""
        if not self.is_open:
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return not poll.poll(0)

    async def write(self, data: bytes, patience_s: float | None = None) -> None:
        """Returns when there is room for more. What is written to a lost connection is lost: its exchange knows."""
        self._transport.write(data)
        if self._writable:
            await _in_time(self._writable, patience_s, httpx.WriteTimeout)

    def listen(self, *, is_wanted: bool) -> None:
        """Reads on, or no further for now."""
        if self.is_open:
            (self._transport.resume_reading if is_wanted else self._transport.pause_reading)()

    def rest(self, for_s: float) -> None:
        """Waits for the next exchange, for so many seconds."""
        self.exchange = None
        self.listen(is_wanted=True)  # a body that nobody read has stopped that
        self._expiry = asyncio.get_running_loop().call_later(for_s, self.close)

    def keep(self) -> None:
        if self._expiry:
            self._expiry.cancel()

    def close(self) -> None:
        self._transport.abort()


class _Exchange:
    """One request and its answer, as httptools' parser tells of it."""

    def __init__(self, connection: _Connection, method: str) -> None:
        self.connection = connection
        connection.exchange = self
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._has_answer_body = method != "HEAD"
        self._parser = httptools.HttpResponseParser(self)
        self._header_bytes = 0
        self._pieces: list[bytes] = []
        self._unread = 0
        self._is_answered = self._is_complete = self._ends_with_connection = self._keeps_alive = False
        self._error: httpx.TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def ask(self, head: bytes, request: httpx.Request, patience_s: float) -> None:
        """Sends the request; returns when the answer's headers are in, also where that is before all was sent."""
        if isinstance(request.stream, httpx.ByteStream):
            await self.connection.write(head + request.content)
        else:
            await self.connection.write(head)
            self._writing = asyncio.create_task(self._write(request))
            self._writing.add_done_callback(lambda _: self._wake())
            while not (self._writing.done() or self._is_answered or self._error):
                await self._next(None)
            if self._writing.done():
                self._writing.result()  # what the body raised
        while not self._is_answered:
            await self._next(patience_s)

    async def _write(self, request: httpx.Request) -> None:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        is_chunked = "content-length" not in request.headers
        async for piece in request.stream:
            if piece:
                await self.connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        if is_chunked:
            await self.connection.write(b"0\r\n\r\n")

    async def body(self, patience_s: float) -> AsyncIterator[bytes]:
        """The body as it comes; its end may be an error."""
        while True:
            if self._pieces:
                pieces, self._pieces, unread, self._unread = self._pieces, [], self._unread, 0
                if unread > _MOST_UNREAD_BYTES:
                    self.connection.listen(is_wanted=True)
                yield b"".join(pieces)
            elif self._is_complete:
                return
            else:
                await self._next(patience_s)

    @property
    def leaves_open(self) -> bool:
        """Whether another exchange can follow on the connection."""
        return self._keeps_alive and self._error is None and self._has_sent_all and self.connection.is_open

    @property
    def _has_sent_all(self) -> bool:
        """Whether the request is with the upstream to its end. One that broke off has its rest still to come, for which the
        next request on the connection would be taken."""
        writing = self._writing
        return writing is None or (writing.done() and not writing.cancelled() and writing.exception() is None)

    def give_up(self) -> None:
        """Nobody wants the rest, or the connection is of no more use."""
        if self._writing:
            self._writing.cancel()
        self.connection.close()

    async def _next(self, patience_s: float | None) -> None:
        """Returns when something has happened. Raises what ended the exchange."""
        if self._error:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        await _in_time(self._waiter, patience_s, httpx.ReadTimeout)

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def heard(self, data: bytes) -> None:
        """Takes what the socket had."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._error = httpx.RemoteProtocolError("the upstream changed the protocol")
        except httptools.HttpParserError as error:
            self._error = httpx.RemoteProtocolError(str(error))
        if self._unread > _MOST_UNREAD_BYTES:
            self.connection.listen(is_wanted=False)
        self._wake()

    def lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        if self._ends_with_connection and error is None:
            self._is_complete = True
        elif not self._is_complete and self._error is None:
            kind = httpx.ReadError if error else httpx.RemoteProtocolError
            self._error = kind("the upstream closed the connection")
        self._wake()

    def on_message_begin(self) -> None:
        """httptools'."""
        if self._is_complete:
            raise ValueError("the upstream answered twice")

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools'."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > _MOST_HEADER_BYTES:
            raise ValueError("the upstream's headers are too large")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """httptools'."""
        self.status = self._parser.get_status_code()
        if self.status < 200:  # 100 and 103 announce an answer
            self.headers.clear()
            return
        self._is_answered = True
        if not self._has_answer_body:
            self._is_complete = True
        framed = {name.lower() for name, _ in self.headers} & {b"content-length", b"transfer-encoding"}
        self._ends_with_connection = not framed and self.status not in _NO_BODY and self._has_answer_body

    def on_body(self, body: bytes) -> None:
        """httptools'."""
        self._pieces.append(body)
        self._unread += len(body)

    def on_message_complete(self) -> None:
        """httptools'."""
        self._is_complete = self._is_answered
        self._keeps_alive = self._is_complete and self._has_answer_body and bool(self._parser.should_keep_alive())


class _Body(httpx.AsyncByteStream):
    """The body of an answer; gives its connection back at its end, or up where it is not read so far."""

    def __init__(self, pool: Http1Transport, origin: Origin, exchange: _Exchange, patience_s: float) -> None:
        self._pool, self._origin, self._exchange, self._patience_s = pool, origin, exchange, patience_s
        self._is_open = True

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._exchange.body(self._patience_s):
            yield piece
        await self.aclose()

    @override
    async def aclose(self) -> None:
        if self._is_open:
            self._is_open = False
            self._pool.release(self._origin, self._exchange)


def rest_s(scheme: str, headers: Iterable[tuple[bytes, bytes]], most_s: float) -> float:
    """For how many seconds a connection may wait for its next exchange: less than its server keeps it, as far as one can tell."""
    told = next((value for name, value in headers if name.lower() == b"keep-alive"), b"")
    if found := _KEEPS_FOR.search(told):
        return min(most_s, int(found[1]) - 1)
    return most_s if scheme == "https" else min(most_s, _PLAIN_IDLE_S)


def _head(request: httpx.Request) -> bytes:
    """The request line and the headers. Raises LocalProtocolError for what would be read as another header, or as none."""
    raw = request.headers.raw
    lines = b"".join([b"%b: %b\r\n" % line for line in raw])
    if lines.count(b"\n") != len(raw) or _HEADER_LINES.fullmatch(lines) is None:
        raise httpx.LocalProtocolError("a header that is none")
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method.encode(), request.url.raw_path, lines)


async def _in_time[T](awaitable: Awaitable[T], patience_s: float | None, late: type[httpx.TimeoutException]) -> T:
    try:
        async with asyncio.timeout(patience_s):
            return await awaitable
    except TimeoutError as error:
        raise late("") from error
