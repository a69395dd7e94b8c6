"""What each family of operations says it used, in one piece and streamed. Guards that nothing is counted twice."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from shared.core.api.operations import CATALOGUE
from shared.core.api.tap import StreamTap
from shared.core.usage import (
    Part,
    Reading,
    TokenUsage,
    parse_chat,
    parse_images,
    parse_object,
    parse_response,
    parse_speech,
    parse_transcription,
    spoken_characters,
)

OPERATIONS = {operation.name: operation for operation in CATALOGUE}

RESPONSES_USAGE = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 5, "cache_write_tokens_details": {}},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 123,
}
RESPONSES_READ = TokenUsage(
    input_tokens=36, cached_input_tokens=20, cache_write_input_tokens=5, output_tokens=87, reasoning_tokens=64
)
IMAGE_USAGE = {
    "input_tokens": 398,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 388},
    "output_tokens": 1056,
    "total_tokens": 1454,
}
SOUND_USAGE = {
    "type": "tokens",
    "input_tokens": 34,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 30},
    "output_tokens": 13,
    "total_tokens": 47,
}
SOUND_READ = TokenUsage(input_tokens=34, audio_input_tokens=30, output_tokens=13)

USAGES: dict[str, tuple[Callable[[bytes], Part], Any, TokenUsage | None]] = {
    "chat: cache writes and pictures": (
        parse_chat,
        {"usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cache_write_tokens": 4, "image_tokens": 3}}},
        TokenUsage(input_tokens=9, cache_write_input_tokens=4, image_input_tokens=3),
    ),
    "embeddings have input only": (
        parse_chat,
        {"object": "list", "data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 8, "total_tokens": 8}},
        TokenUsage(input_tokens=8),
    ),
    "a response": (parse_response, {"id": "resp_1", "usage": RESPONSES_USAGE}, RESPONSES_READ),
    "a response in the background": (parse_response, {"id": "resp_1", "status": "queued", "usage": None}, None),
    "a compaction": (parse_response, {"object": "response.compaction", "usage": RESPONSES_USAGE}, RESPONSES_READ),
    "a response that was looked at again": (parse_object, {"id": "resp_1", "usage": RESPONSES_USAGE}, None),
    "gpt-image": (
        parse_images,
        {"data": [{"b64_json": "aGk="}] * 2, "usage": IMAGE_USAGE},
        TokenUsage(input_tokens=398, image_input_tokens=388, output_tokens=1056, images=2),
    ),
    "gpt-image that says what its output is": (
        parse_images,
        {"data": [{}], "usage": {"output_tokens": 9, "output_tokens_details": {"image_tokens": 7, "text_tokens": 2}}},
        TokenUsage(output_tokens=9, image_output_tokens=7, images=1),
    ),
    "dall-e says nothing, so its images are counted": (
        parse_images,
        {"created": 1, "data": [{"url": "https://example.com/1.png"}, {"url": "https://example.com/2.png"}]},
        TokenUsage(images=2),
    ),
    "no images": (parse_images, {"created": 1, "data": []}, None),
    "a transcript billed in tokens": (parse_transcription, {"text": "hi", "usage": SOUND_USAGE}, SOUND_READ),
    "a transcript billed by time": (
        parse_transcription,
        {"text": "hi", "usage": {"type": "duration", "seconds": 3.5}},
        TokenUsage(audio_ms=3500),
    ),
    "a verbose transcript": (
        parse_transcription,
        {"text": "hi", "duration": 8.470000267028809, "segments": [{"id": 0}]},
        TokenUsage(audio_ms=8470),
    ),
    "a verbose transcript whose bill is rounded up": (
        parse_transcription,
        {"text": "hi", "duration": 8.47, "usage": {"type": "duration", "seconds": 9}},
        TokenUsage(audio_ms=9000),
    ),
    "a transcript billed in tokens that says how long it is": (
        parse_transcription,
        {"text": "hi", "duration": 1, "usage": SOUND_USAGE},
        msgspec.structs.replace(SOUND_READ, audio_ms=1000),
    ),
    "a transcript that says nothing": (parse_transcription, {"text": "hi"}, None),
}


@pytest.mark.parametrize(("parse", "body", "usage"), USAGES.values(), ids=USAGES.keys())
def test_the_usage_of_a_body(parse: Callable[[bytes], Part], body: Any, usage: TokenUsage | None) -> None:
    """Guards that unknown is not zero, for every family."""
    assert parse(json.dumps(body).encode()).usage == usage


RESPONSE = {"id": "resp_1", "object": "response", "model": "gpt-5-2025-08-07", "status": "in_progress", "usage": None}
ENDED = {**RESPONSE, "status": "completed", "usage": RESPONSES_USAGE}
READ = Reading(response_id="resp_1", model="gpt-5-2025-08-07", finish_reasons=("completed",), usage=RESPONSES_READ)

STREAMS: dict[str, tuple[str, list[dict[str, Any]], Reading]] = {
    "a response": (
        "responses",
        [
            {"type": "response.created", "response": RESPONSE},
            {"type": "response.output_text.delta", "delta": "gr\u00fc\u2028n \U0001f642"},
            {"type": "response.completed", "response": ENDED},
        ],
        READ,
    ),
    "a response that ran out of room": (
        "responses",
        [
            {
                "type": "response.incomplete",
                "response": {**ENDED, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            }
        ],
        msgspec.structs.replace(READ, finish_reasons=("max_output_tokens",)),
    ),
    "a response that failed": (
        "responses",
        [
            {
                "type": "response.failed",
                "response": {**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "no"}},
            }
        ],
        msgspec.structs.replace(READ, finish_reasons=("failed",), usage=None, error="server_error"),
    ),
    "a response with an error event": (
        "responses",
        [
            {"type": "response.created", "response": RESPONSE},
            {"type": "error", "code": "rate_limit_exceeded", "message": "no", "sequence_number": 1},
        ],
        msgspec.structs.replace(READ, finish_reasons=(), usage=None, error="rate_limit_exceeded"),
    ),
    "an error event that holds its error": (
        "responses",
        [{"type": "error", "error": {"type": "server_error", "code": None, "message": "no"}}],
        Reading(error="server_error"),
    ),
    "a response that is replayed": (
        "responses.retrieve",
        [{"type": "response.created", "response": RESPONSE}, {"type": "response.completed", "response": ENDED}],
        msgspec.structs.replace(READ, finish_reasons=(), usage=None),
    ),
    "images": (
        "images.generate",
        [
            {"type": "image_generation.partial_image", "b64_json": "aGk=", "partial_image_index": 0},
            {"type": "image_generation.completed", "b64_json": "aGk=", "usage": IMAGE_USAGE},
        ],
        Reading(usage=TokenUsage(input_tokens=398, image_input_tokens=388, output_tokens=1056, images=1)),
    ),
    "images that are edited": (
        "images.edit",
        [{"type": "image_edit.completed", "b64_json": "aGk=", "usage": {"input_tokens": 1}}],
        Reading(usage=TokenUsage(input_tokens=1, images=1)),
    ),
    "images that fail": ("images.generate", [{"type": "error", "error": {"code": "x"}}], Reading(error="x")),
    "a transcript": (
        "audio.transcriptions",
        [
            {"type": "transcript.text.delta", "delta": "hi"},
            {"type": "transcript.text.done", "text": "hi", "usage": SOUND_USAGE},
        ],
        Reading(usage=SOUND_READ),
    ),
    "speech": (
        "audio.speech",
        [
            {"type": "speech.audio.delta", "audio": "aGk="},
            {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}},
        ],
        Reading(usage=TokenUsage(input_tokens=14, output_tokens=101)),
    ),
    "a chat whose stream tells of an error": (
        "chat.completions",
        [
            {"choices": [{"delta": {"content": "hi"}}]},
            {"error": {"message": "no", "type": "server_error", "code": None}},
        ],
        Reading(error="server_error"),
    ),
}


def sse(event: dict[str, Any]) -> bytes:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


@pytest.mark.parametrize(("operation", "events", "reading"), STREAMS.values(), ids=STREAMS.keys())
def test_a_stream_is_read_wherever_it_is_cut(operation: str, events: list[dict[str, Any]], reading: Reading) -> None:
    """Guards that the terminal event, and it alone, is known for one, so that it can be held until the call is durable."""
    stream, before_last = b"".join(map(sse, events)), len(b"".join(map(sse, events[:-1])))
    for cut in range(len(stream) + 1):
        tap = StreamTap(OPERATIONS[operation], drop_usage_chunk=False)
        tap.feed(stream[:cut])
        assert tap.done is (cut == len(stream))
        tap.feed(stream[cut:])
        assert (tap.reading, tap.done, tap.unreadable) == (reading, True, 0)
    tap = StreamTap(OPERATIONS[operation], drop_usage_chunk=False)
    tap.feed(stream[:before_last])
    assert not tap.done


CREATING = {"responses", "responses.compact", *(name for name in OPERATIONS if name.startswith(("images.", "audio.")))}


def test_only_operations_that_make_something_count_it() -> None:
    """Guards that nothing is billed twice: retrieving, listing and cancelling read no usage."""
    counting = {operation.name for operation in CATALOGUE if operation.parse is not parse_object}
    assert counting == CREATING | {"chat.completions", "completions", "embeddings"}


FILTERS: dict[str, tuple[Callable[[bytes], Part], Any, tuple[str, ...]]] = {
    "nothing held back": (
        parse_chat,
        {"choices": [{"content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}], "x": True},
        (),
    ),
    "a completion": (
        parse_chat,
        {
            "choices": [
                {
                    "content_filter_results": {
                        "violence": {"filtered": True, "severity": "medium"},
                        "protected_material_text": {"filtered": False, "detected": True},
                    }
                }
            ]
        },
        ("completion.violence",),
    ),
    "a prompt, and a completion of two": (
        parse_chat,
        {
            "prompt_filter_results": [
                {"prompt_index": 0, "content_filter_results": {"jailbreak": {"filtered": True, "detected": True}}}
            ],
            "choices": [
                {"content_filter_results": {"hate": {"filtered": False}}},
                {"content_filter_results": {"hate": {"filtered": True}}},
            ],
        },
        ("prompt.jailbreak", "completion.hate"),
    ),
    "a prompt that was refused": (
        parse_chat,
        {
            "error": {
                "code": "content_filter",
                "innererror": {
                    "code": "ResponsibleAIPolicyViolation",
                    "content_filter_result": {"hate": {"filtered": True}, "sexual": {"filtered": False}},
                },
            }
        },
        ("prompt.hate",),
    ),
    "a blocklist of an older api-version": (
        parse_chat,
        {"choices": [{"content_filter_results": {"custom_blocklists": [{"filtered": True, "id": "b"}]}}]},
        ("completion.custom_blocklists",),
    ),
    "a response": (
        parse_response,
        {
            "content_filters": [
                {"source_type": "prompt", "content_filter_results": {"hate": {"filtered": False}}},
                {"source_type": "completion", "content_filter_results": {"hate": {"filtered": True}}},
            ]
        },
        ("completion.hate",),
    ),
    "a shape that nobody knows": (parse_chat, {"choices": [{"content_filter_results": [True]}]}, ()),
    "another one": (parse_chat, {"prompt_filter_results": {"filtered": True}}, ()),
    "and one more": (parse_chat, {"choices": [{"content_filter_results": {"hate": True}}]}, ()),
}


@pytest.mark.parametrize(("parse", "body", "found"), FILTERS.values(), ids=FILTERS.keys())
def test_what_a_content_filter_held_back(parse: Callable[[bytes], Part], body: Any, found: tuple[str, ...]) -> None:
    part = parse(json.dumps({**body, "usage": {}}).encode())
    assert part.content_filter == found
    assert part.usage is not None


def test_a_category_is_named_once_however_many_chunks_tell_of_it() -> None:
    part = Part(content_filter=("completion.hate",))
    assert Reading().after(part).after(Part()).after(part).content_filter == ("completion.hate",)


ERRORS = {
    "a code": ({"code": "x", "type": "y"}, "x"),
    "a number for a code": ({"code": 429}, "429"),
    "a type": ({"type": "y", "code": None}, "y"),
    "neither": ({"message": "no"}, "error"),
    "a text": ("no", "error"),
    "null": (None, None),
}


@pytest.mark.parametrize("parse", [parse_chat, parse_response, parse_images, parse_transcription, parse_speech])
@pytest.mark.parametrize(("error", "code"), ERRORS.values(), ids=ERRORS.keys())
def test_an_error_is_told_by_its_code_and_never_by_its_message(
    parse: Callable[[bytes], Part], error: Any, code: str | None
) -> None:
    assert parse(json.dumps({"error": error}).encode()).error == code


def test_an_object_that_failed_is_no_error_of_the_call() -> None:
    assert parse_object(b'{"id":"ftjob-1","error":{"code":"exceeded_quota"}}') == Part(response_id="ftjob-1")
    assert parse_object(b'{"id":"run_1","thread_id":"thread_1"}') == Part(response_id="run_1", parent_id="thread_1")
    assert parse_object(b'{"id":"evalrun_1","eval_id":"eval_1"}') == Part(response_id="evalrun_1", parent_id="eval_1")
    assert parse_object(b'{"error":{"code":"not_found"}}') == Part(error="not_found")


@pytest.mark.parametrize("count", [-1, 2**63, 1.5, "9"])
@pytest.mark.parametrize("parse", [parse_chat, parse_response, parse_images, parse_transcription])
def test_a_count_that_no_ledger_can_hold_is_not_read(parse: Callable[[bytes], Part], count: Any) -> None:
    body = {"usage": {"prompt_tokens": count, "input_tokens": count}}
    with pytest.raises(msgspec.DecodeError):
        parse(json.dumps(body).encode())


SPOKEN = {
    "characters, not bytes": (b'"gr\xc3\xbc\xc3\x9fe \xf0\x9f\x99\x82"', TokenUsage(characters=7)),
    "nothing to say": (b'""', TokenUsage(characters=0)),
    "no text": (b"[1]", None),
}


@pytest.mark.parametrize(("text", "usage"), SPOKEN.values(), ids=SPOKEN.keys())
def test_speech_uses_the_characters_of_its_request(text: bytes, usage: TokenUsage | None) -> None:
    assert spoken_characters({"input": msgspec.Raw(text)}) == usage
    assert spoken_characters({}) is None


ANSWERS_WITH_TIERS: dict[str, tuple[Callable[[bytes], Part], str, str | None]] = {
    "chat": (parse_chat, '{"id":"c","service_tier":"priority"}', "priority"),
    "a response": (parse_response, '{"id":"r","service_tier":"flex"}', "flex"),
    "the end of a response's stream": (
        parse_response, '{"type":"response.completed","response":{"id":"r","service_tier":"flex"}}', "flex",
    ),
    "an image": (parse_images, '{"data":[{}],"quality":"high","size":"1024x1024"}', "high/1024x1024"),
    "an image that does not say": (parse_images, '{"data":[{}]}', None),
    "none": (parse_chat, '{"id":"c","service_tier":null}', None),
    "of another shape": (parse_chat, '{"id":"c","service_tier":{"name":"x"}}', None),
}  # fmt: skip


@pytest.mark.parametrize(("parse", "answer", "tier"), ANSWERS_WITH_TIERS.values(), ids=ANSWERS_WITH_TIERS.keys())
def test_answers_say_what_their_price_depends_on(parse: Callable[[bytes], Part], answer: str, tier: str | None) -> None:
    assert parse(answer.encode()).tier == tier
    assert Reading(tier="before").after(parse(answer.encode())).tier == (tier or "before")
