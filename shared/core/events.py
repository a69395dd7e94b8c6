"""What travels from the gateway to the recorder: JSON, one event a line.

Rule: a message stands for itself. It can arrive twice, late, before or after any other, and says what version it is.
Several events may share a message; a message is UTF-8 text whose lines are the events.
"""

from collections.abc import Iterable, Sequence

import msgspec

from shared.core.call_ids import opened_at
from shared.core.call_record import CallRecord

VERSION = 1


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


type Event = Opened | Closed

_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Opened | Closed)


class Undecodable(Exception):
    """Not an event of a version that is known here."""


def encode(event: Event) -> bytes:
    """The event as one line of JSON, without the line end."""
    return msgspec.json.encode(event)


def decode(line: bytes) -> Event:
    """The event in one line. Raises Undecodable."""
    try:
        event = _decoder.decode(line)
        opened_at(event.record.call_id)  # what is no call id has no place in any sink
    except (ValueError, RecursionError) as error:  # the codec's own errors are ValueErrors
        raise Undecodable(str(error)) from error
    if event.v != VERSION:
        raise Undecodable(f"version {event.v}; known here is {VERSION}")
    return event


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
    """The events of a message, a line each."""
    return message.split(b"\n")
