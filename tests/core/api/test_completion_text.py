"""What an answer said, from a body and from a stream, whole and cut."""

import gzip
import json
from typing import Any

import pytest

from shared.core.api.completion_text import ChoiceText, Completion, ToolCall, completion_text
from shared.core.api.operations import CATALOGUE
from tests.examples import SENTENCES

OPERATIONS = {operation.name: operation for operation in CATALOGUE}


def chunk(index: int = 0, finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}]}


def called(index: int, **function: str) -> dict[str, Any]:
    return chunk(tool_calls=[{"index": index, "function": function}])


def message(finish_reason: str = "stop", **said: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant"} | said, "finish_reason": finish_reason}]}


def delta(kind: str, text: str, index: int = 0) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": text}


def ended(*output: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": status, "output": output} | more


MESSAGE = {
    "type": "message",
    "content": [{"type": "output_text", "text": "It is "}, {"type": "output_text", "text": "sunny."}],
}
THOUGHT = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Weather."}]}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "find", "arguments": '{"q":1}'}
CUSTOM = {"type": "custom_tool_call", "call_id": "call_2", "name": "run", "input": "ls"}

BODIES: dict[str, tuple[str, Any, tuple[ChoiceText, ...]]] = {
    "content": ("chat.completions", message(content="hi"), (ChoiceText(content="hi", finish_reason="stop"),)),
    "a refusal": (
        "chat.completions",
        message(content=None, refusal="I cannot."),
        (ChoiceText(refusal="I cannot.", finish_reason="stop"),),
    ),
    "tools": (
        "chat.completions",
        message(
            "tool_calls",
            content=None,
            tool_calls=[
                {"id": "call_1", "type": "function", "function": {"name": "a", "arguments": "{}"}},
                {"id": "call_2", "type": "custom", "custom": {"name": "b", "input": "ls"}},
            ],
        ),
        (
            ChoiceText(
                finish_reason="tool_calls",
                tool_calls=(
                    ToolCall(id="call_1", name="a", arguments="{}"),
                    ToolCall(id="call_2", name="b", arguments="ls"),
                ),
            ),
        ),
    ),
    "a function, as it was called before tools": (
        "chat.completions",
        message(function_call={"name": "a", "arguments": "{}"}),
        (ChoiceText(tool_calls=(ToolCall(name="a", arguments="{}"),), finish_reason="stop"),),
    ),
    "reasoning of other servers": (
        "chat.completions",
        message(content="4", reasoning_content="2+2"),
        (ChoiceText(content="4", reasoning="2+2", finish_reason="stop"),),
    ),
    "content in parts": (
        "chat.completions",
        message(content=[{"type": "text", "text": "a"}, {"type": "other"}, {"type": "text", "text": "b"}]),
        (ChoiceText(content="ab", finish_reason="stop"),),
    ),
    "speech": (
        "chat.completions",
        message(content=None, audio={"id": "audio_1", "data": "aGk=", "transcript": "hi"}),
        (ChoiceText(content="hi", finish_reason="stop"),),
    ),
    "choices out of order": (
        "completions",
        {"choices": [{"index": 1, "text": "b", "finish_reason": "length"}, {"index": 0, "text": "a"}]},
        (ChoiceText(content="a"), ChoiceText(content="b", finish_reason="length")),
    ),
    "a response": (
        "responses",
        ended(THOUGHT, MESSAGE, CALL, CUSTOM),
        (
            ChoiceText(
                content="It is sunny.",
                reasoning="Weather.",
                finish_reason="completed",
                tool_calls=(
                    ToolCall(id="call_1", name="find", arguments='{"q":1}'),
                    ToolCall(id="call_2", name="run", arguments="ls"),
                ),
            ),
        ),
    ),
    "a response that is refused": (
        "responses",
        ended({"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}),
        (ChoiceText(refusal="No.", finish_reason="completed"),),
    ),
    "a response that ran out of room": (
        "responses",
        ended(MESSAGE, status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        (ChoiceText(content="It is sunny.", finish_reason="max_output_tokens"),),
    ),
    "a response in the background": ("responses", ended(status="queued"), (ChoiceText(),)),
    "a transcript": ("audio.transcriptions", {"text": "hi"}, (ChoiceText(content="hi"),)),
    "embeddings": ("embeddings", {"object": "list", "data": [{"embedding": [0.1]}]}, ()),
    "images": ("images.generate", {"data": [{"b64_json": "aGk="}]}, ()),
    "a stored response": ("responses.retrieve", ended(MESSAGE), ()),
    "an error": ("chat.completions", {"error": {"message": "no"}}, ()),
    "an error of the Responses API": ("responses", {"error": {"message": "no"}}, ()),
    "an error of a transcription": ("audio.transcriptions", {"error": {"message": "no"}}, ()),
}


@pytest.mark.parametrize(("operation", "body", "choices"), BODIES.values(), ids=BODIES.keys())
def test_what_a_body_says(operation: str, body: Any, choices: tuple[ChoiceText, ...]) -> None:
    content = json.dumps(body).encode()
    expected = Completion(choices=choices)
    assert completion_text(OPERATIONS[operation], content) == expected
    assert completion_text(OPERATIONS[operation], gzip.compress(content), "gzip") == expected


SAID = "".join(SENTENCES.values())
STREAMS: dict[str, tuple[str, list[dict[str, Any]], ChoiceText]] = {
    "content": (
        "chat.completions",
        [
            {"choices": [], "prompt_filter_results": []},
            chunk(role="assistant", content=""),
            *(chunk(content=text) for text in SENTENCES.values()),
            chunk(finish_reason="stop"),
            {"choices": [], "usage": {"prompt_tokens": 1}},
        ],
        ChoiceText(content=SAID, finish_reason="stop"),
    ),
    "tools, in turns": (
        "chat.completions",
        [
            chunk(content=None, tool_calls=[{"index": 0, "id": "call_1", "function": {"name": "a", "arguments": ""}}]),
            called(0, arguments='{"q":'),
            chunk(tool_calls=[{"index": 1, "id": "call_2", "function": {"name": "b", "arguments": "{"}}]),
            called(0, arguments="1}"),
            called(1, arguments="}"),
            chunk(finish_reason="tool_calls"),
        ],
        ChoiceText(
            finish_reason="tool_calls",
            tool_calls=(
                ToolCall(id="call_1", name="a", arguments='{"q":1}'),
                ToolCall(id="call_2", name="b", arguments="{}"),
            ),
        ),
    ),
    "a response": (
        "responses",
        [
            {"type": "response.created", "response": ended(status="in_progress")},
            delta("reasoning_summary_text", "Weather."),
            {"type": "response.output_item.added", "output_index": 1, "item": {"type": "message", "content": []}},
            delta("output_text", "It is ", 1),
            delta("output_text", "sunny.", 1),
            {"type": "response.output_text.done", "output_index": 1, "text": "It is sunny."},
            {"type": "response.output_item.added", "output_index": 2, "item": {**CALL, "arguments": ""}},
            delta("function_call_arguments", '{"q":', 2),
            delta("function_call_arguments", "1}", 2),
            {"type": "response.output_item.done", "output_index": 2, "item": CALL},
            {"type": "response.completed", "response": ended(THOUGHT, MESSAGE, CALL)},
        ],
        ChoiceText(
            content="It is sunny.",
            reasoning="Weather.",
            finish_reason="completed",
            tool_calls=(ToolCall(id="call_1", name="find", arguments='{"q":1}'),),
        ),
    ),
    "a transcript": (
        "audio.transcriptions",
        [
            {"type": "transcript.text.delta", "delta": "h"},
            {"type": "transcript.text.delta", "delta": "i"},
            {"type": "transcript.text.done", "text": "hi"},
        ],
        ChoiceText(content="hi"),
    ),
}


def sse(events: list[dict[str, Any]]) -> list[bytes]:
    return [f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode() for event in events]


@pytest.mark.parametrize(("operation", "events", "choice"), STREAMS.values(), ids=STREAMS.keys())
def test_what_a_stream_says(operation: str, events: list[dict[str, Any]], choice: ChoiceText) -> None:
    stream = b"".join(sse(events))
    row, expected = OPERATIONS[operation], Completion(choices=(choice,))
    assert completion_text(row, stream + b"data: [DONE]\n\n") == expected
    assert completion_text(row, b": ping\n\n" + stream.replace(b"\n\n", b"\r\n\r\n")) == expected
    assert completion_text(row, gzip.compress(stream), "gzip") == expected


@pytest.mark.parametrize(("operation", "events", "choice"), STREAMS.values(), ids=STREAMS.keys())
def test_a_stream_that_is_cut_at_any_byte_says_what_had_come(
    operation: str, events: list[dict[str, Any]], choice: ChoiceText
) -> None:
    """Guards that an estimate of a stream that was stopped counts what was produced, and no more."""
    parts = sse(events)
    stream = b"".join(parts)
    whole = {sum(map(len, parts[:count])): count for count in range(len(parts) + 1)}
    seen = ChoiceText()
    for cut in range(len(stream) + 1):
        choices = completion_text(OPERATIONS[operation], stream[:cut]).choices
        said = choices[0] if choices else ChoiceText()
        assert choice.content.startswith(said.content)
        assert choice.reasoning.startswith(said.reasoning)
        assert len(said.content) >= len(seen.content)
        if cut in whole:
            assert choices == completion_text(OPERATIONS[operation], b"".join(parts[: whole[cut]])).choices
        seen = said
    assert seen == choice


def test_a_response_that_is_cut_says_its_deltas() -> None:
    _, events, choice = STREAMS["a response"]
    (said,) = completion_text(OPERATIONS["responses"], b"".join(sse(events[:-1]))).choices
    assert said.tool_calls == choice.tool_calls
    assert (said.content, said.reasoning, said.finish_reason) == (choice.content, choice.reasoning, None)


def test_a_gzip_stream_that_is_cut_says_what_can_be_unpacked() -> None:
    stream = b"".join(sse([chunk(content=f"word {number} ") for number in range(2000)]))
    packed = gzip.compress(stream)
    (said,) = completion_text(OPERATIONS["chat.completions"], packed[: len(packed) // 2], "gzip").choices
    assert said.content.startswith("word 0 word 1 word 2 ")


UNREADABLE = {
    "not JSON": (b"{not json", None),
    "cut": (b'{"choices":[{"message":{"content":"a', None),
    "empty": (b"", None),
    "not gzip": (b"{}", "gzip"),
    "an encoding that is not read here": (b"\x0b\x02\x80", "br"),
    "of another shape": (b'{"choices":"none"}', None),
}


@pytest.mark.parametrize(("body", "encoding"), UNREADABLE.values(), ids=UNREADABLE.keys())
@pytest.mark.parametrize("operation", ["chat.completions", "responses"])
def test_what_cannot_be_read_says_nothing(operation: str, body: bytes, encoding: str | None) -> None:
    assert completion_text(OPERATIONS[operation], body, encoding) == Completion()


def test_an_event_that_cannot_be_read_is_left_out() -> None:
    stream = b"".join(
        [*sse([chunk(content="a")]), b"data: {not json\n\n", b"data: \xff\n\n", *sse([chunk(content="b")])]
    )
    assert completion_text(OPERATIONS["chat.completions"], stream) == Completion(choices=(ChoiceText(content="ab"),))
