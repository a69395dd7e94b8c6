"""Where in the text of a configuration document something stands.

Rule: the line is for a person to go to. It is looked for only once something is wrong, with the standard library's own
parsers as the judges of where a statement ends, so there is no second grammar to keep.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

type Place = tuple[str | int, ...]
"""The way from the document's root: names of fields and indices of arrays, `("clients", 0, "id")`."""

_SPACE = re.compile(r"[ \t\r\n]*")
_JSON = json.JSONDecoder()


def is_json(text: str) -> bool:
    """Whether the document is JSON: it starts with `{`, as no TOML can."""
    return text.lstrip().startswith("{")


def line_of(text: str, place: Place) -> int | None:
    """The line (the first is 1) of what stands at `place`, or of the nearest thing around it; None for the root.

    `text` is a document that can be parsed.
    """
    if is_json(text):
        return _json_line(text, place)
    lines = _toml_lines(text)
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place)


def _json_line(text: str, place: Place) -> int | None:
    at, found = _skip(text, 0), None
    for step in place:
        member = next((start for name, start in _members(text, at) if name == step), None)
        if member is None:
            break
        at = found = member
    return None if found is None else text.count("\n", 0, found) + 1


def _members(text: str, at: int) -> Iterator[tuple[str | int, int]]:
    """The names or indices in the object or array that begins at `at`, and where the value of each begins."""
    opening = text[at]
    if opening not in "{[":
        return
    at, index = _skip(text, at + 1), 0
    while text[at] not in "}]":
        name: str | int = index
        if opening == "{":
            name, at = _JSON.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # the colon
        yield name, at
        _, at = _JSON.raw_decode(text, at)
        at, index = _skip(text, at), index + 1
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _toml_lines(text: str) -> Mapping[Place, int]:
    lines: dict[Place, int] = {}
    lengths: dict[Place, int] = {}  # of the arrays of tables met so far
    table: Place = ()
    for number, statement in _statements(text.replace("\r\n", "\n").split("\n")):
        if statement.lstrip().startswith("["):
            table = _header(statement, lengths)
            for end in range(1, len(table) + 1):  # what is around it begins here too, unless it began above
                lines.setdefault(table[:end], number)
        else:
            for place, offset in _values(statement):
                lines.setdefault(table + place, number + offset)
    return lines


def _statements(lines: list[str]) -> Iterator[tuple[int, str]]:
    """The statements of a TOML document and the number of the line at which each begins."""
    start = 0
    while start < len(lines):
        end = start + 1
        while end < len(lines) and _parsed("\n".join(lines[start:end])) is None:
            end += 1
        yield start + 1, "\n".join(lines[start:end])
        start = end


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _header(statement: str, lengths: dict[Place, int]) -> Place:
    """The place of the table that a `[header]` or `[[header]]` opens; counts the latter in `lengths`."""
    value: Any = _parsed(statement)
    place: Place = ()
    while value:
        ((name, value),) = value.items()
        place = (*place, name)
        if isinstance(value, list):
            lengths[place] = lengths.get(place, 0) + 1
            value = value[0]
        if place in lengths:
            place = (*place, lengths[place] - 1)
    return place


def _values(statement: str) -> Iterator[tuple[Place, int]]:
    """The places that `name = value` fills, and how many lines below its first each stands."""
    value: Any = _parsed(statement)
    place: Place = ()
    while isinstance(value, dict) and len(value) == 1:
        ((name, value),) = value.items()
        place = (*place, name)
        yield place, 0
    if isinstance(value, dict):
        yield from (((*place, name), 0) for name in value)
    elif isinstance(value, list):
        yield from _elements(statement, place, value)


def _elements(statement: str, place: Place, values: list[Any]) -> Iterator[tuple[Place, int]]:
    """The elements of an array that may run over many lines: one ends where closing the array there gives one more."""
    lines, done = statement.split("\n"), 0
    for offset in range(len(lines)):
        document: Any = values if offset + 1 == len(lines) else _parsed("\n".join(lines[: offset + 1]) + "\n]")
        for name in place if document is not values else ():
            document = document and document.get(name)
        ended = len(document) if document else done
        yield from (((*place, index), offset) for index in range(done, ended))
        done = max(done, ended)
