"""The archived form of a call: a line of JSON, the head, then the request body, then the response body, each as it is kept.

    {"v":1,"request_bytes":17,"response_bytes":4711,"request_sha256":"...","response_sha256":"...","record":{...}}\\n
    <17 bytes><4711 bytes>

Rule: same call, same name, same bytes; by setting gzip of these (gzipped.py), which every reader reads as them. `head -1` shows
the record; nothing is needed to read the rest but the two lengths.
The head has the digests of the bodies that are kept, so the digest of the head stands for the whole object; the record has the
digests of what was sent. They are the same where all was kept as it was sent.
"""

import hashlib
from contextlib import suppress
from datetime import datetime

import msgspec

from shared.core.call_ids import opened_at
from shared.core.call_record import CallRecord
from shared.core.recording import gzipped

VERSION = 1

LONGEST_HEAD = 1024 * 1024
"""Bytes. More than a record has: what clients and upstreams say in it is cut to lengths."""


class ArchivedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A closed record with the two bodies."""

    record: CallRecord
    request: bytes
    response: bytes


class Extent(msgspec.Struct, frozen=True):
    """How much of a body is kept, and its SHA-256 in hex."""

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> "Extent":
        return cls(len(content), hashlib.sha256(content).hexdigest())


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. Without digests: written before there were any."""

    v: int
    request_bytes: int
    response_bytes: int
    request_sha256: str | None = None
    response_sha256: str | None = None
    record: CallRecord
    purged_at: datetime | None = None
    """Since when the content is gone, on somebody's demand (shared/recording/purging.py)."""


class Head(msgspec.Struct, frozen=True):
    """The first line, and its SHA-256 in hex: that of the whole object, as far as its bodies are those that it speaks of."""

    header: Header
    sha256: str


_header_decoder = msgspec.json.Decoder(Header)


def encode(call: ArchivedCall) -> bytes:
    """The archive object's bytes."""
    return head_of(call.record, Extent.of(call.request), Extent.of(call.response)) + call.request + call.response


def head_of(record: CallRecord, request: Extent, response: Extent, purged_at: datetime | None = None) -> bytes:
    """What stands before the bodies: the head and the line's end."""
    header = Header(
        v=VERSION,
        request_bytes=request.size,
        response_bytes=response.size,
        request_sha256=request.sha256,
        response_sha256=response.sha256,
        record=record,
        purged_at=purged_at,
    )
    return msgspec.json.encode(header) + b"\n"


def digest_of(content: bytes) -> str:
    """The SHA-256, in hex, of the head of an archive object, which may be cut behind it."""
    return hashlib.sha256(_line_of(content)).hexdigest()


def decode(content: bytes) -> ArchivedCall:
    """The call in an archive object. Raises ValueError where its bytes are not whole, or of a version unknown here."""
    line, _, bodies = gzipped.plain(content).partition(b"\n")
    header = _header_of(line)
    if len(bodies) != header.request_bytes + header.response_bytes:
        raise ValueError(f"{len(bodies)} bytes of bodies, {header.request_bytes} + {header.response_bytes} promised")
    return ArchivedCall(
        record=header.record, request=bodies[: header.request_bytes], response=bodies[header.request_bytes :]
    )


def head_in(beginning: bytes) -> Head:
    """The head, from the beginning of an archive object. Raises ValueError as `decode` does."""
    line = _line_of(beginning)
    return Head(_header_of(line), hashlib.sha256(line).hexdigest())


class Reading:
    """An archive object while it is read, piece by piece. Holds its head, and of its bodies no more than their digests."""

    def __init__(self) -> None:
        self._object, self._request, self._response = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        self._opener = gzipped.Opener()
        self._is_broken = False
        self._beginning = b""
        self._head: Head | None = None
        self._bytes = 0
        """Of the bodies."""

    def feed(self, piece: bytes) -> None:
        """Takes the next piece."""
        self._object.update(piece)
        try:
            for part in self._opener.feed(piece):
                self._take(part)
        except ValueError:
            self._is_broken = True  # `end` tells of it

    def _take(self, piece: bytes) -> None:
        if self._head is None and len(self._beginning) < LONGEST_HEAD:
            self._beginning += piece
            if b"\n" not in self._beginning:
                return
            with suppress(ValueError):  # `end` tells of it
                self._head = head_in(self._beginning)
            piece = self._beginning.partition(b"\n")[2]
        if self._head is None:
            return
        left = max(0, self._head.header.request_bytes - self._bytes)
        view = memoryview(piece)
        self._request.update(view[:left])
        self._response.update(view[left:])
        self._bytes += len(piece)

    @property
    def sha256(self) -> str:
        """Of all that was read, in hex."""
        return self._object.hexdigest()

    def end(self) -> Head:
        """The head of what was read. Raises ValueError where the bodies are not those that it speaks of."""
        if self._is_broken:
            raise ValueError("what is compressed cannot be read")
        self._opener.end()
        head = self._head or head_in(self._beginning)
        header = head.header
        if self._bytes != header.request_bytes + header.response_bytes:
            raise ValueError(
                f"{self._bytes} bytes of bodies, {header.request_bytes} + {header.response_bytes} promised"
            )
        promised = (header.request_sha256, header.response_sha256)
        for digest, body in zip(promised, (self._request, self._response), strict=True):
            if digest not in (None, body.hexdigest()):
                raise ValueError("a body is not the one that was kept")
        return head


def _line_of(beginning: bytes) -> bytes:
    return gzipped.beginning(beginning, LONGEST_HEAD).partition(b"\n")[0]


def _header_of(line: bytes) -> Header:
    header = _header_decoder.decode(line)
    if header.v != VERSION:
        raise ValueError(f"version {header.v}; known here is {VERSION}")
    return header


def blob_name(call_id: str) -> str:
    """Where a call is archived: `YYYY/MM/DD/HH/<call id>`, by the UTC hour in which it was opened."""
    return f"{opened_at(call_id):%Y/%m/%d/%H}/{call_id}"
