"""One field of a multipart/form-data body (RFC 7578), found and replaced without taking the body apart.

Rule: only the field's own bytes change; files, however large, are passed over and not copied more than once. What only some
readers would take for a field is not guessed at: the form hides a part.
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
_LONGEST_VALUE = 256 * 1024
_HEADER = re.compile(rb"([A-Za-z0-9-]+):[ \t]*([^\r\n\x00]*)")
_PARAMETER = rb'[ \t]*;[ \t]*([A-Za-z0-9*_-]+)=("(?:[^"\\]|\\(?!"))*"|[^\s;"\\,]+)'
_DISPOSITION = re.compile(rb"form-data(?:" + _PARAMETER + rb")*[ \t]*;?[ \t]*", re.IGNORECASE)
_PARAMETERS = re.compile(_PARAMETER)
_NAME = re.compile(rb'"?[A-Za-z0-9_.\[\]-]+"?')
_PLAIN_ENCODINGS = (b"binary", b"8bit", b"7bit")
_CHARSET = re.compile(rb"charset\s*=\s*\"?([^\s;\"]*)", re.IGNORECASE)
_PLAIN_CHARSETS = (b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1")
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
        if named.search(body, start, end):
            value = end + len(_BLANK)
            ends = body.find(b"\r\n" + delimiter, value, value + _LONGEST_VALUE)
            ends = ends if ends >= 0 else min(len(body), value + _LONGEST_VALUE)
            yield Field(body[value:ends].decode(), value, ends)


def hides_part(body: bytes, content_type: str) -> bool:
    """Whether another reader may see a part, and so a field, where we see none."""
    delimiter = _delimiter(content_type)
    if delimiter is None:
        return False
    return any(end < 0 or not _is_plain(body[start:end]) for start, end in _heads(body, delimiter))


def _is_plain(head: bytes) -> bool:
    """Whether the headers of a part say the same to every reader: whole lines, each header once, one name in plain letters, and
    a value that is neither encoded nor more parts."""
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n")[1:]:
        header = _HEADER.fullmatch(line)
        if header is None or header[1].lower() in headers:
            return False
        headers[header[1].lower()] = header[2]
    disposition = headers.get(b"content-disposition", b"")
    if _DISPOSITION.fullmatch(disposition) is None:
        return False
    parameters = [(name.lower(), value) for name, value in _PARAMETERS.findall(disposition)]
    names = [value for name, value in parameters if name.partition(b"*")[0] == b"name"]
    if len(names) != 1 or (b"name", names[0]) not in parameters or _NAME.fullmatch(names[0]) is None:
        return False
    if names[0].strip(b'"').lower() == b"_charset_":  # it says how all others are to be read
        return False
    is_file = any(name.partition(b"*")[0] == b"filename" for name, _ in parameters)
    content_type = headers.get(b"content-type", b"").lower()
    charset = _CHARSET.search(content_type)
    return (
        headers.get(b"content-transfer-encoding", b"binary").strip().lower() in _PLAIN_ENCODINGS
        and not content_type.startswith(b"multipart/")
        and (is_file or not content_type.startswith(b"message/"))  # a mail that is uploaded is one
        and (charset is None or charset[1] in _PLAIN_CHARSETS)
    )


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
