"""Texts that are JSON and not Unicode."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core import json_text

READ = {
    "half a pair": (rb'{"a":"x\ud83d"}', {"a": "x\ufffd"}),
    "the other half": (rb'{"a":"\uDE00x"}', {"a": "\ufffdx"}),
    "the halves the wrong way round": (rb'["\ude00\ud83d"]', ["\ufffd\ufffd"]),
    "half a pair before a pair": (rb'["\ud83d\ud83d\ude00"]', ["\ufffd\U0001f600"]),
    "in a name": (rb'{"\ud800":1}', {"\ufffd": 1}),
    "an escaped backslash before it": (rb'["\\\ud800"]', ["\\\ufffd"]),
    "a text that only looks like one": (rb'["\\ud800\ud800"]', ["\\ud800\ufffd"]),
}


@pytest.mark.parametrize(("text", "value"), READ.values(), ids=READ.keys())
def test_half_a_surrogate_pair_reads_as_the_replacement_character(text: bytes, value: Any) -> None:
    assert json_text.decode(text) == value
    assert json_text.decode(msgspec.Raw(text)) == value


@given(st.text(st.characters(categories=["Cs", "Cc", "Po", "So", "Lu"])))
def test_every_text_of_the_standard_library_is_read(text: str) -> None:
    expected = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert json_text.decode(json.dumps(text).encode()) == expected


REFUSED = {
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "cut short": rb'{"a":"\ud800',
    "an escape that is none": rb'["\ud8"]',
    "NaN": rb'["\ud800", NaN]',
    "nothing": b"",
    "too long to be mended": rb'["\ud800' + b"x" * (4 << 20) + b'"]',
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        json_text.decode(text)
