"""The tap: reads along with an answer on its way to the client.

Rule: a tap alters nothing, with one exception: the usage chunk that the gateway asked for and the client did not is
taken out. A tap that cannot read an answer says so in the record; the client does not notice.
"""

import zlib

from shared.core.api.operations import Operation
from shared.core.api.sse import EventSplitter, data_of
from shared.core.content_encoding import decoded, decompressor
from shared.core.json_text import NOT_READABLE
from shared.core.usage import Reading

_DONE = b"[DONE]"


class StreamTap:
    """Reads the events of one stream."""

    def __init__(self, operation: Operation, *, drop_usage_chunk: bool, encoding: str | None = None) -> None:
        self._operation = operation
        is_plain = encoding in (None, "identity")
        self.tells_errors = is_plain
        """Whether events of our own, an error say, can be put into the stream."""
        self._drop = drop_usage_chunk and is_plain  # encoded bytes cannot be cut into events
        self._events = EventSplitter()
        self._inflate = decompressor(encoding)
        self.reading = Reading()
        self.done = False
        """The terminal event has passed."""
        self.unreadable = 0
        """Events that could not be read."""

    def feed(self, chunk: bytes) -> bytes:
        """What of `chunk` the client gets now. Where a usage chunk may have to go, whole events only."""
        events = self._events.feed(self._plain(chunk))
        kept = [event for event in events if not self._read(event)]
        return b"".join(kept) if self._drop else chunk

    def end(self) -> bytes:
        """What the client still gets once the upstream has ended."""
        rest = self._events.rest
        return rest if not self._read(rest) and self._drop else b""

    @property
    def is_inside_event(self) -> bool:
        """Whether the client has got the beginning of an event and not its end."""
        return bool(self._events.rest) and not self._drop

    def _plain(self, chunk: bytes) -> bytes:
        if self._inflate is None:
            return chunk
        try:
            return self._inflate.decompress(chunk)
        except zlib.error:
            self.unreadable += 1
            return b""

    def _read(self, event: bytes) -> bool:
        """Takes note of an event; True where it is the usage chunk to drop."""
        data = data_of(event)
        if not data:
            return False
        if data == _DONE:
            self.done = True
            return False
        try:
            part = self._operation.parse(data)
        except NOT_READABLE:
            self.unreadable += 1
            return False
        self.reading = self.reading.after(part)
        self.done = self.done or part.done
        return self._drop and part.only_usage


class PassTap:
    """Lets bytes pass that are neither JSON nor events: audio, files."""

    reading = Reading()
    done = False
    unreadable = 0
    is_inside_event = False
    tells_errors = False

    def feed(self, chunk: bytes) -> bytes:
        """All of it."""
        return chunk

    def end(self) -> bytes:
        """Nothing more."""
        return b""


def read_body(operation: Operation, body: bytes, encoding: str | None) -> Reading:
    """What a whole JSON answer tells; an empty reading where it cannot be read."""
    try:
        return Reading().after(operation.parse(decoded(body, encoding)))
    except (*NOT_READABLE, zlib.error):
        return Reading()
