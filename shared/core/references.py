"""Ids of stored objects, in what clients send and in what upstreams answer.

Rule: an object belongs to the client for whom it was made, and lives on the upstream that made it. An id is a whole JSON
string that begins as ids do; text that merely contains one is text.
"""

import re
from datetime import timedelta

import msgspec

_KINDS: dict[str, timedelta | None] = {
    # What an id begins with, and how long the upstream keeps the object; None: until it is deleted.
    "asst": None,
    "chatcmpl": timedelta(days=31),
    "batch": None,
    "cntr": timedelta(hours=1),
    "conv": None,
    "eval": None,
    "evalrun": None,
    "file": None,
    "assistant": None,  # Azure's files of assistants: assistant-...
    "ftjob": None,
    "resp": timedelta(days=31),
    "run": None,
    "thread": None,
    "upload": timedelta(hours=2),
    "vs": None,
    "vsfb": None,
}

_ID = re.compile(rb'"((?:' + "|".join(sorted(_KINDS, key=len, reverse=True)).encode() + rb')[-_][A-Za-z0-9_-]{6,200})"')


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """Whose an object is, and where it lives."""

    object_id: str
    client_id: str
    upstream: str


def ids_in(content: bytes) -> frozenset[str]:
    """The ids that stand in a JSON text. An id written with escapes (`\\u0066ile-...`) is found too."""
    if b"\\u00" in content:
        try:
            content = msgspec.json.encode(msgspec.json.decode(content))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return frozenset()
    return frozenset(found.decode() for found in _ID.findall(content))


def lifetime(object_id: str) -> timedelta | None:
    """How long an object of this kind lives; None: until it is deleted, or of unknown kind."""
    return _KINDS.get(re.split("[-_]", object_id, maxsplit=1)[0])
