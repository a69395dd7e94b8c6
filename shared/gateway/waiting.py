"""Streams that begin before their upstream does: the client is answered 200 and gets comments until there is an answer.

Rule: a comment is no content, so until the answer comes another deployment may still give it. What it is can then only be told
inside the stream: whatever is no stream of events, an error say, comes as one event.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable

import msgspec

from shared.core.content_encoding import decoded, decompressor
from shared.core.errors import UpstreamFailed, to_openai_json
from shared.core.headers import Headers, get
from shared.core.json_text import NOT_READABLE
from shared.gateway.answers import Answer, Stream
from shared.gateway.relay import HEARTBEAT

EVENT_STREAM: Headers = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))


class _Body(msgspec.Struct):
    error: msgspec.Raw


class Waiting:
    """One such stream. `answer` never raises; `give_up` makes it end soon, where it is still being waited for."""

    def __init__(
        self,
        answer: asyncio.Task[Answer],
        give_up: Callable[[], None],
        *,
        heartbeat_s: float,
        drain_s: float,
        left: Callable[[], None] = lambda: None,
    ) -> None:
        """`left` is told where the client has gone before there was an answer."""
        self._answer = answer
        self._left = left
        self._give_up = give_up
        self._heartbeat_s = heartbeat_s
        self._drain_s = drain_s

    async def chunks(self) -> AsyncIterator[bytes]:
        """Comments, then what the upstream answers."""
        yield HEARTBEAT
        while not (await asyncio.wait((self._answer,), timeout=self._heartbeat_s))[0]:
            yield HEARTBEAT
        answer = self._answer.result()
        if isinstance(answer.body, bytes):
            yield _as_event(answer.status, answer.headers, answer.body)
            return
        async for chunk in _as_events(answer.headers, answer.body):
            yield chunk

    async def finish(self) -> None:
        """Waits for an answer as long as for the rest of one, whether the client is still there or not; then closes the call."""
        if not self._answer.done():
            self._left()
        await asyncio.wait((self._answer,), timeout=self._drain_s)
        self._give_up()
        body = (await self._answer).body
        if not isinstance(body, bytes):
            await body.finish()


async def _as_events(headers: Headers, body: Stream) -> AsyncIterator[bytes]:
    """A stream in the encoding that the client was promised: none."""
    if not (get(headers, "content-type") or "").startswith("text/event-stream"):
        yield _error_event()
        return
    inflate = decompressor(get(headers, "content-encoding"))
    async for chunk in body.chunks():
        if plain := inflate.decompress(chunk) if inflate else chunk:
            yield plain


def _as_event(status: int, headers: Headers, body: bytes) -> bytes:
    """A whole body as one event; of an error that is not in the API's shape, one of ours."""
    try:
        plain = decoded(body, get(headers, "content-encoding"))
        if status >= 400:
            msgspec.json.decode(plain, type=_Body)
    except (*NOT_READABLE, zlib.error):
        return _error_event()
    return b"".join(b"data: %b\n" % line for line in plain.splitlines()) + b"\n"


def _error_event() -> bytes:
    return b"data: %b\n\n" % to_openai_json(UpstreamFailed("The upstream answered with something that is no stream."))
