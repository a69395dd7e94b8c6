"""What travels from the gateway to the recorder: JSON, one event a line.

Rule: a message stands for itself. It can arrive twice, late, before or after any other, and says what version it is.
Several events may share a message; a message is UTF-8 text whose lines are the events, or by setting gzip of that.
"""

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from shared.core.call_ids import opened_at
from shared.core.call_record import CallRecord
from shared.core.recording import archive
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.gzipped import compressed, plain

VERSION = 1

_CHUNK_OVERHEAD = 512
"""More than a chunk's event has besides its data."""


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bytes as JSON can carry them: as text where they are UTF-8, else in base64."""

    text: str | None = None
    base64: bytes | None = None

    @classmethod
    def of(cls, content: bytes) -> "Body":
        try:
            return cls(text=content.decode())
        except UnicodeDecodeError:
            return cls(base64=content)

    @property
    def content(self) -> bytes:
        return self.base64 or (self.text or "").encode()


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="opened"):
    """A call was accepted: who, what, how large. Its record is open."""

    v: int = VERSION
    record: CallRecord


class Closed(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="closed"):
    """A call ended. Without bodies (`request` and `response` None) where they are in the archive already: the claim check."""

    v: int = VERSION
    record: CallRecord
    request: Body | None = None
    response: Body | None = None
    archive_sha256: str | None = None
    """The digest of the head of the archive object, where that is there already."""

    @classmethod
    def of(cls, call: ArchivedCall) -> "Closed":
        return cls(record=call.record, request=Body.of(call.request), response=Body.of(call.response))

    @property
    def call(self) -> ArchivedCall | None:
        """The call with its bodies, where they are in the event."""
        if self.request is None or self.response is None:
            return None
        return ArchivedCall(record=self.record, request=self.request.content, response=self.response.content)


class Chunk(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="chunk"):
    """A piece of a call that ended and is too large for one message: a slice of its archive object (archive.py)."""

    v: int = VERSION
    call_id: str
    index: int
    """From 0."""
    count: int
    sha256: str
    """Of the whole object, in hex."""
    data: bytes


type Record = Opened | Closed
"""An event that says all of a call, so far."""

type Event = Opened | Closed | Chunk

_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Opened | Closed | Chunk)


class Undecodable(Exception):
    """Not an event of a version that is known here."""


def encode(event: Event) -> bytes:
    """The event as one line of JSON, without the line end."""
    return msgspec.json.encode(event)


def decode(line: bytes) -> Event:
    """The event in one line. Raises Undecodable."""
    try:
        event = _decoder.decode(line)
        opened_at(
            event.call_id if isinstance(event, Chunk) else event.record.call_id
        )  # else it has no place in any sink
    except (ValueError, RecursionError) as error:  # the codec's own errors are ValueErrors
        raise Undecodable(str(error)) from error
    if event.v != VERSION:
        raise Undecodable(f"version {event.v}; known here is {VERSION}")
    if isinstance(event, Chunk) and not 0 <= event.index < event.count:
        raise Undecodable(f"chunk {event.index} of {event.count}")
    return event


def split(call: ArchivedCall, limit: int, *, is_gzip: bool = False) -> Sequence[Chunk]:
    """The call in as few chunks as fit into messages of `limit` bytes each."""
    content = archive.encode(call)
    if is_gzip:
        content = compressed(content)
    size = chunk_bytes(limit)
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    digest = hashlib.sha256(content).hexdigest()
    return [
        Chunk(call_id=call.record.call_id, index=index, count=len(pieces), sha256=digest, data=piece)
        for index, piece in enumerate(pieces)
    ]


def chunk_bytes(limit: int) -> int:
    """Of an archive object, in a message of at most `limit` bytes: the rest is the event's, and base64's."""
    return (limit - _CHUNK_OVERHEAD) * 3 // 4


def pack(events: Iterable[bytes], limit: int) -> Sequence[bytes]:
    """As few messages as hold the events in their order, each at most `limit` bytes unless one event alone is larger."""
    messages: list[list[bytes]] = []
    size = limit
    for event in events:
        size += len(event) + 1
        if size > limit:
            messages.append([])
            size = len(event)
        messages[-1].append(event)
    return [b"\n".join(lines) for lines in messages]


def unpack(message: bytes) -> Sequence[bytes]:
    """The events of a message, a line each. What looks compressed and is not is a line as it stands."""
    try:
        message = plain(message)
    except ValueError:
        return [message]
    return message.split(b"\n")
