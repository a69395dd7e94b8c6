"""Server-sent events: wherever a stream is cut, the same events come out, and nothing is lost."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.api.sse import EventSplitter, data_of
from tests.examples import SENTENCES

STREAMS = {
    "LF": [b"data: 1\n\n", b"data: 2\n\n"],
    "CR LF": [b"data: 1\r\n\r\n", b"data: 2\r\n\r\n"],
    "CR": [b"data: 1\r\r", b"data: 2\r\r", b": \n\n"],
    "mixed line ends": [b"data: 1\r\n\n", b"data: 2\n\r\n", b"data: 3\n\r", b"data: 4\r\n\r", b"data: 5\n\n"],
    "a blank line more": [b"data: 1\n\n", b"\n\n", b"data: 2\n\n"],
    "comments and fields": [b": ping\n\n", b"event: x\nid: 7\ndata: 1\n\n"],
    "several data lines": [b"data: 1\ndata: 2\n\n"],
    **{name: [f"data: {text}\n\n".encode(), b"data: [DONE]\n\n"] for name, text in SENTENCES.items()},
}

DATA = {
    "what every provider sends": (b'data: {"a":1}\n\n', b'{"a":1}'),
    "no space": (b"data:x\n\n", b"x"),
    "two spaces: one belongs to the data": (b"data:  x\n\n", b" x"),
    "CR LF": (b"data: x\r\n\r\n", b"x"),
    "CR": (b"data: x\r\r", b"x"),
    "several lines are joined by LF": (b"data: 1\ndata:2\r\ndata: 3\n\n", b"1\n2\n3"),
    "other fields are not data": (b"event: done\nid: 1\nretry: 5\ndata: x\n\n", b"x"),
    "a field that only begins with data": (b"database: x\n\n", b""),
    "a data line without a colon": (b"data\n\n", b""),
    "a comment": (b": data: x\n\n", b""),
    "nothing": (b"", b""),
    "a colon inside": (b"data: a: b\n\n", b"a: b"),
    "U+2028 is data": ("data: a\u2028b\n\n".encode(), "a\u2028b".encode()),
    "not closed": (b"data: x", b"x"),
}


def split(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    splitter = EventSplitter()
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return events, splitter.rest


def cut_every(size: int, stream: bytes) -> list[bytes]:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 10_000])
@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS.keys())
def test_events_do_not_depend_on_where_the_stream_is_cut(events: list[bytes], size: int) -> None:
    assert split(cut_every(size, b"".join(events) + b"data: rest")) == (events, b"data: rest")


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS.keys())
def test_one_cut_at_any_byte_changes_nothing(events: list[bytes]) -> None:
    stream = b"".join(events) + b":"
    for cut in range(len(stream)):
        assert split([stream[:cut], stream[cut:]]) == (events, b":")


@given(st.lists(st.binary(max_size=8) | st.sampled_from([b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r", b"data: x"])))
def test_nothing_is_altered_or_lost(pieces: list[bytes]) -> None:
    """Guards that a client gets the upstream's bytes: events and rest, joined, are what was fed."""
    events, rest = split(pieces)
    assert b"".join(events) + rest == b"".join(pieces)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"x", b"data: y"]), max_size=12), st.integers(1, 5))
def test_any_cuts_give_the_events_of_the_whole(parts: list[bytes], size: int) -> None:
    stream = b"".join(parts) + b"x"
    expected = re.findall(rb"(?s:.*?)(?>\r\n|\n|\r)(?>\r\n|\n|\r)", stream)
    assert split(cut_every(size, stream))[0] == expected


def test_a_cr_at_the_end_waits_because_an_lf_may_follow() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1\r\n\r") == []
    assert splitter.feed(b"\ndata: 2") == [b"data: 1\r\n\r\n"]
    assert splitter.rest == b"data: 2"


def test_a_long_event_is_not_searched_again_with_every_piece() -> None:
    """A streamed image is one event of megabytes; reading it may not hold up every other call."""
    splitter, piece = EventSplitter(), b"A" * 16_384
    started_at = time.process_time()
    for _ in range(256):
        splitter.feed(piece)
    assert time.process_time() - started_at < 3  # 0.2 s where each byte is searched once, 6 s where again and again
    assert splitter.feed(b"\n\n") == [piece * 256 + b"\n\n"]


@pytest.mark.parametrize(("event", "data"), DATA.values(), ids=DATA.keys())
def test_the_data_of_an_event(event: bytes, data: bytes) -> None:
    assert data_of(event) == data


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=1))
def test_data_survives_any_line_end(end: str, lines: list[str]) -> None:
    event = "".join(f"data: {line}{end}" for line in lines) + end
    assert data_of(event.encode()) == "\n".join(lines).encode()
