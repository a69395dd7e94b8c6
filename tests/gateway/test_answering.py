"""The way back: what an answer's end means for the client's limits, the deployment and the record."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import nullcontext
from decimal import Decimal
from typing import Any, override

import msgspec
import pytest
from azure.core.exceptions import ServiceRequestError

from shared.clients.limits import Admission
from shared.core.api.references import StoredObject
from shared.core.call_record import Outcome, UsageSource
from shared.core.calls import Call
from shared.core.configuration import Client, OnDisconnect, Pool, parse
from shared.core.errors import NotReady
from shared.core.recording.accounting import Served, open_record
from shared.core.recording.archive import ArchivedCall
from shared.core.usage import TokenUsage
from shared.gateway import answering as answers
from shared.gateway.answering import Answering, Exchange
from shared.gateway.health_board import HealthBoard
from shared.gateway.relay import Relay
from shared.settings import read_settings
from tests.examples import NOON, call, inbound

CONFIGURATION = parse(
    """
    upstreams = [{name = "east", kind = "openai", url = "https://east.example/v1", key = "k"}]
    deployments = [{name = "gpt-4o", model = "gpt-4o", upstream = "east"}]
    prices = [{model = "gpt-4o", input = 2, output = 10}]
    """,
    {},
)
POOL: Pool = CONFIGURATION.pools["gpt-4o"]


class Body:
    """An upstream's whole answer."""

    peeked = b""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body

    async def close(self) -> None:
        return


class Endless(Body):
    """One that begins and does not end."""

    @override
    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body
        await asyncio.Event().wait()


class Away:
    """An archive that takes the blocks of a call, and is away when they are to become it."""

    is_empty = False

    async def add(self, _: bytes) -> None:
        return

    async def finish(self, _: bytes, __: bytes) -> None:
        raise ServiceRequestError("away")


class Parts:
    """What stands around the way back, and notes what it is told."""

    def __init__(self) -> None:
        self.settled: list[tuple[int | None, Decimal | None]] = []
        self.calls: list[ArchivedCall] = []
        self.registered: list[str] = []

    def settle(self, _: Admission, *, tokens: int | None, money: Decimal | None) -> None:
        self.settled.append((tokens, money))

    async def closed(self, ended: ArchivedCall) -> None:
        self.calls.append(ended)

    def writer(self, _: str) -> "Away":
        return Away()

    async def register(self, objects: Iterable[StoredObject], **_: bool) -> None:
        self.registered += [each.object_id for each in objects]

    async def answer(self, status: int, media_type: str, body: bytes, *, is_failure: bool = False) -> bytes:
        """What the client gets."""
        answer = await self.begun(status, media_type, Body(body), is_failure=is_failure)
        if isinstance(answer, bytes):
            return answer
        got = b"".join([chunk async for chunk in answer.chunks()])
        await answer.finish()
        return got

    async def begun(
        self,
        status: int,
        media_type: str,
        body: Body,
        *,
        is_failure: bool = False,
        on_disconnect: str = "drain",
        asked: Call | None = None,
        unrecordable: str = "refuse",
    ) -> bytes | Relay:
        part: Any = self
        settings = read_settings({"TOLLGATE_WHEN_UNRECORDABLE": unrecordable})
        answering = Answering(publisher=part, objects=part, limits=part, now=lambda: NOON, settings=settings)
        lease = HealthBoard(now=lambda: 0.0, random=lambda: 0.0).begin(POOL)
        assert lease is not None
        asked = asked or call(b'{"model":"gpt-4o","messages":[]}')
        client = Client(id="team-blue", on_disconnect=OnDisconnect(on_disconnect))
        asked = msgspec.structs.replace(asked, client=client)
        served = Served(
            attempts=(),
            status=status,
            target=lease.target,
            headers=(("content-type", media_type),),
            is_failure=is_failure,
        )
        exchange = Exchange(
            call=asked,
            record=open_record(asked),
            served=served,
            response=body,
            lease=lease,
            admission=Admission(()),
            prices=CONFIGURATION.prices,
            deadline=asyncio.get_running_loop().time() + 10,
        )
        return await answering.answer(exchange)


def error(code: str) -> bytes:
    return json.dumps({"error": {"message": "no", "code": code}}).encode()


NOTHING = (0, Decimal(0))
UNKNOWN = (None, None)

SETTLED: dict[str, tuple[int, str, bytes, tuple[Any, Any]]] = {
    "usage is told": (
        200,
        "application/json",
        b'{"usage":{"prompt_tokens":9,"completion_tokens":2}}',
        (11, Decimal("0.000038")),
    ),
    "none is told": (200, "application/json", b"{}", UNKNOWN),
    "the request is wrong": (400, "application/json", error("invalid_value"), NOTHING),
    "the upstream's limit": (429, "application/json", error("rate_limit_exceeded"), NOTHING),
    "a failure, in HTML": (502, "text/html", b"<h1>Bad Gateway</h1>", NOTHING),
    "a filtered prompt, which is billed": (400, "application/json", error("content_filter"), UNKNOWN),
    "a time out, which is billed": (408, "application/json", error("timeout"), UNKNOWN),
}


@pytest.mark.parametrize(("status", "media_type", "body", "settled"), SETTLED.values(), ids=SETTLED.keys())
async def test_an_error_that_nobody_bills_takes_nothing_of_a_limit(
    status: int, media_type: str, body: bytes, settled: tuple[Any, Any]
) -> None:
    parts = Parts()
    assert await parts.answer(status, media_type, body) == body
    assert parts.settled == [settled]


async def test_a_failure_is_recorded_as_one_in_whatever_form_it_comes() -> None:
    for media_type, body in (("application/json", error("server_error")), ("text/html", b"<h1>Bad Gateway</h1>")):
        parts = Parts()
        assert await parts.answer(502, media_type, body, is_failure=True) == body
        (ended,) = parts.calls
        assert ended.record.outcome is Outcome.UPSTREAM_ERROR, media_type


@pytest.mark.parametrize("is_counted", [True, False])
async def test_a_stream_that_is_stopped_takes_what_is_estimated_and_is_closed_where_that_fails_too(
    monkeypatch: pytest.MonkeyPatch, *, is_counted: bool
) -> None:
    async def estimated(*_: Any) -> TokenUsage:
        if not is_counted:
            raise RuntimeError("no tokenizer")
        return TokenUsage(input_tokens=9, output_tokens=2)

    monkeypatch.setattr(answers, "estimate", estimated)
    parts = Parts()
    body = Endless(b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n')
    relay = await parts.begun(200, "text/event-stream", body, on_disconnect="cancel")
    assert isinstance(relay, Relay)
    await anext(relay.chunks())
    await relay.finish()
    assert parts.settled == [(11, Decimal("0.000038")) if is_counted else UNKNOWN]
    (ended,) = parts.calls
    assert (ended.record.outcome, ended.record.usage is not None) == (Outcome.CLIENT_CLOSED, is_counted)


@pytest.mark.parametrize(
    ("unrecordable", "outcome"), [("refuse", Outcome.UPSTREAM_ERROR), ("allow", Outcome.COMPLETED)]
)
async def test_a_call_whose_answer_the_archive_does_not_take_to_its_end_is_recorded_without_it(
    unrecordable: str, outcome: Outcome
) -> None:
    """What it used is known: it is not to become a call of which nothing is."""
    parts, sound = Parts(), bytes(9_000_000)
    asking = call(b'{"model":"gpt-4o","input":"hello"}', inbound("/v1/audio/speech"))
    relay = await parts.begun(200, "audio/wav", Body(sound), asked=asking, unrecordable=unrecordable)
    assert isinstance(relay, Relay)
    with nullcontext() if unrecordable == "allow" else pytest.raises(NotReady):
        assert b"".join([chunk async for chunk in relay.chunks()]) == sound
    await relay.finish()
    (ended,) = parts.calls
    assert (ended.request, ended.response) == (asking.body, b"")
    assert (ended.record.outcome, ended.record.usage) == (outcome, TokenUsage(characters=5))
    assert (ended.record.response_bytes, ended.record.response_sha256) == (
        len(sound),
        hashlib.sha256(sound).hexdigest(),
    )


STOPPED = {
    "speech": ("/v1/audio/speech", b'{"model":"gpt-4o","input":"hello"}', "audio/mpeg", b"ID3", UsageSource.COUNTED),
    "a stream of speech": (
        "/v1/audio/speech",
        b'{"model":"gpt-4o","input":"hello","stream_format":"sse"}',
        "text/event-stream",
        b'data: {"type":"speech.audio.delta","audio":"AAAA"}\n\n',
        UsageSource.COUNTED,
    ),
    "pictures": (
        "/v1/images/generations",
        b'{"model":"gpt-4o","prompt":"a cat","stream":true}',
        "text/event-stream",
        b'data: {"type":"image_generation.partial_image","b64_json":"AAAA"}\n\n',
        UsageSource.NONE,
    ),
}


@pytest.mark.parametrize(("path", "asked", "media_type", "begins", "source"), STOPPED.values(), ids=STOPPED.keys())
async def test_an_answer_without_words_that_is_stopped_is_not_estimated(
    path: str, asked: bytes, media_type: str, begins: bytes, source: UsageSource
) -> None:
    """It would be no tokens of output, in place of the characters that are known."""
    parts = Parts()
    asking = call(asked, inbound(path))
    relay = await parts.begun(200, media_type, Endless(begins), on_disconnect="cancel", asked=asking)
    assert isinstance(relay, Relay)
    await anext(relay.chunks())
    await relay.finish()
    (ended,) = parts.calls
    used = TokenUsage(characters=5) if source is UsageSource.COUNTED else None
    assert (ended.record.usage_source, ended.record.usage) == (source, used)
    assert parts.settled == [UNKNOWN]


@pytest.mark.parametrize("media_type", ["application/json", "text/event-stream", "application/octet-stream"])
async def test_the_content_of_a_file_is_passed_on_unread_whatever_it_looks_like(media_type: str) -> None:
    """Nothing in it becomes the client's, and it may be of any size."""
    request = msgspec.structs.replace(inbound("/v1/files/file-1/content"), method="GET")
    parts, content = Parts(), b'{"id":"file-0123456789abcdef"}'
    answer = await parts.begun(200, media_type, Body(content), asked=call(b"", request))
    assert isinstance(answer, Relay)
    assert b"".join([chunk async for chunk in answer.chunks()]) == content
    await answer.finish()
    assert parts.registered == []
    assert [each.response for each in parts.calls] == [content]


async def test_an_error_in_place_of_a_files_content_is_read() -> None:
    request = msgspec.structs.replace(inbound("/v1/files/file-1/content"), method="GET")
    parts = Parts()
    assert await parts.begun(404, "application/json", Body(error("gone")), asked=call(b"", request)) == error("gone")
    assert parts.calls[0].record.error == "gone"
