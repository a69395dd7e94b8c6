"""What the upstream answers is what the client gets, byte for byte, however it is framed, cut or encoded."""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest

from devtools.simulator.account import Entry
from tests.stack import Stack

type Ask = Callable[..., Awaitable[tuple[httpx.Response, bytes, Entry]]]
"""(what httpx is to POST, a fault) -> the answer, its bytes as they came, and what the simulator says it sent."""

HARD: Any = [{"role": "user", "content": "bytes 8"}]  # the answer has U+2028 and characters of four bytes
USAGE = {"include_usage": True}
SOUND = {"file": ("said.wav", b"RIFF" + b"\x00" * 40_000)}

REQUESTS: dict[str, dict[str, Any]] = {
    # what to ask for: path, and json or data and files
    "chat": {"url": "chat/completions", "json": {"model": "gpt-4o", "messages": HARD}},
    "chat stream": {
        "url": "chat/completions",
        "json": {"model": "gpt-4o", "messages": HARD, "stream": True, "stream_options": USAGE},
    },
    "completions stream": {
        "url": "completions",
        "json": {"model": "gpt-4o", "prompt": "bytes 26", "max_tokens": 64, "stream": True, "stream_options": USAGE},
    },
    "responses": {"url": "responses", "json": {"model": "gpt-4o", "input": "bytes 26"}},
    "responses stream": {"url": "responses", "json": {"model": "gpt-4o", "input": "bytes 26", "stream": True}},
    "embeddings": {
        "url": "embeddings",
        "json": {"model": "text-embedding-3-small", "input": "a", "dimensions": 16, "encoding_format": "base64"},
    },
    "moderations": {"url": "moderations", "json": {"model": "omni-moderation-latest", "input": "a"}},
    "image stream": {
        "url": "images/generations",
        "json": {"model": "gpt-image-1", "prompt": "a pier", "stream": True},
    },
    "form": {"url": "audio/transcriptions", "data": {"model": "whisper-1"}, "files": SOUND},
    "form, text": {
        "url": "audio/transcriptions",
        "data": {"model": "whisper-1", "response_format": "vtt"},
        "files": SOUND,
    },
    "form, stream": {
        "url": "audio/transcriptions",
        "data": {"model": "gpt-4o-transcribe", "stream": "true"},
        "files": SOUND,
    },
    "sound": {"url": "audio/speech", "json": {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Mind the gap"}},
    "sound stream": {
        "url": "audio/speech",
        "json": {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Mind the gap", "stream_format": "sse"},
    },
    "an object": {"url": "vector_stores", "json": {"name": "Zürich \u2028"}},
}

FRAMINGS = {
    "as usual": "",
    "CRLF": "crlf",
    "no space": "no-space",
    "comments": "comments",
    "cut at every byte": "split-bytes=1",
    "all of these": "split-bytes=1; crlf; no-space; comments",
}

FAULTS = FRAMINGS | {
    "gzip": "gzip",
    "gzip, cut": "gzip; split-bytes=1",
    "padded": "huge-mb=0.3",
    "broken JSON": "malformed-json",
    "no usage": "no-usage",
    "a refusal": "status=400",
    "a filtered prompt": "filter-prompt",
}


@pytest.fixture(scope="module")
async def http(anyio_backend: str, stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{stack.host.base_url}/v1/", timeout=30) as client:
        yield client


@pytest.fixture
def ask(stack: Stack, http: httpx.AsyncClient) -> Ask:
    async def asked(request: Mapping[str, Any], fault: str = "") -> tuple[httpx.Response, bytes, Entry]:
        headers = {"authorization": f"Bearer {stack.key()}", "accept-encoding": "gzip"}
        if fault:
            headers["x-simulator-fault"] = fault
        stack.simulator.clear_account()
        sent = http.build_request("POST", headers=headers, **request)
        await sent.aread()
        answer = await http.send(sent, stream=True)
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])
        [entry] = await stack.simulator.settled(1)
        return answer, raw, entry

    return asked


def cases() -> Iterator[tuple[str, str]]:
    """What to ask and how to fail: a framing is a stream's."""
    for name in REQUESTS:
        for fault in FAULTS:
            if fault not in FRAMINGS or "stream" in name or fault in ("as usual", "cut at every byte"):
                yield name, fault


@pytest.mark.parametrize(("name", "fault"), list(cases()))
async def test_the_client_gets_the_upstreams_bytes(ask: Ask, name: str, fault: str) -> None:
    wanted = FAULTS[fault]
    if (
        REQUESTS[name]["url"] == "audio/speech"
    ):  # too long for every byte, and without characters that a cut could break
        wanted = wanted.replace("split-bytes=1", "split-bytes=257")
    answer, raw, entry = await ask(REQUESTS[name], wanted)
    assert (answer.status_code, len(raw)) == (entry.status, entry.response_bytes)
    assert hashlib.sha256(raw).hexdigest() == entry.response_sha256
    assert entry.body_sha256 == hashlib.sha256(answer.request.content).hexdigest(), "nothing had to be rewritten"


@pytest.mark.parametrize("name", ["chat", "chat stream", "completions stream", "responses", "responses stream"])
async def test_the_answers_are_hard_to_carry(ask: Ask, name: str) -> None:
    """What is cut at every byte above has line separators inside lines and characters of several bytes."""
    _, raw, _ = await ask(REQUESTS[name])
    assert "\u2028".encode() in raw


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS.keys())
@pytest.mark.parametrize("name", ["chat stream", "completions stream"])
async def test_only_the_usage_chunk_that_the_gateway_asked_for_is_missing(
    stack: Stack, ask: Ask, name: str, framing: str
) -> None:
    body = {key: value for key, value in REQUESTS[name]["json"].items() if key != "stream_options"}
    answer, raw, entry = await ask(REQUESTS[name] | {"json": body}, framing)
    kept = (await stack.archived(answer.headers["x-tollgate-call-id"])).response
    assert hashlib.sha256(kept).hexdigest() == entry.response_sha256, "the archive has what the upstream sent"
    end = b"\r\n\r\n" if "crlf" in framing else b"\n\n"
    events = kept.split(end)
    [usage] = [event for event in events if b'"choices":[]' in event and b'"prompt_tokens"' in event]
    assert raw == kept.replace(usage + end, b"")


async def test_a_compressed_stream_is_handed_on_whole(ask: Ask) -> None:
    """Nothing can be taken out of it: the client gets a usage chunk that it did not ask for rather than broken bytes."""
    body = {"model": "gpt-4o", "messages": HARD, "stream": True}
    answer, raw, entry = await ask({"url": "chat/completions", "json": body}, "gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert hashlib.sha256(raw).hexdigest() == entry.response_sha256


SENT = {
    "spaces and odd numbers": b'{ "model" : "gpt-4o",\n "messages": [{"role":"user","content":"\xe2\x80\xa8"}], "x": 1.50e3 }',
    "an escape": b'{"model":"gpt-4o","messages":[{"role":"user","content":"\\u2028 \\ud83d\\ude42 \\n"}]}',
    "a field twice": b'{"model":"gpt-4o","messages":[{"role":"user","content":"a"}],"x":1,"x":2}',
    "a number that no float holds": (
        b'{"model":"gpt-4o","messages":[{"role":"user","content":"a"}],"x":12345678901234567890123}'
    ),
}


@pytest.mark.parametrize("body", SENT.values(), ids=SENT.keys())
async def test_a_request_is_handed_on_as_it_was_written(ask: Ask, body: bytes) -> None:
    _, _, entry = await ask({"url": "chat/completions", "content": body})
    assert (entry.status, entry.body_sha256) == (200, hashlib.sha256(body).hexdigest())


async def test_a_rewritten_request_keeps_every_other_field_as_it_was(ask: Ask) -> None:
    body = b'{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"\\u0041 \xe2\x80\xa8"}],"x":1.50e3}'
    _, _, entry = await ask({"url": "chat/completions", "content": body})
    expected = body[:-1] + b',"stream_options":' + json.dumps(USAGE, separators=(",", ":")).encode() + b"}"
    assert entry.body_sha256 == hashlib.sha256(expected).hexdigest()
