"""What is wrong with a configuration document, said so that it can be mended.

Rule: every problem is told at once, each with the line it stands on and what to write instead. Values of settings, and so
secrets, never stand in a problem.
"""

import difflib
import re
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from shared.core.document_lines import Place, is_json, line_of

type Problem = tuple[Place, str]
"""Where, and what: a sentence that says what would mend it."""

_AT = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_BYTE = re.compile(r"\(byte (\d+)\)")


class ConfigurationInvalid(Exception):
    """The document cannot be used. `problems` says why, a sentence each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


def raw(text: str) -> dict[str, Any]:
    """The fields that stand in a document which `decode` takes."""
    fields: dict[str, Any] = msgspec.json.decode(text) if is_json(text) else tomllib.loads(text)
    return fields


def decode[T: msgspec.Struct](text: str, type_: type[T]) -> T:
    """The document in `text`, which is TOML, or JSON where it starts with `{`. Raises ConfigurationInvalid."""
    try:
        raw = msgspec.json.decode(text) if is_json(text) else tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationInvalid([f"not valid TOML: {error}"]) from error
    except msgspec.DecodeError as error:
        raise ConfigurationInvalid([_not_json(text, error)]) from error
    except RecursionError as error:
        raise ConfigurationInvalid(["nested too deep: no field of a configuration needs that"]) from error
    try:
        return msgspec.json.decode(text, type=type_) if is_json(text) else msgspec.convert(raw, type_)
    except msgspec.ValidationError as error:
        raise invalid(text, list(_problems(raw, type_)) or [explained(error, type_)]) from error


def invalid(text: str, problems: Iterable[Problem]) -> ConfigurationInvalid:
    """The error for these problems of the document in `text`, in the order of their lines."""
    placed = sorted(((line_of(text, place), what) for place, what in problems), key=lambda each: each[0] or 0)
    return ConfigurationInvalid(what if line is None else f"line {line}: {what}" for line, what in placed)


def explained(error: msgspec.ValidationError, type_: Any, at: Place = ()) -> Problem:
    """The codec's error about a value of `type_` that stands at `at`: the place that it means, and what would mend it."""
    within, message = _place_and_message(error)
    place = at + within
    written = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    suffix = f" - at `${written}`" if place else ""
    unknown = _UNKNOWN.fullmatch(message)
    return (*place, unknown[1]) if unknown else place, f"{message}{suffix}{_remedy(unknown, message, type_, within)}"


def _not_json(text: str, error: msgspec.DecodeError) -> str:
    match = _BYTE.search(str(error))
    before = text.encode()[: int(match[1])] if match else text.encode()
    return f"not valid JSON: line {before.count(b'\n') + 1}: {error}"


def _problems(raw: Mapping[str, Any], type_: type[msgspec.Struct]) -> Iterator[Problem]:
    """The problems of each part by itself: the codec stops at the first that it meets."""
    hints = typing.get_type_hints(type_)
    for name, value in raw.items():
        part, (item, *_) = hints.get(name), (*typing.get_args(hints.get(name)), None)
        if part is None:
            yield from _tried({name: value}, type_, ())
        elif isinstance(value, list) and item is not None:
            for index, each in enumerate(value):
                yield from _tried(each, item, (name, index))
        else:
            yield from _tried(value, part, (name,))


def _tried(value: Any, type_: Any, at: Place) -> Iterator[Problem]:
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        yield explained(error, type_, at)


def _place_and_message(error: msgspec.ValidationError) -> Problem:
    """The codec's error taken apart: the place that it names, and the rest."""
    match = _AT.fullmatch(str(error))
    message, way = (match[1], match[2]) if match else (str(error), None)
    place = tuple(int(index) if index else name for name, index in _STEP.findall(way or ""))
    return place, message


def _remedy(unknown: re.Match[str] | None, message: str, type_: Any, within: Place) -> str:
    kind = _type_at(inspect.type_info(type_), within)
    if unknown and isinstance(kind, inspect.StructType):
        names = [field.encode_name for field in kind.fields]
        close = difflib.get_close_matches(unknown[1], names, n=1)
        return f": did you mean `{close[0]}`?" if close else f": there are {', '.join(names)}"
    if isinstance(kind, inspect.EnumType):
        return f": write one of {', '.join(str(member.value) for member in kind.cls)}"
    return ": add it" if message.startswith("Object missing required field") else ""


def _type_at(kind: inspect.Type, place: Place) -> inspect.Type:
    for step in place:
        kind = _plain(kind)
        if isinstance(kind, inspect.StructType):
            kind = next((field.type for field in kind.fields if field.encode_name == step), inspect.AnyType())
        elif isinstance(kind, inspect.CollectionType):
            kind = kind.item_type
        elif isinstance(kind, inspect.DictType):
            kind = kind.value_type
    return _plain(kind)


def _plain(kind: inspect.Type) -> inspect.Type:
    """Without what is around it: its metadata, and that it may be missing."""
    if isinstance(kind, inspect.Metadata):
        return _plain(kind.type)
    if isinstance(kind, inspect.UnionType):
        return _plain(next(each for each in kind.types if not isinstance(each, inspect.NoneType)))
    return kind
