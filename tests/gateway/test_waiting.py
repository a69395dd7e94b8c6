"""A stream that begins before its upstream does: what the client hears, and what becomes of the call."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.core.errors import NoDeploymentAvailable
from shared.gateway.answers import Answer, refusal
from shared.gateway.relay import HEARTBEAT
from shared.gateway.waiting import Waiting

EVENTS = b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\ndata: [DONE]\n\n'
STREAM = (("content-type", "text/event-stream; charset=utf-8"),)
JSON = (("content-type", "application/json"),)
ERROR = b'{\n  "error": {"message": "no", "code": "content_filter"}\n}'


class Scripted:
    """A stream of bytes that are there already."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks
        self.finished = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk

    async def finish(self) -> None:
        self.finished += 1


class Asked:
    """A call under way: answered when the test says so, or given up."""

    def __init__(self, *, drain_s: float = 60) -> None:
        self._answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.given_up = 0
        task = asyncio.create_task(self._answered())
        self.waiting = Waiting(task, self._give_up, heartbeat_s=0.01, drain_s=drain_s)

    async def _answered(self) -> Answer:
        return await self._answer

    def _give_up(self) -> None:
        self.given_up += 1
        if not self._answer.done():
            self._answer.set_result(Answer(status=499, headers=JSON, body=b"{}"))

    def answer(self, headers: Any, body: Any, status: int = 200) -> None:
        self._answer.set_result(Answer(status=status, headers=headers, body=body))

    async def heard_after(self, comments: int) -> bytes:
        """What comes after so many comments, the answer being there by then."""
        chunks = self.waiting.chunks()
        for _ in range(comments):
            assert await anext(chunks) == HEARTBEAT
        return b"".join([chunk async for chunk in chunks if chunk != HEARTBEAT])


async def test_comments_come_until_the_answer_does() -> None:
    asked = Asked()
    chunks = asked.waiting.chunks()
    assert [await anext(chunks) for _ in range(3)] == [HEARTBEAT] * 3
    asked.answer(STREAM, Scripted(EVENTS[:9], EVENTS[9:]))
    assert b"".join([chunk async for chunk in chunks if chunk != HEARTBEAT]) == EVENTS


async def test_a_compressed_stream_comes_plain() -> None:
    """Guards that the client can read what comes: the headers that say how it is encoded are long gone."""
    packed = gzip.compress(EVENTS)
    asked = Asked()
    asked.answer((*STREAM, ("content-encoding", "gzip")), Scripted(*(packed[at : at + 1] for at in range(len(packed)))))
    assert await asked.heard_after(1) == EVENTS


TOLD = {
    "an error": (400, JSON, ERROR),
    "a compressed error": (400, (*JSON, ("content-encoding", "gzip")), gzip.compress(ERROR)),
    "what a stream should have been": (200, JSON, b'{"object": "chat.completion"}'),
}


@pytest.mark.parametrize(("status", "headers", "body"), TOLD.values(), ids=TOLD.keys())
async def test_a_whole_answer_comes_as_one_event(status: int, headers: Any, body: bytes) -> None:
    asked = Asked()
    asked.answer(headers, body, status)
    heard = await asked.heard_after(1)
    assert heard.endswith(b"\n\n")
    assert heard.count(b"\n\n") == 1
    lines = heard.rstrip(b"\n").split(b"\n")
    assert all(line.startswith(b"data: ") for line in lines)
    plain = gzip.decompress(body) if body[:1] == b"\x1f" else body
    assert json.loads(b"\n".join(line.removeprefix(b"data: ") for line in lines)) == json.loads(plain)


OTHERS = {
    "an error page": (503, (("content-type", "text/html"),), b"<h1>no</h1>"),
    "an error in another shape": (500, JSON, b'{"detail": "no"}'),
    "something compressed that is not": (400, (*JSON, ("content-encoding", "gzip")), b"no"),
    "a stream of something else": (200, (("content-type", "audio/mpeg"),), Scripted(b"\xff\xf3")),
}


@pytest.mark.parametrize(("status", "headers", "body"), OTHERS.values(), ids=OTHERS.keys())
async def test_what_cannot_stand_in_a_stream_is_told_as_our_error(status: int, headers: Any, body: Any) -> None:
    asked = Asked()
    asked.answer(headers, body, status)
    heard = await asked.heard_after(1)
    assert json.loads(heard.removeprefix(b"data: "))["error"]["code"] == "upstream_failed"


async def test_a_refusal_comes_as_one_event() -> None:
    asked, refused = Asked(), refusal(NoDeploymentAvailable("all out", retry_after_s=3))
    asked.answer(refused.headers, refused.body, refused.status)
    assert await asked.heard_after(1) == b"data: %b\n\n" % refused.body  # type: ignore[str-bytes-safe]


async def test_a_client_that_leaves_while_it_waits_has_its_call_finished() -> None:
    asked, stream = Asked(), Scripted(EVENTS)
    leaving = asyncio.create_task(asked.waiting.finish())
    await asyncio.sleep(0)
    assert (asked.given_up, leaving.done()) == (0, False)  # it is read for its usage
    asked.answer(STREAM, stream)
    await leaving
    assert stream.finished == 1


async def test_what_nobody_waits_for_is_given_up() -> None:
    asked = Asked(drain_s=0)
    await asked.waiting.finish()
    assert asked.given_up == 1
