"""JSON as clients write it.

Rule: what is JSON is read. JavaScript writes half a surrogate pair, such as a cut emoji leaves behind, as an escape: RFC 8259
§8.2 has that in its grammar, the codec refuses it. For us it is then U+FFFD, as it is for every encoder of UTF-8.
"""

import re
from typing import Any

import msgspec

NOT_READABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading a text may raise; the last where it is nested too deep."""
_LONGEST_MENDED = 4 * 1024 * 1024
"""Bytes: looking at every escape of a text takes its time, and all other calls wait meanwhile."""
_ESCAPES = re.compile(
    rb"\\\\"  # a backslash: what follows it is text
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def decode[T](text: bytes | msgspec.Raw, type_: type[T] | Any = Any) -> T:
    """The value. Raises those of NOT_READABLE."""
    try:
        value: T = msgspec.json.decode(text, type=type_)
    except msgspec.DecodeError:
        mended = _mended(bytes(text)) if len(memoryview(text)) <= _LONGEST_MENDED else text
        if mended == text:
            raise
        value = msgspec.json.decode(mended, type=type_)
    return value


def _mended(text: bytes) -> bytes:
    return _ESCAPES.sub(lambda found: rb"\ufffd" if found["half"] else found[0], text)
