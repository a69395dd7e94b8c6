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
    "skill": None,
    "thread": None,
    "upload": timedelta(hours=2),
    "video": timedelta(days=2),
    "vs": None,
    "vsfb": None,
}

_ANY_ID = (
    rb"((?:" + "|".join(sorted(_KINDS, key=len, reverse=True)).encode() + rb")[-_]"
    rb"(?=[a-z_-]*[0-9A-Z])[A-Za-z0-9_-]{6,200})"  # random, and so not all small letters as the tool `file_search` is
)
_ID = re.compile(rb'"' + _ANY_ID + rb'"')
_WHOLE_ID = re.compile(_ANY_ID.decode())
_MAY_BE = re.compile(r"[A-Za-z0-9._:-]{1,256}")
_ID_FIELD = re.compile(rb"\r?\n\r?\n\s*" + _ANY_ID + rb"\s*\r?\n--")
_JSON_OBJECT = re.compile(rb"\s*\{")
_ESCAPED = re.compile(rb"\\u00(2[dD]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF])")
"""A letter, digit, dash or underscore: what an id consists of."""


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """Whose an object is, and where it lives."""

    object_id: str
    client_id: str
    upstream: str


def ids_in(content: bytes) -> frozenset[str]:
    """The ids that stand in a JSON text. An id written with escapes (`\\u0066ile-...`) is found too, and so are those in a
    text that is not quite JSON: an upstream may be less strict than we are."""
    if b"\\u00" in content:
        content = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), content)
    return frozenset(found.decode() for found in _ID.findall(content))


def ids_in_form(body: bytes) -> frozenset[str]:
    """The ids that are fields of a multipart body; and those of a body that is JSON after all, as some operations allow."""
    in_json = ids_in(body) if _JSON_OBJECT.match(body) else frozenset()
    return in_json | frozenset(found.decode() for found in _ID_FIELD.findall(body))


def ids_in_path(path: str) -> frozenset[str]:
    """The ids that are segments of a path."""
    return frozenset(filter(_WHOLE_ID.fullmatch, path.split("/")))


def may_be_id(text: str) -> bool:
    """Whether an id of any kind could be written so; nothing else is looked up."""
    return _MAY_BE.fullmatch(text) is not None


def lifetime(object_id: str) -> timedelta | None:
    """How long an object of this kind lives; None: until it is deleted, or of unknown kind."""
    return _KINDS.get(re.split("[-_]", object_id, maxsplit=1)[0])
