"""One field of a multipart/form-data body (RFC 7578), found and replaced without taking the body apart.

Rule: only the field's own bytes change; files, however large, are passed over and not copied more than once.
"""

import re

import msgspec

_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)


class Field(msgspec.Struct, frozen=True):
    """A text field: its value, and where it stands in the body."""

    value: str
    start: int
    end: int


def find(body: bytes, content_type: str, name: str) -> Field | None:
    """The first text field `name`; None where there is none, or the body is not multipart. Raises UnicodeDecodeError."""
    delimiter = _delimiter(content_type)
    if delimiter is None:
        return None
    escaped = re.escape(delimiter)
    disposition = (
        rb'content-disposition:[^\r\n]*;[ \t]*name="?' + re.escape(name.encode()) + rb'"?[ \t]*(?=[;\r])[^\r\n]*\r\n'
    )
    headers = rb"(?:[^\r\n]+\r\n)*?" + disposition + rb"(?:[^\r\n]+\r\n)*\r\n"
    part = re.compile(escaped + rb"\r\n" + headers + rb"(?P<value>[^\r\n]*)\r\n" + escaped, re.IGNORECASE)
    found = part.search(body)
    return Field(found["value"].decode(), *found.span("value")) if found else None


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


def _delimiter(content_type: str) -> bytes | None:
    boundary = _BOUNDARY.search(content_type)
    return f"--{boundary[1] or boundary[2]}".encode("latin-1") if boundary else None
