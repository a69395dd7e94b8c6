"""The edge to upstreams: with the transport behind it (shared/http1.py) the place that knows httpx.

Rule: bytes in, bytes out. Nothing is decompressed, redirected, retried or remembered here, and every way in which HTTP can
fail becomes an UpstreamError that says whether the request may have reached the upstream. httpx's client is left out: what
it adds to a transport is redirects, proxies and a cookie jar, in which one client's cookies would meet another's.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol, cast

import httpx

from shared.core.api.upstream_requests import UpstreamRequest
from shared.core.errors import BadRequest
from shared.core.headers import Headers
from shared.http1 import Http1Transport
from shared.settings import Settings


class UpstreamError(Exception):
    """No answer, or not a whole one. `sent` tells whether the upstream may have begun to work on the request."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


class Response(Protocol):
    """What is left of an answer once its headers are known."""

    @property
    def peeked(self) -> bytes:
        """What is here already."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body, from its beginning. Raises UpstreamError where it breaks off."""
        ...

    async def close(self) -> None: ...


class UpstreamResponse:
    """An answer whose headers are here and whose body is still to be read, once."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._incoming = aiter(cast(httpx.AsyncByteStream, response.stream))
        self._peeked: list[bytes] = []
        self._next: asyncio.Future[bytes | None] | None = None
        self.status = response.status_code
        self.headers: Headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers.raw
        )

    async def peek(self, patience_s: float) -> AsyncIterator[bytes]:
        """The body as it comes within so many seconds; `chunks` begins with what was taken here.

        Raises UpstreamError where it breaks off.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + patience_s
        while True:
            if self._next is None:
                self._next = asyncio.ensure_future(anext(self._incoming, None))
            # Waited for, not cancelled when time is up: that would end the connection.
            await asyncio.wait((self._next,), timeout=max(0.0, until - loop.time()))
            if not self._next.done() or (chunk := await self._taken()) is None:
                return
            self._peeked.append(chunk)
            yield chunk

    @property
    def peeked(self) -> bytes:
        """What was taken of the body so far to look at it."""
        return b"".join(self._peeked)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, in its Content-Encoding. Raises UpstreamError where it breaks off."""
        for chunk in self._peeked:
            yield chunk
        if self._next is not None and (awaited := await self._taken()) is not None:
            yield awaited
        try:
            async for chunk in self._incoming:
                yield chunk
        except httpx.HTTPError as error:
            raise _upstream_error(error) from error

    async def _taken(self) -> bytes | None:
        """The chunk that a peek waits for; None at the end."""
        assert self._next is not None
        try:
            return await self._next
        except httpx.HTTPError as error:
            raise _upstream_error(error) from error
        finally:
            self._next = None

    async def close(self) -> None:
        """Gives the connection back, or up where the body was not read to its end."""
        if self._next is not None:
            self._next.cancel()
        await self._response.aclose()


class Upstreams:
    """The one pool of connections to all upstreams."""

    def __init__(self, settings: Settings) -> None:
        self._times = httpx.Timeout(settings.idle_timeout_s, connect=settings.connect_timeout_s, pool=5.0).as_dict()
        self._transport = Http1Transport(connections=1000, idle_s=30)

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """The answer to `request`, once its headers are in. Raises UpstreamError, or BadRequest for what cannot be sent."""
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
        try:
            outgoing = httpx.Request(
                request.method,
                request.url,
                headers=headers,
                content=request.body,
                extensions={"timeout": self._times},
            )
        except httpx.InvalidURL as error:
            raise UpstreamError(f"InvalidURL: {error}", sent=False) from error
        try:
            return UpstreamResponse(await self._transport.handle_async_request(outgoing))
        except httpx.LocalProtocolError as error:  # the client's mistake, which no deployment is to answer for
            raise BadRequest("A header of the request cannot be sent on.") from error
        except httpx.HTTPError as error:
            raise _upstream_error(error) from error

    async def close(self) -> None:
        await self._transport.aclose()


def _upstream_error(error: httpx.HTTPError) -> UpstreamError:
    never_sent = isinstance(
        error,
        httpx.ConnectError
        | httpx.ConnectTimeout
        | httpx.PoolTimeout
        | httpx.UnsupportedProtocol
        | httpx.LocalProtocolError,
    )
    return UpstreamError(type(error).__name__, sent=not never_sent)  # its text may quote a header, and so a key
