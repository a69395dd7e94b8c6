"""What we read of an answer is what the provider bills: our readers against the simulator's account."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from devtools.simulator import Simulator
from shared.core.api.completion_text import completion_text
from shared.core.api.operations import CATALOGUE, Form, Operation
from shared.core.api.tap import StreamTap, read_body
from shared.core.usage import Reading, TokenUsage
from shared.gateway.estimating import estimate

OPERATIONS = {operation.name: operation for operation in CATALOGUE}
SOUND = {"file": ("talk.wav", b"\0" * 96_000, "audio/wav")}
PICTURE = {"image": ("a.png", b"1", "image/png")}
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"properties": {"q": {"type": "string"}}}}}]
ASK = [{"role": "user", "content": "Say something about the river. " * 300}]
FUNCTION = [{"type": "function", "name": "find", "parameters": {"properties": {"q": {"type": "string"}}}}]

CALLS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "chat": ("chat.completions", {"model": "gpt-4o", "messages": ASK}, {}),
    "chat that reasons": ("chat.completions", {"model": "o3", "messages": ASK}, {}),
    "chat of several choices": ("chat.completions", {"model": "gpt-4o", "messages": ASK, "n": 3}, {}),
    "chat that calls a tool": (
        "chat.completions",
        {"model": "gpt-4o", "messages": ASK, "tools": TOOLS, "tool_choice": "required"},
        {},
    ),
    "chat that listens": (
        "chat.completions",
        {"model": "gpt-4o", "messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        {},
    ),
    "chat that is too long": ("chat.completions", {"model": "gpt-4o", "messages": ASK, "max_tokens": 5}, {}),
    "completion": ("completions", {"model": "gpt-35-turbo", "prompt": "Once upon", "max_tokens": 40}, {}),
    "embedding": ("embeddings", {"model": "text-embedding-3-small", "input": ["a", "river"]}, {}),
    "response": ("responses", {"model": "gpt-4o", "input": ASK}, {}),
    "response that reasons": ("responses", {"model": "gpt-5", "input": ASK}, {}),
    "response that calls a tool": (
        "responses",
        {"model": "gpt-5", "input": ASK, "tools": FUNCTION, "tool_choice": "required"},
        {},
    ),
    "response that is too long": ("responses", {"model": "gpt-4o", "input": ASK, "max_output_tokens": 5}, {}),
    "image": ("images.generate", {"model": "gpt-image-1", "prompt": "a gate"}, {}),
    "images billed by the piece": ("images.generate", {"model": "dall-e-3", "prompt": "a gate", "n": 2}, {}),
    "image that is edited": ("images.edit", {"model": "gpt-image-1", "prompt": "a gate"}, PICTURE),
    "image that is varied": ("images.create_variation", {"model": "dall-e-2", "n": "2"}, PICTURE),
    "transcript": ("audio.transcriptions", {"model": "gpt-4o-transcribe"}, SOUND),
    "transcript billed by time": ("audio.transcriptions", {"model": "whisper-1"}, SOUND),
    "verbose transcript": ("audio.transcriptions", {"model": "whisper-1", "response_format": "verbose_json"}, SOUND),
    "translation": ("audio.translations", {"model": "whisper-1"}, SOUND),
}
NOT_STREAMED = {
    "embedding",
    "images billed by the piece",
    "image that is varied",
    "transcript billed by time",
    "verbose transcript",
    "translation",
}


def billed(account: dict[str, Any]) -> TokenUsage:
    """The simulator's account in our words; where it says 0 and the wire says nothing, nothing."""
    into, out = ("prompt", "completion") if "prompt_tokens" in account else ("input", "output")
    inputs = account.get(f"{into}_tokens_details") or account.get("input_token_details") or {}
    outputs = account.get(f"{out}_tokens_details") or {}
    return TokenUsage(
        input_tokens=account.get(f"{into}_tokens"),
        cached_input_tokens=inputs.get("cached_tokens"),
        audio_input_tokens=inputs.get("audio_tokens"),
        image_input_tokens=inputs.get("image_tokens"),
        output_tokens=account.get(f"{out}_tokens"),
        reasoning_tokens=outputs.get("reasoning_tokens"),
        audio_output_tokens=outputs.get("audio_tokens"),
        audio_ms=account["seconds"] * 1000 if "seconds" in account else None,
    )


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator.start(background_ms=0) as started:
        yield started


@pytest.fixture
def simulator(running: Simulator) -> Simulator:
    """The one simulator, with an empty account."""
    running.clear_account()
    return running


async def ask(
    simulator: Simulator, operation: Operation, body: dict[str, Any], files: dict[str, Any], fault: str = ""
) -> bytes:
    """The bytes of the answer, as they are on the wire."""
    headers = {"authorization": "Bearer k", "x-simulator-fault": fault}
    sent = {"data": body, "files": files} if operation.form is Form.MULTIPART else {"json": body}
    url = f"{simulator.base_url}/v1/{operation.path}"
    async with httpx.AsyncClient(timeout=10) as client, client.stream("POST", url, headers=headers, **sent) as response:
        assert response.status_code == 200
        return b"".join([chunk async for chunk in response.aiter_raw()])


def through_tap(operation: Operation, stream: bytes, size: int, encoding: str | None) -> Reading:
    tap = StreamTap(operation, drop_usage_chunk=False, encoding=encoding)
    for start in range(0, len(stream), size):
        assert not tap.done or encoding  # which has bytes of its own behind the last event
        tap.feed(stream[start : start + size])
    assert (tap.done, tap.unreadable) == (True, 0)
    return tap.reading


async def account_of(simulator: Simulator) -> TokenUsage:
    return billed((await simulator.settled(1))[-1].usage or {})


@pytest.mark.parametrize("encoding", [None, "gzip"])
@pytest.mark.parametrize(("name", "body", "files"), CALLS.values(), ids=CALLS.keys())
async def test_a_body_says_what_is_billed(
    simulator: Simulator, name: str, body: dict[str, Any], files: dict[str, Any], encoding: str | None
) -> None:
    operation = OPERATIONS[name]
    content = await ask(simulator, operation, body, files, fault="gzip" if encoding else "")
    usage = read_body(operation, content, encoding).usage
    assert usage is not None
    images = usage.images if name.startswith("images.") else None
    assert images == (int(body.get("n", 1)) if name.startswith("images.") else None)
    assert usage == TokenUsage(**{**as_fields(await account_of(simulator)), "images": images})


@pytest.mark.parametrize("fault", ["", "crlf", "no_space", "comments", "gzip"])
@pytest.mark.parametrize("call", [call for call in CALLS if call not in NOT_STREAMED])
async def test_a_stream_says_what_is_billed_and_what_a_body_says(simulator: Simulator, call: str, fault: str) -> None:
    name, body, files = CALLS[call]
    operation, encoding = OPERATIONS[name], "gzip" if fault == "gzip" else None
    whole = await ask(simulator, operation, body, files)
    options = {"stream_options": {"include_usage": True}} if operation.usage_chunk else {}
    streamed = await ask(
        simulator, operation, {**body, **options, "stream": "true" if files else True}, files, fault=fault
    )
    usage = through_tap(operation, streamed, 7, encoding).usage
    assert usage == read_body(operation, whole, None).usage
    assert as_fields(usage) | {"images": None} == as_fields(await account_of(simulator))
    said, again = completion_text(operation, whole), completion_text(operation, streamed, encoding)
    assert without_ids(said) == without_ids(again)


async def test_speech_tells_in_events_only(simulator: Simulator) -> None:
    operation = OPERATIONS["audio.speech"]
    body = {"model": "gpt-4o-mini-tts", "input": "Hello there"}
    assert read_body(operation, await ask(simulator, operation, body, {}), None) == Reading()
    events = await ask(simulator, operation, {**body, "stream_format": "sse"}, {})
    assert through_tap(operation, events, 1000, None).usage == await account_of(simulator)


@pytest.mark.parametrize("wanted", ["text", "srt", "vtt"])
async def test_a_transcript_that_is_no_json_tells_nothing_but_its_words(simulator: Simulator, wanted: str) -> None:
    operation = OPERATIONS["audio.transcriptions"]
    content = await ask(simulator, operation, {"model": "whisper-1", "response_format": wanted}, SOUND)
    assert read_body(operation, content, None) == Reading()
    assert completion_text(operation, content).choices[0].content == content.decode()


async def test_a_response_made_in_the_background_is_not_known_and_not_counted_when_it_is_looked_at(
    simulator: Simulator,
) -> None:
    body = {"model": "gpt-4o", "input": "hello", "background": True}
    reading = read_body(OPERATIONS["responses"], await ask(simulator, OPERATIONS["responses"], body, {}), None)
    assert (reading.usage, reading.finish_reasons) == (None, ())
    for query in ("", "?stream=true"):
        url = f"{simulator.base_url}/v1/responses/{reading.response_id}{query}"
        async with httpx.AsyncClient() as client:
            content = (await client.get(url, headers={"authorization": "Bearer k"})).content
        if query:
            assert b'"output_tokens"' in content
            assert through_tap(OPERATIONS["responses.retrieve"], content, 1000, None).usage is None
        else:
            seen = read_body(OPERATIONS["responses.retrieve"], content, None)
            assert (seen.response_id, seen.usage) == (reading.response_id, None)


@pytest.mark.parametrize("name", ["chat.completions", "responses"])
async def test_an_estimate_of_a_stream_that_was_cut_counts_what_came(simulator: Simulator, name: str) -> None:
    operation = OPERATIONS[name]
    body = {"model": "gpt-4o", ("messages" if name == "chat.completions" else "input"): ASK}
    request = httpx.Request("POST", "http://x", json=body).content
    stream = await ask(simulator, operation, {**body, "stream": True}, {})
    whole = await estimate(operation, "gpt-4o", request, stream, None)
    half = await estimate(operation, "gpt-4o", request, stream[: len(stream) // 2], None)
    assert (
        whole.input_tokens == half.input_tokens == 1 + 1801 + 2 * 3
    )  # role, words, and what goes round one message and the answer
    assert 0 < (half.output_tokens or 0) < (whole.output_tokens or 0)


def as_fields(usage: TokenUsage | None) -> dict[str, int | None]:
    return {name: getattr(usage, name) for name in TokenUsage.__struct_fields__}


def without_ids(completion: Any) -> Any:
    """The simulator makes a new id for each call of a tool."""
    return [
        (
            each.content,
            each.refusal,
            each.reasoning,
            each.finish_reason,
            [(c.name, c.arguments) for c in each.tool_calls],
        )
        for each in completion.choices
    ]
