"""The archived form of a call."""

import hashlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.call_record import Outcome
from shared.core.recording.archive import (
    LONGEST_HEAD,
    ArchivedCall,
    Reading,
    blob_name,
    decode,
    digest_of,
    encode,
    head_in,
)
from shared.core.recording.gzipped import compressed
from tests.examples import archived, call_id, closed_record

GOLDEN = Path(__file__).parents[2] / "golden" / "call.archive"


@given(st.binary(), st.binary())
def test_any_bytes_come_back(request: bytes, response: bytes) -> None:
    call = archived(request=request, response=response)
    assert decode(encode(call)) == call


def test_the_same_call_gives_the_same_bytes_and_name() -> None:
    """Guards that archiving a call again changes nothing."""
    assert encode(archived()) == encode(archived())
    assert blob_name(call_id()) == f"2026/11/21/12/{call_id()}"


def test_the_first_line_is_the_record_and_the_rest_the_bodies_as_sent() -> None:
    line, _, bodies = encode(archived(request=b"one\n", response=b"\xfftwo")).partition(b"\n")
    assert bodies == b"one\n\xfftwo"
    header = msgspec.json.decode(line)
    assert (header["v"], header["request_bytes"], header["response_bytes"]) == (1, 4, 4)
    assert header["record"]["call_id"] == call_id()


def test_an_archive_that_is_cut_anywhere_is_not_taken_for_a_call() -> None:
    content = encode(archived(request=b"request", response=b"response"))
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r".+"):
            decode(content[:length])
    with pytest.raises(ValueError, match="promised"):
        decode(content + b"x")


def read_in_pieces(content: bytes, size: int) -> Reading:
    reading = Reading()
    for start in range(0, len(content), size):
        reading.feed(content[start : start + size])
    return reading


@given(st.binary(), st.binary(), st.integers(1, 5000))
def test_an_object_that_is_read_in_pieces_is_checked_as_a_whole(request: bytes, response: bytes, size: int) -> None:
    content = encode(archived(request=request, response=response))
    reading = read_in_pieces(content, size)
    assert reading.end() == head_in(content)
    assert reading.sha256 == hashlib.sha256(content).hexdigest()


WHOLE = encode(archived(request=b"request", response=b"response"))
NO_CALLS = {
    "cut": WHOLE[:-1],
    "longer": WHOLE + b"x",
    "another request": WHOLE.replace(b"\nrequest", b"\nrequesT"),
    "another response": WHOLE.replace(b"responsE", b"response")[:-1] + b"E",
    "no head": b"{broken\n" + WHOLE,
    "no line": b"x" * (LONGEST_HEAD + 10),
    "a line that has no end": b"{" * 10,
    "nothing": b"",
}


@pytest.mark.parametrize("content", NO_CALLS.values(), ids=NO_CALLS.keys())
@pytest.mark.parametrize("size", [1000, 100_000])
def test_what_is_no_call_is_not_taken_for_one_and_still_has_its_digest(content: bytes, size: int) -> None:
    reading = read_in_pieces(content, size)
    with pytest.raises(ValueError, match=r".+"):
        reading.end()
    assert reading.sha256 == hashlib.sha256(content).hexdigest()


def test_a_call_that_was_compressed_by_version_1_can_be_read_for_ever() -> None:
    """tests/golden/call-gzip.archive is the same call as call.archive, its head and its bodies compressed each by itself."""
    content = GOLDEN.with_name("call-gzip.archive").read_bytes()
    assert decode(content) == decode(GOLDEN.read_bytes())
    assert head_in(content) == head_in(content[:-20]) == head_in(GOLDEN.read_bytes())
    assert digest_of(content) == digest_of(GOLDEN.read_bytes())


@given(st.binary(), st.binary(), st.integers(1, 5000), st.integers(1, 100))
def test_a_compressed_object_is_checked_as_a_plain_one_is(
    request: bytes, response: bytes, size: int, part: int
) -> None:
    plain = encode(archived(request=request, response=response))
    content = compressed(plain[:part]) + compressed(plain[part:])
    reading = read_in_pieces(content, size)
    assert reading.end() == head_in(plain)
    assert reading.sha256 == hashlib.sha256(content).hexdigest()
    assert decode(content) == decode(plain)


@pytest.mark.parametrize("cut", [1, 9, 20, 300])
def test_a_compressed_object_that_is_cut_or_altered_is_no_call(cut: int) -> None:
    content = compressed(WHOLE)
    for wrong in (content[:-cut], content[:-cut] + b"?" + content[len(content) - cut + 1 :]):
        with pytest.raises(ValueError, match=r".+"):
            decode(wrong)
        with pytest.raises(ValueError, match=r".+"):
            read_in_pieces(wrong, 100).end()


def test_a_form_of_a_later_version_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="version 2"):
        decode(encode(archived()).replace(b'{"v":1', b'{"v":2', 1))


def test_a_call_that_was_archived_by_version_1_can_be_read_for_ever() -> None:
    """tests/golden/call.archive was written by the first version; it is never written again."""
    call = decode(GOLDEN.read_bytes())
    assert call == ArchivedCall(
        record=closed_record(finish_reasons=("stop", "grün"), outcome=Outcome.CLIENT_CLOSED, error="gone"),
        request=b'{"model":"gpt-4o","stream":true}\n',
        response=b'data: {"choices":[]}\n\ndata: [DONE]\n\n\xff\x00',
    )
