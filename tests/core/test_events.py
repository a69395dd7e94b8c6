"""What travels from the gateway to the recorder."""

import base64
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.events import VERSION, Body, Closed, Opened, Undecodable, decode, encode, pack, unpack
from tests.examples import closed, closed_record, opened, opened_record

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


EVENTS = {
    "opened": opened(),
    "closed": closed(),
    "closed, its bodies in the archive": Closed(record=closed_record()),
    "closed, with nothing known": Closed(record=opened_record(), request=Body.of(b""), response=Body.of(b"")),
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
def test_an_event_is_one_line_and_comes_back_the_same(event: Opened | Closed) -> None:
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
