"""Redaction: what must not be kept is taken out of a body, and the pattern's name stands in its place: `[email]`.

Rule: only what is kept is redacted, never what passes. Text is looked at as its reader sees it: JSON strings unescaped, and the
deltas of a stream as the text that they make, also where a match spans several. Secrets are always taken out. A body in which
nothing is found is kept as it is, to the byte.
"""

import re
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import msgspec

from shared.core.api.sse import EventSplitter, data_of
from shared.core.configuration import Redaction
from shared.core.content_encoding import decoded, encoded
from shared.core.json_text import NOT_READABLE, decode

SECRETS = (
    Redaction(name="secret", pattern=r"\btg-[0-9a-f]{8}-[A-Za-z0-9_-]{43}|\b(?:sk|ek)[-_][A-Za-z0-9_-]{20,}"),
    Redaction(name="secret", pattern=r"(?<=(?:Account|.Access)Key=)[A-Za-z0-9+/=]{20,}"),
    Redaction(name="secret", pattern=r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+"),
)
"""Keys of this gateway, of OpenAI and of Azure's connection strings, and JSON Web Tokens."""

_BEGINNINGS = (b"tg-", b"k-", b"k_", b"Key=", b"eyJ")
"""What every secret has in it: bodies without are not looked at further, unless other patterns want it."""
_MANY = (b'"index":1', b'"index": 1')
"""What a stream of several choices has: their pieces come in turn."""
_PIECES = tuple(b'"%s":"' % name for name in (b"content", b"delta", b"text", b"arguments", b"refusal", b"transcript"))
_STRING = re.compile(rb'(?:[^"\\]|\\.)*')
_EVENTS = (b"data:", b"event:", b":")
"""What a stream begins with. JSON does not, nor a multipart body."""
_PART_ENDS = re.compile(rb"(\r\n--)")
_DELTA = "delta"
_INDEXES = ("index", "output_index", "content_index", "summary_index", "item_id")
"""Fields that tell apart the texts which a stream sends pieces of at the same time."""


class Redacted(msgspec.Struct, frozen=True):
    """A body as it may be kept, and how often each pattern was found in it."""

    body: bytes
    found: dict[str, int]


class _Place(msgspec.Struct, frozen=True):
    """A string in a JSON value: `container[key]`. Strings of one `text` follow each other, over all events of a stream."""

    container: Any
    key: str | int
    text: tuple[Any, ...] | None


def redacted(body: bytes, patterns: Sequence[Redaction], encoding: str | None = None) -> Redacted:
    """The body, which is of that Content-Encoding, without what `patterns` and those of secrets match.

    What cannot be decoded is not looked at.
    """
    try:
        plain = decoded(body, encoding)
    except zlib.error:
        return Redacted(body, {})
    is_stream = plain.startswith(_EVENTS)
    wanted = _wanted(plain, patterns, is_stream=is_stream)
    if not wanted:
        return Redacted(body, {})
    work = _Work(wanted)
    result = work.events(plain) if is_stream else work.json(plain) if _is_json(plain) else work.text(plain)
    return Redacted(encoded(result, encoding), dict(work.found)) if work.found else Redacted(body, {})


def _wanted(plain: bytes, patterns: Sequence[Redaction], *, is_stream: bool) -> tuple[Redaction, ...]:
    """The patterns that may match."""
    may_hold_secrets = _holds_one(plain) or (
        is_stream and (_holds_one(_said(plain)) or any(each in plain for each in _MANY))
    )
    return (*(SECRETS if may_hold_secrets else ()), *patterns)


def _holds_one(text: bytes) -> bool:
    return any(each in text for each in _BEGINNINGS)


def _said(plain: bytes) -> bytes:
    """The pieces of a stream one after another, unread: every call with a stream pays for this."""
    plain = plain.replace(b'": "', b'":"')
    pieces = (piece for name in _PIECES if name in plain for piece in plain.split(name)[1:])
    return b"".join(match[0] for piece in pieces if (match := _STRING.match(piece)))


def _is_json(plain: bytes) -> bool:
    return plain.lstrip()[:1] in (b"{", b"[")


class _Work:
    """One body while it is looked at."""

    def __init__(self, patterns: Sequence[Redaction]) -> None:
        self.found: Counter[str] = Counter()
        self._patterns = patterns
        self._clean: set[str] = set()

    def json(self, plain: bytes) -> bytes:
        """A JSON body. One that was cut off, or is nested too deep, is looked at as it is written."""
        try:
            value: Any = decode(plain)
            self._values([value])
        except NOT_READABLE:
            return self.text(plain)
        return msgspec.json.encode(value) if self.found else plain

    def text(self, plain: bytes) -> bytes:
        """Any other body: the parts of it that are text, be it the whole or some of a multipart one's."""
        return b"".join(map(self._part, _PART_ENDS.split(plain)))

    def events(self, plain: bytes) -> bytes:
        """A stream of server-sent events. One with an event that is nested too deep is looked at as it is written."""
        splitter = EventSplitter()
        events = [*splitter.feed(plain), splitter.rest]
        values = [_value(event) for event in events]
        try:
            changed = self._values(values)
        except RecursionError:
            return self.text(plain)
        return b"".join(
            _with_data(event, msgspec.json.encode(value)) if index in changed else event
            for index, (event, value) in enumerate(zip(events, values, strict=True))
        )

    def _part(self, part: bytes) -> bytes:
        try:
            text = part.decode()
        except UnicodeDecodeError:
            return part
        return self._whole(text).encode()

    def _whole(self, text: str) -> str:
        (result,) = self._pieces([text])
        return result

    def _values(self, values: Sequence[Any]) -> set[int]:
        """Redacts the values in place. Returns which were changed."""
        texts: dict[tuple[Any, ...], list[tuple[int, _Place]]] = defaultdict(list)
        for index, value in enumerate(values):
            for number, place in enumerate(_places([value], 0, (), None)):
                if place.text or place.container[place.key] not in self._clean:
                    texts[place.text or (index, number)].append((index, place))
        changed = set()
        for pieces in texts.values():
            before = [place.container[place.key] for _, place in pieces]
            for (index, place), old, new in zip(pieces, before, self._pieces(before), strict=True):
                if old == new:
                    self._clean.add(old)
                else:
                    place.container[place.key] = new
                    changed.add(index)
        return changed | (_without_logprobs(values) if changed else set())

    def _pieces(self, pieces: Sequence[str]) -> Sequence[str]:
        """The pieces of a text without its matches: each stands, as its name, in the piece in which it begins."""
        for redaction in self._patterns:
            text = "".join(pieces)
            spans = [match.span() for match in _compiled(redaction.pattern).finditer(text) if match[0]]
            if spans:
                self.found[redaction.name] += len(spans)
                pieces = list(_cut(pieces, spans, f"[{redaction.name}]"))
        return pieces


def _cut(pieces: Sequence[str], spans: Iterable[tuple[int, int]], mark: str) -> Iterator[str]:
    """The pieces without the spans of their text."""
    waiting, start = deque(spans), 0
    for piece in pieces:
        end, at, kept = start + len(piece), start, []
        while waiting and waiting[0][1] <= start:
            waiting.popleft()
        for first, last in waiting:
            if first >= end:
                break
            kept += [piece[at - start : max(first - start, 0)], mark if first >= start else ""]
            at = min(last, end)
        yield "".join(kept) + piece[at - start :]
        start = end


def _places(container: Any, key: str | int, path: tuple[Any, ...], near: tuple[Any, ...] | None) -> Iterator[_Place]:
    """Every string in a JSON value that is not the name of a field."""
    value = container[key]
    if isinstance(value, str):
        is_piece = _DELTA in path or path[-2:] == ("choices", "text")
        yield _Place(container, key, (*path, near) if is_piece else None)
        return
    if isinstance(value, dict):
        near = (near, *(value.get(name) for name in _INDEXES))
    names: Iterable[Any] = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for name in names:
        yield from _places(value, name, (*path, name) if isinstance(name, str) else path, near)


def _without_logprobs(values: Sequence[Any]) -> set[int]:
    """Takes out what repeats the text token by token. Returns which values had some."""
    return {index for index, value in enumerate(values) if _drop_logprobs(value)}


def _drop_logprobs(value: Any) -> bool:
    if isinstance(value, list):
        return bool(sum(map(_drop_logprobs, value)))
    if not isinstance(value, dict):
        return False
    has_some = value.get("logprobs") is not None
    if has_some:
        value["logprobs"] = None
    return bool(sum(map(_drop_logprobs, value.values()))) or has_some


def _value(event: bytes) -> Any:
    """The JSON of an event; None where it has none."""
    data = data_of(event)
    if not data.startswith(b"{"):
        return None
    try:
        return decode(data)
    except NOT_READABLE:
        return None


def _with_data(event: bytes, data: bytes) -> bytes:
    """The event with other data."""
    others = [line for line in event.splitlines() if line and not line.startswith(b"data")]
    return b"\n".join((*others, b"data: " + data, b"\n"))


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
