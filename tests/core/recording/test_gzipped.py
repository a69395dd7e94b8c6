"""gzip of what is recorded."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.recording import gzipped
from shared.core.recording.events import decode, unpack
from shared.core.recording.gzipped import Opener, compressed, plain

GOLDEN = Path(__file__).parents[2] / "golden"


@given(st.lists(st.binary(), min_size=1), st.integers(1, 50), st.integers(1, 50))
def test_whatever_was_compressed_comes_back_in_pieces_of_any_size(parts: list[bytes], size: int, most: int) -> None:
    content, whole = b"".join(map(compressed, parts)), b"".join(parts)
    opener = Opener(most)
    opened = [part for at in range(0, len(content), size) for part in opener.feed(content[at : at + size])]
    opener.end()
    assert b"".join(opened) == whole == plain(content) == gzip.decompress(content)
    assert max(map(len, opened), default=0) <= most


@given(st.binary())
def test_what_is_not_compressed_is_left_as_it_is(content: bytes) -> None:
    if not content.startswith(b"\x1f\x8b"):
        assert plain(content) == content


def test_little_input_is_opened_a_part_at_a_time() -> None:
    """Guards memory: a thousand zeros take a byte."""
    assert {len(part) for part in Opener().feed(compressed(bytes(4 * gzipped._PART_BYTES)))} == {gzipped._PART_BYTES}


def test_the_same_bytes_give_the_same_bytes() -> None:
    assert compressed(b"x" * 100) == compressed(b"x" * 100)


def test_a_message_that_was_compressed_by_version_1_can_be_read_for_ever() -> None:
    """tests/golden/message-v1.gz holds the lines of two of the other files."""
    lines = [(GOLDEN / f"event-v1-{name}.json").read_bytes().strip() for name in ("opened", "closed")]
    assert [decode(line) for line in unpack((GOLDEN / "message-v1.gz").read_bytes())] == list(map(decode, lines))


@pytest.mark.parametrize("message", [b"\x1f\x8bno gzip\nat all", compressed(b"{}\n{}")[:-3]])
def test_a_message_that_cannot_be_opened_is_one_line_as_it_stands(message: bytes) -> None:
    assert unpack(message) == [message]
