"""Answers from a key: the same key, the same pieces of text. One piece is one token."""

import random
import re
from functools import lru_cache
from typing import Any

import msgspec

from devtools.simulator.tokens import Json, Tokens

_WORDS = (
    "the a of and to in is that it for on with as are be this by from or an have not at we can will which one has "
    "each when more if how its may use time work make part new two also over such only most other than then some "
    "model answer token stream request region cost report hour morning harbour ledger toll gate river bridge stone "
    "light paper season garden market engine signal window letter number copper winter summer island valley"
)
_PIECES = (*tuple(f" {word}" for word in _WORDS.split()), ".", ",", ":", ".\n\n", "!", "?", ' "quoted"', " back\\slash")
# What breaks careless readers: line separators inside a line, surrogate pairs, joined emoji, wide and combining text.
_HARD = " caf\u00e9|\u2028|\u2029| \U0001f642| \U0001f469\u200d\U0001f4bb| \u6771\u4eac|\uff01| e\u0301| \u0416|\t| data: [DONE]"
_SHORTEST, _SPREAD = 24, 73
_REASONS = re.compile(r"(o\d|gpt-5)")


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the answer is to call."""

    name: str
    parameters: Json
    is_forced: bool


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What decides an answer."""

    key: bytes
    input_tokens: int
    audio_tokens: int = 0
    limit: int | None = None
    length: int | None = None
    choices: int = 1
    reasons: bool = False
    tool: Tool | None = None
    schema: Json | None = None
    """The answer is to be a JSON value of this schema."""
    is_filtered: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said: the pieces of each choice, and what they cost."""

    choices: tuple[tuple[str, ...], ...]
    finish: str
    tokens: Tokens
    tool: Tool | None = None

    @property
    def texts(self) -> list[str]:
        """The whole text of each choice."""
        return ["".join(pieces) for pieces in self.choices]


def is_reasoning(model: str) -> bool:
    """Says whether the model thinks before it speaks."""
    return _REASONS.match(model) is not None


def compose(ask: Ask) -> Answer:
    """Returns the one answer to what is asked. Reasoning tokens count against the limit, as they do at OpenAI."""
    reasoning = 64 * (1 + ask.key[1] % 4) if ask.reasons else 0
    if ask.limit is not None:
        reasoning = min(reasoning, ask.limit)
    room = None if ask.limit is None else ask.limit - reasoning
    whole = [_whole(ask, index) for index in range(ask.choices)]
    choices = tuple(pieces[:room] for pieces in whole)
    finish = "length" if any(len(kept) < len(pieces) for kept, pieces in zip(choices, whole, strict=True)) else "stop"
    if ask.tool is not None and finish == "stop" and not ask.tool.is_forced:
        finish = "tool_calls"
    if ask.is_filtered:
        choices, finish = tuple(pieces[: len(pieces) // 2] for pieces in choices), "content_filter"
    return Answer(
        choices=choices,
        finish=finish,
        tool=ask.tool,
        tokens=Tokens(
            input=ask.input_tokens,
            audio=ask.audio_tokens,
            output=reasoning + sum(map(len, choices)),
            reasoning=reasoning,
        ),
    )


def _whole(ask: Ask, index: int) -> tuple[str, ...]:
    schema = ask.schema if ask.tool is None else ask.tool.parameters
    if schema is not None:
        text = msgspec.json.encode(sample(schema)).decode()
        return tuple(text[at : at + 4] for at in range(0, len(text), 4))
    length = _SHORTEST + ask.key[0] % _SPREAD if ask.length is None else ask.length
    return pieces(ask.key + bytes([index % 256]), length)


@lru_cache(maxsize=4096)
def pieces(key: bytes, count: int) -> tuple[str, ...]:
    """Returns so many pieces of text; every third key gives text that is hard to carry."""
    source = random.Random(key)
    said = source.choices(_PIECES, k=count)
    if key[2] % 3 == 0:
        for at in range(source.randrange(5), count, 7):
            said[at] = source.choice(_HARD.split("|"))
    return tuple(said)


def sample(schema: Json) -> Any:
    """Returns a value that satisfies the plain parts of a JSON schema: types, properties, items, enum and const."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "properties" in schema:
        return {name: sample(inner) for name, inner in schema["properties"].items()}
    kinds = schema.get("type", "object")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if kind == "array":
        return [sample(schema.get("items", {}))]
    return {"string": "Z\u00fcrich", "integer": 7, "number": 2.5, "boolean": True, "null": None}.get(kind, {})
