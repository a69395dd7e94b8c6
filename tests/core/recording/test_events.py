"""What travels from the gateway to the recorder."""

import base64
import hashlib
import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.recording import archive
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.events import (
    VERSION,
    Body,
    Chunk,
    Closed,
    Event,
    Undecodable,
    decode,
    encode,
    pack,
    split,
    unpack,
)
from shared.transports.storage_queue import StorageQueue
from tests.examples import archived, call_id, closed, closed_record, opened, opened_record

CONTENT = (
    st.binary() | st.text().map(str.encode) | st.sampled_from([b"", b"\n", b"\r\n\x00", "\u2028".encode(), b"\xff"])
)


@given(CONTENT, CONTENT)
def test_bodies_arrive_byte_for_byte(request: bytes, response: bytes) -> None:
    """Guards that a call is recorded as it was sent, whatever its bytes."""
    event = decode(encode(Closed(record=closed_record(), request=Body.of(request), response=Body.of(response))))
    assert isinstance(event, Closed)
    assert event.request is not None
    assert event.response is not None
    assert (event.request.content, event.response.content) == (request, response)


def test_text_travels_as_text_and_the_rest_as_base64() -> None:
    assert json.loads(msgspec.json.encode(Body.of("grün".encode()))) == {"text": "grün"}
    assert json.loads(msgspec.json.encode(Body.of(b"\xff"))) == {"base64": base64.b64encode(b"\xff").decode()}
    assert json.loads(msgspec.json.encode(Body.of(b""))) == {"text": ""}


CHUNK = Chunk(call_id=call_id(), index=1, count=3, sha256="ab" * 32, data=b"\xff\n\x00")

EVENTS: dict[str, Event] = {
    "opened": opened(),
    "a chunk": CHUNK,
    "closed": closed(),
    "closed, its bodies in the archive": Closed(record=closed_record()),
    "closed, with nothing known": Closed(record=opened_record(), request=Body.of(b""), response=Body.of(b"")),
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
def test_an_event_is_one_line_and_comes_back_the_same(event: Event) -> None:
    line = encode(event)
    assert b"\n" not in line
    assert decode(line) == event


def _without(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(event: dict[str, Any]) -> None:
        for step in path[:-1]:
            event = event[step]
        del event[path[-1]]

    return change


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a later version": (lambda event: event.update(v=VERSION + 1), f"version {VERSION + 1}"),
    "no kind": (_without("event"), "event"),
    "an unknown kind": (lambda event: event.update(event="paused"), "paused"),
    "no record": (_without("record"), "record"),
    "no client": (_without("record", "client_id"), "client_id"),
    "no call id of ours": (lambda event: event["record"].update(call_id="chatcmpl-1"), "chatcmpl-1|UUID"),
    "an unknown outcome": (lambda event: event["record"].update(outcome="fine"), "outcome"),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES.keys())
def test_what_is_no_event_says_why(change: Callable[[dict[str, Any]], Any], reason: str) -> None:
    event = json.loads(encode(closed()))
    change(event)
    with pytest.raises(Undecodable, match=reason):
        decode(json.dumps(event).encode())


CHUNK_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "beyond its count": ({"index": 3}, "chunk 3 of 3"),
    "before the first": ({"index": -1}, "chunk -1 of 3"),
    "of none": ({"index": 0, "count": 0}, "chunk 0 of 0"),
    "of a later version": ({"v": VERSION + 1}, f"version {VERSION + 1}"),
    "of no call of ours": ({"call_id": "chatcmpl-1"}, "chatcmpl-1|UUID"),
    "not in base64": ({"data": "*"}, "base64|data"),
    "with no data": ({"data": None}, "data"),
}


@pytest.mark.parametrize(("change", "reason"), CHUNK_CHANGES.values(), ids=CHUNK_CHANGES.keys())
def test_what_is_no_chunk_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode(json.dumps(json.loads(encode(CHUNK)) | change).encode())


GOLDEN = Path(__file__).parents[2] / "golden"
GOLDEN_V1: dict[str, Event] = {
    "event-v1-opened.json": opened(user_agent="grün", request_parameters={"temperature": 0.5, "tools": ["find"]}),
    "event-v1-closed.json": Closed(
        record=closed_record(finish_reasons=("stop", "length"), error="gone"),
        request=Body.of('{"content":"\u2028 grün"}\n'.encode()),
        response=Body.of(b"\xff\x00\n"),
    ),
    "event-v1-closed-archived.json": Closed(record=closed_record()),
    "event-v1-chunk.json": CHUNK,
}


@pytest.mark.parametrize(("name", "event"), GOLDEN_V1.items(), ids=GOLDEN_V1.keys())
def test_an_event_of_version_1_can_be_read_for_ever(name: str, event: Event) -> None:
    """tests/golden/event-v1-*.json were written by the first version; they are never written again."""
    (line,) = (GOLDEN / name).read_bytes().splitlines()
    assert decode(line) == event


@pytest.mark.parametrize(("name", "event"), GOLDEN_V1.items(), ids=GOLDEN_V1.keys())
def test_an_event_is_written_so_that_an_older_recorder_reads_it(name: str, event: Event) -> None:
    """Fields may be added. One that goes, or means another thing, is a new version with golden files of its own."""
    assert is_part_of(json.loads((GOLDEN / name).read_bytes()), json.loads(encode(event)))


def is_part_of(old: Any, new: Any) -> bool:
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and is_part_of(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(is_part_of, old, new))
    return bool(old == new)


NO_EVENTS = {
    "empty": b"",
    "not JSON": b"{",
    "not an object": b"[]",
    "not UTF-8": b'{"event":"\xff"}',
    "two in a line": encode(opened()) + encode(opened()),
    "nested beyond reason": b'{"event":"opened","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("line", NO_EVENTS.values(), ids=NO_EVENTS.keys())
def test_a_line_that_is_no_event_is_undecodable(line: bytes) -> None:
    with pytest.raises(Undecodable, match=r".+"):
        decode(line)


def test_fields_that_a_later_minor_change_adds_are_no_matter() -> None:
    event = json.loads(encode(opened())) | {"new": 1}
    event["record"]["newer"] = {"x": 1}
    assert decode(json.dumps(event).encode()) == opened()


LIMIT = 10
PACKS = {
    "nothing": ([], []),
    "one, below the limit": ([b"a" * 9], [b"a" * 9]),
    "one, at the limit": ([b"a" * 10], [b"a" * 10]),
    "one, above the limit": ([b"a" * 11], [b"a" * 11]),
    "two that fill a message with their line end": ([b"a" * 4, b"b" * 5], [b"aaaa\nbbbbb"]),
    "two, one byte too many": ([b"a" * 5, b"b" * 5], [b"a" * 5, b"b" * 5]),
    "two, one byte less": ([b"a" * 4, b"b" * 4], [b"aaaa\nbbbb"]),
    "one at the limit, then a small one": ([b"a" * 10, b"b"], [b"a" * 10, b"b"]),
    "one above the limit between small ones": ([b"a", b"b" * 11, b"c", b"d"], [b"a", b"b" * 11, b"c\nd"]),
    "their order stays": ([b"1", b"2", b"3", b"4", b"5", b"6"], [b"1\n2\n3\n4\n5", b"6"]),
}


@pytest.mark.parametrize(("events", "messages"), PACKS.values(), ids=PACKS.keys())
def test_events_share_messages_up_to_the_limit(events: list[bytes], messages: list[bytes]) -> None:
    assert list(pack(events, LIMIT)) == messages


@given(st.lists(st.integers(1, 30).map(lambda size: b"x" * size)), st.integers(1, 40))
def test_packing_loses_nothing_and_wastes_no_message(events: list[bytes], limit: int) -> None:
    messages = pack(events, limit)
    assert [event for message in messages for event in unpack(message)] == events
    assert all(len(message) <= limit or b"\n" not in message for message in messages)
    assert all(len(one) + 1 + len(unpack(next_)[0]) > limit for one, next_ in pairwise(messages))


LIMITS = {
    "storage queue": StorageQueue.max_message_bytes,
    "Event Hubs Basic": 250_000,
    "Event Hubs Standard": 1_000_000,
}


def a_call(size: int, number: int = 0) -> ArchivedCall:
    """A call whose archive object has that many bytes, of every value."""
    head = len(archive.encode(archived(number, request=b"", response=b"")))
    digits = len(str(size - head)) - 1  # its length stands in the head
    return archived(number, request=b"", response=random.Random(size).randbytes(size - head - digits))


def piece_size(limit: int) -> int:
    """The most that a chunk for messages of that size holds."""
    return len(split(a_call(3 * limit), limit)[0].data)


def joined(chunks: list[Chunk]) -> ArchivedCall:
    return archive.decode(b"".join(chunk.data for chunk in sorted(chunks, key=lambda chunk: chunk.index)))


@pytest.mark.parametrize("over", [-1, 0, 1])
@pytest.mark.parametrize("pieces", [1, 2, 7])
@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS.keys())
def test_chunks_fill_their_messages_and_never_more(limit: int, pieces: int, over: int) -> None:
    """Guards the transports' limits: every chunk's event, at every edge, fits into a message and wastes less than 2 %."""
    size = piece_size(limit)
    call = a_call(pieces * size + over)
    content = archive.encode(call)
    assert len(content) == pieces * size + over
    chunks = split(call, limit)
    lines = [encode(chunk) for chunk in chunks]
    assert len(chunks) == pieces + (over > 0)
    assert all(limit * 0.985 < len(line) <= limit for line in lines[:-1])
    assert len(lines[-1]) <= limit
    assert all(len(message) <= limit for message in pack(lines, limit))
    assert {(chunk.count, chunk.sha256) for chunk in chunks} == {(len(chunks), hashlib.sha256(content).hexdigest())}
    assert [decode(line) for line in lines] == chunks


@given(st.binary(max_size=5000), st.binary(max_size=5000), st.integers(1000, 3000), st.randoms())
def test_chunks_are_put_together_whatever_their_order_and_number(
    request: bytes, response: bytes, limit: int, chance: random.Random
) -> None:
    call = archived(request=request, response=response)
    chunks = list(split(call, limit))
    chance.shuffle(arrived := [*chunks, *chance.choices(chunks, k=3)])
    assert joined(list({chunk.index: chunk for chunk in arrived}.values())) == call


def test_the_envelope_of_a_chunk_has_room_to_spare() -> None:
    """Also that of the last chunk of the largest call in the smallest messages."""
    widest = Chunk(call_id=call_id(), index=999_998, count=999_999, sha256="f" * 64, data=b"")
    assert len(encode(widest)) < 300
