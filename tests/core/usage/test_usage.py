"""What a chat completion says of itself. Guards that unknown is not zero."""

import json
from typing import Any

import msgspec
import pytest

from shared.core.usage import Part, Reading, TokenUsage, parse_chat

USAGES: dict[str, tuple[Any, TokenUsage | None]] = {
    "OpenAI": (
        {
            "prompt_tokens": 19,
            "completion_tokens": 10,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 2},
            "completion_tokens_details": {
                "reasoning_tokens": 4,
                "audio_tokens": 1,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        TokenUsage(
            input_tokens=19,
            cached_input_tokens=8,
            audio_input_tokens=2,
            output_tokens=10,
            reasoning_tokens=4,
            audio_output_tokens=1,
        ),
    ),
    "Azure before details": (
        {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29},
        TokenUsage(input_tokens=19, output_tokens=10),
    ),
    "zero is zero": (
        {"prompt_tokens": 0, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}},
        TokenUsage(input_tokens=0, output_tokens=0, cached_input_tokens=0),
    ),
    "details null": (
        {
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "prompt_tokens_details": None,
            "completion_tokens_details": {"reasoning_tokens": None},
        },
        TokenUsage(input_tokens=1, output_tokens=2),
    ),
    "details empty": ({"prompt_tokens": 1, "prompt_tokens_details": {}}, TokenUsage(input_tokens=1)),
    "no counts": ({}, TokenUsage()),
    "null": (None, None),
}


@pytest.mark.parametrize(("wire", "usage"), USAGES.values(), ids=USAGES.keys())
def test_the_usage_of_a_chat_completion(wire: Any, usage: TokenUsage | None) -> None:
    assert parse_chat(json.dumps({"usage": wire}).encode()).usage == usage


def test_a_body_without_usage_has_none() -> None:
    assert parse_chat(b'{"choices":[]}') == Part()


def test_unknown_fields_are_no_matter() -> None:
    assert parse_chat(b'{"id":"c","x":{"y":[1e400]},"usage":{"prompt_tokens":1,"cost":0.1}}') == Part(
        response_id="c", usage=TokenUsage(input_tokens=1), only_usage=True
    )


ONLY_USAGE = {
    "usage, no choices": ({"choices": [], "usage": {"prompt_tokens": 1}}, True),
    "usage, choices null": ({"choices": None, "usage": {"prompt_tokens": 1}}, True),
    "usage beside content": ({"choices": [{}], "usage": {"prompt_tokens": 1}}, False),
    "usage null": ({"choices": [], "usage": None}, False),
    "filter results": ({"choices": [], "prompt_filter_results": []}, False),
}


@pytest.mark.parametrize(("chunk", "only_usage"), ONLY_USAGE.values(), ids=ONLY_USAGE.keys())
def test_which_event_carries_only_usage(chunk: Any, *, only_usage: bool) -> None:
    assert parse_chat(json.dumps(chunk).encode()).only_usage is only_usage


def test_every_choice_gives_its_reason() -> None:
    body = {"choices": [{"finish_reason": "stop"}, {"finish_reason": None}, {}, {"finish_reason": "content_filter"}]}
    assert parse_chat(json.dumps(body).encode()).finish_reasons == ("stop", "content_filter")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model":1}', b'{"usage":{"prompt_tokens":"9"}}'])
def test_what_is_no_chat_completion_raises(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        parse_chat(body)


def test_a_reading_keeps_what_later_parts_do_not_tell() -> None:
    first = Reading().after(Part(model="a", response_id="1", usage=TokenUsage(input_tokens=1)))
    assert first.after(Part()) == first
    assert first.after(Part(model="b", usage=TokenUsage(input_tokens=0))) == Reading(
        model="b", response_id="1", usage=TokenUsage(input_tokens=0)
    )
