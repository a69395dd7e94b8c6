"""Models that a request names elsewhere than at its top: in runs, evaluations, sessions, tools, and the lines of batch files.

Rule: they are models like any other. The client must be allowed them, they must be where the call goes, and the upstream gets
its own names for them. What names none, or cannot be read, stays as it is: the upstream says what is wrong with it.
"""

import json
import re
from collections.abc import Callable, Sequence

import msgspec

from shared.core import json_text
from shared.core.errors import BadRequest
from shared.core.json_text import NOT_READABLE

type Path = tuple[str, ...]
"""Where a model's name stands: the fields from the top down; `*` is each item of a list."""

type Rename = Callable[[str], str]
"""The name to put in a name's place. Raises GatewayError for one that may not stand there."""

_LINE: Path = ("body", "model")
"""https://platform.openai.com/docs/api-reference/batch/request-input"""
_OTHER_LINE_ENDS = tuple(each.encode() for each in "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
_OTHER_LINE_END = re.compile(b"(%b)" % b"|".join(_OTHER_LINE_ENDS))
"""Where readers cut lines (Python's `str.splitlines` does at all of these) besides LF. A line is read as a whole and cut:
most of them may stand in JSON too, as white space or in a text. It is not refused where it cannot be read, because a file of
any other kind, a picture say, comes by the same operation, and what it is for may be said behind it."""
_SHORTEST = len(b'{"body":{"model":""}}')
_LONGEST_LINE = 8 * 1024 * 1024
_MOST_NAMES = 100
_MOST_LINES = 100_000
"""That name a model, in a file that is read at once while all calls wait: as many as any upstream takes in one batch, and about a
second's work at the worst."""
_MOST_PASSING = 10 * _MOST_LINES
_ODD_COUNTS_AS = 4
"""Lines: so much more work is one in which a name stands twice, or is written with escapes."""
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")


class _Body(msgspec.Struct):
    model: str | None = None


class _Line(msgspec.Struct):
    body: _Body | None = None


_plain_line = msgspec.json.Decoder(_Line)


def renamed(text: bytes, paths: Sequence[Path], rename: Rename) -> bytes:
    """A JSON text in which each model at one of the paths has another name; itself where that changes nothing."""
    for path in paths:
        text = _renamed(text, path, rename)
    return text


def lines_renamed(content: bytes, rename: Rename) -> bytes:
    """A batch file, or a form that has one in it, with other models; itself where that changes nothing. Raises BadRequest where
    more lines name a model than any batch has."""
    reader = _Lines(rename, _MOST_LINES)
    lines = content.split(b"\n")
    changed = [reader.renamed(line) for line in lines]
    return content if all(new is old for new, old in zip(changed, lines, strict=True)) else b"\n".join(changed)


class LineReader:
    """Reads along with a batch file, or a form that has one in it, which passes through and so cannot be changed."""

    def __init__(self, rename: Rename) -> None:
        self._lines = _Lines(rename, _MOST_PASSING)
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """Call it before the chunk is passed on. Raises BadRequest for a line that would have to change, or is too long."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._read(line)
        if len(self._rest) > _LONGEST_LINE:
            if any(piece.lstrip().startswith(b"{") for piece in _OTHER_LINE_END.split(self._rest)):
                raise BadRequest(f"A line of this file is longer than {_LONGEST_LINE} bytes.")
            # Of something else, a picture say: not kept, but for what may be a line's end, or half of one.
            self._rest = b"-\r" + self._rest[-3:]

    def end(self) -> None:
        """Call it before the end is passed on. Raises BadRequest."""
        self._read(self._rest)

    def _read(self, line: bytes) -> None:
        if self._lines.renamed(line) is not line:
            raise BadRequest(
                "The models in this file have other names upstream, and it is too large to be changed: split it."
            )


class _Lines:
    """The lines of one file, one after another. What most lines are, one object with one model, is read quickly: a hostile file
    has hundreds of thousands, and all calls wait while they are read."""

    def __init__(self, rename: Rename, most: int) -> None:
        self._rename = rename
        self._known: dict[str, str] = {}
        self._left = most

    def renamed(self, line: bytes) -> bytes:
        """The line with another model; itself where that changes nothing."""
        if not _may_name(line):
            return line
        changed = self._piece(line)
        if changed is not line and line.endswith(b"\r"):
            changed += b"\r"
        # As those read it who end lines elsewhere too.
        if not any(end in changed.removesuffix(b"\r") for end in _OTHER_LINE_ENDS):
            return changed
        pieces = _OTHER_LINE_END.split(changed)  # the ends are among them
        new = [self._piece(piece) if _may_name(piece) else piece for piece in pieces]
        return changed if all(after is before for after, before in zip(new, pieces, strict=True)) else b"".join(new)

    def _piece(self, text: bytes) -> bytes:
        self._spend(1)
        if is_plain := _is_plain(text):
            try:
                line = _plain_line.decode(text)
            except NOT_READABLE:
                if b"\\u" not in text:
                    return text
                is_plain = False  # it may have to be mended
            else:
                name = line.body.model if line.body else None
                if name is None or self._name(name) == name:
                    return text
        if not is_plain:
            self._spend(_ODD_COUNTS_AS - 1)
        return _renamed(text, _LINE, self._name)

    def _spend(self, lines: int) -> None:
        self._left -= lines
        if self._left < 0:
            raise BadRequest("More lines of this file name a model than there are calls in any batch: split it.")

    def _name(self, name: str) -> str:
        """The other name of a model, which is asked for once. Raises BadRequest where there are too many of them."""
        if name not in self._known:
            if len(self._known) >= _MOST_NAMES:
                raise BadRequest(f"This file names more than {_MOST_NAMES} models.")
            self._known[name] = self._rename(name)
        return self._known[name]


def _may_name(line: bytes) -> bool:
    """Whether a line may name a model: a quick look, for millions of others would take minutes."""
    if len(line) < _SHORTEST or b"{" not in line:
        return False
    return (b'"model"' in line and b'"body"' in line) or _has_escaped_letter(line)


def _is_plain(line: bytes) -> bool:
    """Whether every reader sees the same in it: each name is there once, as it is."""
    return line.count(b'"model"') == 1 and line.count(b'"body"') == 1 and not _has_escaped_letter(line)


def _has_escaped_letter(text: bytes) -> bool:
    """Whether it may have a name in it that is written otherwise."""
    return b"\\u00" in text and _ESCAPED_LETTER.search(text) is not None


def _renamed(text: bytes, path: Path, rename: Rename) -> bytes:
    try:
        if not path:
            value: str = json_text.decode(text, str)
            name = rename(value)
            return text if name == value else msgspec.json.encode(name)
        head, rest = path[0], path[1:]
        if head == "*":
            raw: list[msgspec.Raw] = json_text.decode(text, list[msgspec.Raw])
            items = [bytes(item) for item in raw]
            changed = [_renamed(item, rest, rename) for item in items]
            is_same = all(new is old for new, old in zip(changed, items, strict=True))
            return text if is_same else msgspec.json.encode([msgspec.Raw(item) for item in changed])
        fields: dict[str, msgspec.Raw] = json_text.decode(text, dict[str, msgspec.Raw])
    except NOT_READABLE:
        return text
    old = bytes(fields.get(head, b"null"))
    new = _renamed(old, rest, rename)
    if new is old and not _repeats(text, head):
        return text
    return msgspec.json.encode(fields | {head: msgspec.Raw(new)})


def _repeats(text: bytes, name: str) -> bool:
    """Whether an object has a field of that name twice, where an upstream could read another than we did."""
    if text.count(b'"%b"' % name.encode()) < 2 and not _has_escaped_letter(text):
        return False
    try:
        pairs: list[tuple[str, object]] = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):  # it reads less than we do: better to write it afresh once too often
        return True
    return sum(each == name for each, _ in pairs) > 1
