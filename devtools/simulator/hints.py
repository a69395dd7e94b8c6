"""Reads `status=429; retry-after=3` or the same as a JSON object: one notation for faults and for pace."""

from typing import Any

import msgspec


def merge[T: msgspec.Struct](base: T, hint: str) -> T:
    """Returns `base` with the hint's fields on top.

    A name alone means true; dashes and underscores are alike. Raises `msgspec.ValidationError` for an unknown name or
    a value of the wrong type, and `msgspec.DecodeError` for JSON that is none.
    """
    fields = msgspec.json.decode(hint, type=dict[str, Any]) if hint.lstrip().startswith("{") else _pairs(hint)
    named = {name.strip().lower().replace("-", "_"): value for name, value in fields.items()}
    return msgspec.convert({**msgspec.structs.asdict(base), **named}, type(base), strict=False)


def _pairs(hint: str) -> dict[str, str]:
    parts = (part.partition("=") for part in hint.split(";") if part.strip())
    return {name: value.strip() if equals else "true" for name, equals, value in parts}
