"""The tap: the client gets the upstream's bytes, but for a usage chunk that it did not ask for."""

import gzip
import json
import zlib

import pytest

from shared.core.api.operations import CATALOGUE
from shared.core.api.tap import StreamTap, read_body
from shared.core.usage import Reading, TokenUsage
from tests.examples import SENTENCES

CHAT = next(operation for operation in CATALOGUE if operation.name == "chat.completions")

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def event(**chunk: object) -> bytes:
    return b"data: " + json.dumps({"id": "chatcmpl-1", "model": "gpt-4o-2024-11-20"} | chunk).encode() + b"\n\n"


def says(text: str, finish_reason: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return event(choices=[choice], **more)


FILTER_RESULTS = event(choices=[], prompt_filter_results=[{"prompt_index": 0}])
USAGE_CHUNK = event(choices=[], usage=USAGE)
DONE = b"data: [DONE]\n\n"

STREAMS = {
    "OpenAI": [
        says("a", usage=None),
        *(says(text) for text in SENTENCES.values()),
        says("", "stop"),
        USAGE_CHUNK,
        DONE,
    ],
    "Azure, whose first chunk has no choices": [FILTER_RESULTS, says("a"), says("", "stop"), USAGE_CHUNK, DONE],
    "usage null beside empty choices is no usage chunk": [event(choices=[], usage=None), says("a"), USAGE_CHUNK, DONE],
    "malformed events pass": [b"data: {not json\n\n", b'data: "text"\n\n', b"data: \xff\n\n", says("a"), USAGE_CHUNK],
    "CR LF and comments": [b": ping\r\n\r\n", says("a").replace(b"\n", b"\r\n"), USAGE_CHUNK, DONE],
    "no blank line at the end": [says("a"), USAGE_CHUNK, b"data: [DONE]"],
    "usage chunk cut off at the end": [says("a"), USAGE_CHUNK.rstrip()],
    "no usage at all": [says("a"), DONE],
    "empty": [],
}


def through(stream: bytes, size: int, *, drop: bool, encoding: str | None = None) -> tuple[bytes, StreamTap]:
    tap = StreamTap(CHAT, drop_usage_chunk=drop, encoding=encoding)
    out = [tap.feed(stream[start : start + size]) for start in range(0, len(stream), size)]
    return b"".join([*out, tap.end()]), tap


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS.keys())
def test_the_client_gets_the_upstreams_bytes_at_every_cut(events: list[bytes]) -> None:
    """Guards that no byte is altered where the client asked for usage, or none was asked for."""
    stream = b"".join(events)
    for size in (1, 2, 3, 5, 64, len(stream) + 1):
        assert through(stream, size, drop=False)[0] == stream


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS.keys())
def test_only_the_usage_chunk_goes_where_the_client_did_not_ask_for_it(events: list[bytes]) -> None:
    """Guards that nothing but the one chunk is taken out, wherever the stream is cut."""
    stream = b"".join(events)
    expected = b"".join(each for each in events if each.rstrip() != USAGE_CHUNK.rstrip())
    for size in (1, 2, 3, 5, 64, len(stream) + 1):
        assert through(stream, size, drop=True)[0] == expected


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("name", ["OpenAI", "Azure, whose first chunk has no choices", "CR LF and comments"])
def test_usage_is_read_whether_the_client_gets_it_or_not(name: str, *, drop: bool) -> None:
    for size in (1, 7, 10_000):
        _, tap = through(b"".join(STREAMS[name]), size, drop=drop)
        assert tap.reading.usage == TokenUsage(input_tokens=9, output_tokens=3)
        assert tap.reading.model == "gpt-4o-2024-11-20"
        assert tap.reading.response_id == "chatcmpl-1"
        assert tap.done
        assert tap.unreadable == 0


def test_a_chunk_with_content_and_usage_is_never_taken_out() -> None:
    stream = says("a", usage=USAGE) + says("b", usage=USAGE) + DONE
    assert through(stream, 5, drop=True)[0] == stream


def test_the_last_usage_counts_because_usage_is_cumulative() -> None:
    stream = says("a", usage=USAGE) + says("b", usage=USAGE | {"completion_tokens": 8})
    assert through(stream, 5, drop=False)[1].reading.usage == TokenUsage(input_tokens=9, output_tokens=8)


def test_finish_reasons_are_kept_in_order() -> None:
    stream = says("a", "stop") + says("b") + says("c", "length")
    assert through(stream, 5, drop=False)[1].reading.finish_reasons == ("stop", "length")


UNREADABLE = {
    "not JSON": b"{not json",
    "not UTF-8": b'{"model":"\xff"}',
    "not an object": b"[1]",
    "of another shape": b'{"choices":"none"}',
    "a lone surrogate": b'{"model":"\\ud800"}',
    "a number out of range": b'{"usage":{"prompt_tokens":1e999}}',
    "nested beyond reason": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE.keys())
@pytest.mark.parametrize("drop", [True, False])
def test_an_event_that_cannot_be_read_is_counted_and_passes(data: bytes, *, drop: bool) -> None:
    stream = b"data: " + data + b"\n\n" + says("a") + DONE
    out, tap = through(stream, 10_000_000, drop=drop)
    assert out == stream
    assert tap.unreadable == 1
    assert tap.done


def test_done_is_seen_once_its_event_is_whole() -> None:
    tap = StreamTap(CHAT, drop_usage_chunk=False)
    tap.feed(DONE[:-1])
    assert not tap.done
    tap.feed(DONE[-1:])
    assert tap.done


def test_done_inside_a_message_is_not_the_end() -> None:
    _, tap = through(says("[DONE]") + says("data: [DONE]\n\n"), 3, drop=False)
    assert not tap.done


def test_inside_an_event_means_that_the_client_has_its_beginning() -> None:
    tap, dropping = StreamTap(CHAT, drop_usage_chunk=False), StreamTap(CHAT, drop_usage_chunk=True)
    for each in (tap, dropping):
        each.feed(says("a") + b"data: {")
    assert tap.is_inside_event
    assert not dropping.is_inside_event
    tap.feed(b"}\n\n")
    assert not tap.is_inside_event


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_gzip_stream_is_read_and_passes_as_it_is(size: int) -> None:
    stream = b"".join(STREAMS["OpenAI"])
    out, tap = through(gzip.compress(stream), size, drop=False, encoding="gzip")
    assert gzip.decompress(out) == stream
    assert tap.reading.usage == TokenUsage(input_tokens=9, output_tokens=3)
    assert tap.done


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_an_encoded_stream_passes_as_it_is_although_a_usage_chunk_should_go(encoding: str) -> None:
    """The upstream was asked not to encode. Where it does all the same, its bytes still fit its Content-Encoding."""
    stream = gzip.compress(b"".join(STREAMS["OpenAI"]))
    for size in (7, 10_000):
        assert through(stream, size, drop=True, encoding=encoding)[0] == stream


ENCODINGS = {None: True, "identity": True, "gzip": False, "br": False}


@pytest.mark.parametrize(("encoding", "tells_errors"), ENCODINGS.items())
def test_nothing_of_ours_is_put_into_an_encoded_stream(encoding: str | None, *, tells_errors: bool) -> None:
    """Plain text among encoded bytes would make the client's decoder fail."""
    assert StreamTap(CHAT, drop_usage_chunk=False, encoding=encoding).tells_errors is tells_errors


def test_a_broken_gzip_stream_is_counted_and_passes() -> None:
    stream = b"\x1f\x8b\x08" + b"no gzip" * 10
    out, tap = through(stream, 7, drop=False, encoding="gzip")
    assert out == stream
    assert tap.unreadable > 0


BODY = json.dumps({"id": "chatcmpl-1", "model": "m", "choices": [{"finish_reason": "stop"}], "usage": USAGE}).encode()
READING = Reading(
    model="m", response_id="chatcmpl-1", finish_reasons=("stop",), usage=TokenUsage(input_tokens=9, output_tokens=3)
)

BODIES = {
    "plain": (BODY, None, READING),
    "gzip": (gzip.compress(BODY), "gzip", READING),
    "an encoding that we cannot read": (b"\x0b\x02\x80", "br", Reading()),
    "called gzip and is not": (BODY, "gzip", Reading()),
    "gzip, cut": (gzip.compress(BODY)[:20], "gzip", Reading()),
    "zlib, which some call gzip": (zlib.compress(BODY), "gzip", READING),
    "not JSON": (b"<html>", None, Reading()),
    "empty": (b"", None, Reading()),
    "an error": (b'{"error":{"message":"no","type":"x","param":null,"code":null}}', None, Reading(error="x")),
    **{name: (data, None, Reading()) for name, data in UNREADABLE.items()},
}


@pytest.mark.parametrize(("body", "encoding", "reading"), BODIES.values(), ids=BODIES.keys())
def test_a_whole_body_is_read_or_tells_nothing(body: bytes, encoding: str | None, reading: Reading) -> None:
    assert read_body(CHAT, body, encoding) == reading
