"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), as bytes.

Rule: nothing is altered or lost. The events that come out, joined, are the bytes that went in, wherever those were cut.
Lines end with CR LF, LF or CR and with nothing else: U+2028 inside data is data.
"""

import re

# Atomic groups, or CR LF could be taken for two line ends.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LONGEST_BEGINNING = 3
"""Bytes of a blank line that may have come without its last one."""


class EventSplitter:
    """Cuts a byte stream after each blank line. One per stream."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes, each with its line ends and its closing blank line."""
        buffer = self._rest + data if self._rest else data
        events = []
        start = 0
        # A CR at the very end may be half of a CR LF: it waits for the next byte.
        end = len(buffer) - 1 if buffer.endswith(b"\r") else len(buffer)
        for blank in _BLANK_LINE.finditer(buffer, max(0, len(self._rest) - _LONGEST_BEGINNING), end):
            events.append(buffer[start : blank.end()])
            start = blank.end()
        self._rest = buffer[start:]
        return events

    @property
    def rest(self) -> bytes:
        """What has come since the last blank line."""
        return self._rest


def data_of(event: bytes) -> bytes:
    """The data of one event: its `data` lines joined by LF; empty where it has none (a comment, say)."""
    if event.startswith(b"data: ") and event.endswith(b"\n\n") and event.count(b"\n") == 2 and b"\r" not in event:
        return event[6:-2]  # what every provider sends: one line
    lines = (line.partition(b":") for line in _LINE_END.split(event))
    return b"\n".join(value.removeprefix(b" ") for field, _, value in lines if field == b"data")
