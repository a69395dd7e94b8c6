"""Ids of stored objects, in what clients send and in what upstreams answer.

Rule: an object belongs to the client for whom it was made, and lives on the upstream that made it. An id is a whole JSON
string that begins as ids do; text that merely contains one is text. Items of responses and conversations (`msg_`, `rs_`, `fc_`,
...) are objects too: their kinds are many, and so they are told by their shape.
"""

import re
from datetime import timedelta

import msgspec

from shared.core import json_text

_KINDS: dict[str, timedelta | None] = {
    # What an id begins with, and how long the upstream keeps the object; None: until it is deleted.
    "asst": None,
    "chatcmpl": timedelta(days=31),
    "batch": None,
    "cntr": timedelta(days=31),  # upstream 20 minutes after its last use, which may be one of many
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
_ITEM_ID = (
    rb"((?!call_)[a-z]{2,12}[-_]"  # the id of a tool's call is the model's word for it, and names nothing that is kept
    rb"(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,200})"
)
_NAMED_ITEM = re.compile(rb'"' + _ITEM_ID + rb'"')
_TOLD_ITEM = re.compile(rb'"id"\s*:\s*"' + _ITEM_ID + rb'"')
_ITEMS_LIFE = timedelta(days=31)
"""That of the response which they are in."""
_ESCAPED = re.compile(rb"\\u00(2[dD]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF])")
"""A letter, digit, dash or underscore: what an id consists of."""


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """Whose an object is, and where it lives."""

    object_id: str
    client_id: str
    upstream: str


class _Item(msgspec.Struct):
    id: str | None = None
    type: str | None = None
    role: str | None = None
    encrypted_content: str | None = None
    content: msgspec.Raw | None = None
    result: msgspec.Raw | None = None
    approval_request_id: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether it says all that it is; else the upstream has to know it."""
        match self.type:
            case "reasoning":
                return bool(self.encrypted_content or self.content)
            case "image_generation_call":
                return self.result is not None
            case None:
                return self.role is not None
            case _:
                return self.type != "item_reference"


def ids_in(content: bytes) -> frozenset[str]:
    """The ids that stand in a JSON text. An id written with escapes (`\\u0066ile-...`) is found too, and so are those in a
    text that is not quite JSON: an upstream may be less strict than we are."""
    return _found(_ID, content)


def items_named_in(body: bytes) -> frozenset[str]:
    """What may be ids of items, wherever they stand in a request; those of other objects among it."""
    return _found(_NAMED_ITEM, body)


def items_told_in(answer: bytes) -> frozenset[str]:
    """The ids of the items in an answer, be it JSON or a stream of events, and of what else there has an `id`."""
    return _found(_TOLD_ITEM, answer)


def items_missing_in(items: bytes | msgspec.Raw) -> frozenset[str]:
    """The ids of those items of a response's input that the upstream has to know, because what they say is not with them."""
    try:
        given: list[_Item] = json_text.decode(items, list[_Item])
    except json_text.NOT_READABLE:
        return frozenset()
    here = {item.id for item in given if item.is_here}
    named = {item.id for item in given if not item.is_here} | {item.approval_request_id for item in given}
    return frozenset(each for each in named - here if each is not None)


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


def is_conversation(object_id: str) -> bool:
    """Whether it is the id of one, which is kept until it is deleted, with its items."""
    return object_id.startswith("conv_")


def lifetime(object_id: str, *, in_conversation: bool = False) -> timedelta | None:
    """How long an object of this kind lives; None: until it is deleted. An item lives as long as the response or conversation
    that it is in."""
    kind = re.split("[-_]", object_id, maxsplit=1)[0]
    return _KINDS.get(kind, None if in_conversation else _ITEMS_LIFE)


def _found(pattern: re.Pattern[bytes], content: bytes) -> frozenset[str]:
    if b"\\u00" in content:
        content = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), content)
    return frozenset(found.decode() for found in pattern.findall(content))
