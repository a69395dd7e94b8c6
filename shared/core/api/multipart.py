"""One field of a multipart/form-data body (RFC 7578), found and replaced without taking the body apart.

Rule: only the field's own bytes change; files, however large, are passed over and not copied more than once.
"""

import re
from collections.abc import Iterator

import msgspec

_LINE_ENDS = (b"", b"\r", b"\n")
"""And the start of the body."""
_BLANK = b"\r\n\r\n"
_END_OF_NAME = rb'"?[ \t]*(?=[;\r\n]|$)'
_MOST_DELIMITERS = 1000
_LONGEST_HEAD = 4096
_END_OF_DELIMITER = re.compile(rb"[ \t]*(?=\r\n)")
"""RFC 2046 §5.1.1 lets transports pad it."""
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)
_ANY_BOUNDARY = re.compile(r"boundary[*0-9]*\s*=", re.IGNORECASE)


class Field(msgspec.Struct, frozen=True):
    """A text field: its value, and where it stands in the body."""

    value: str
    start: int
    end: int


def find(body: bytes, content_type: str, name: str) -> Field | None:
    """The first text field `name`; None where there is none, or the body is not multipart. Raises UnicodeDecodeError."""
    return next(fields(body, content_type, name), None)


def fields(body: bytes, content_type: str, name: str) -> Iterator[Field]:
    """Every text field `name`, in order. Raises UnicodeDecodeError."""
    delimiter = _delimiter(content_type)
    if delimiter is None:
        return
    named = re.compile(rb'content-disposition:[^\r\n]*?;[ \t]*name="?' + re.escape(name.encode()) + _END_OF_NAME, re.I)
    for start, end in _heads(body, delimiter):
        if end < 0:
            continue
        value = end + len(_BLANK)
        ends = body.find(b"\r\n", value)
        if named.search(body, start, end) and body.startswith(delimiter, ends + 2):
            yield Field(body[value:ends].decode(), value, ends)


def hides_part(body: bytes, content_type: str) -> bool:
    """Whether another reader may see a part, and so a field, where we see none."""
    delimiter = _delimiter(content_type)
    return delimiter is not None and any(end < 0 for _, end in _heads(body, delimiter))


def _heads(body: bytes, delimiter: bytes) -> Iterator[tuple[int, int]]:
    """Where the headers of each part stand; they end at -1 where that is not seen. A form of a hostile shape is not looked at
    further than takes no time: what is left of it is one more such part."""
    start = 0
    for _ in range(_MOST_DELIMITERS):
        found = body.find(delimiter, start)
        if found < 0:
            return
        start = found + len(delimiter)
        if padding := _END_OF_DELIMITER.match(body, start):
            start = padding.end()
            yield start, body.find(_BLANK, start, start + _LONGEST_HEAD)
        elif body[max(found - 1, 0) : found] in _LINE_ENDS and not body.startswith(b"--", start):
            yield start, -1  # a bare LF behind it, say, is enough for some
    if body.find(delimiter, start) >= 0:
        yield start, -1


def replaced(body: bytes, field: Field, value: str) -> bytes:
    """The body with another value in the field."""
    return b"".join((body[: field.start], value.encode(), body[field.end :]))


def with_field(body: bytes, content_type: str, name: str, value: str) -> bytes:
    """The body with one more text field, before all others; as it is where it is not multipart."""
    delimiter = _delimiter(content_type)
    if delimiter is None:
        return body
    part = b'%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (delimiter, name.encode(), value.encode())
    return part + body


def is_form(content_type: str) -> bool:
    """Whether a body of that type can be read here as every other reader would: a form, and one boundary."""
    return content_type.lower().startswith("multipart/form-data") and _delimiter(content_type) is not None


def _delimiter(content_type: str) -> bytes | None:
    """What stands between the parts; None where it is not said, or more than once: others may go by another."""
    boundary = _BOUNDARY.search(content_type)
    if len(_ANY_BOUNDARY.findall(content_type)) != 1:
        return None
    return f"--{boundary[1] or boundary[2]}".encode("latin-1") if boundary else None
