"""What a request said to a model: who said what, in order.

Rule: words are kept and what is not words is described (`[image 12345 bytes]`), never inlined. A body that cannot be read
gives what can be read of it, at worst nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from shared.core import json_text
from shared.core.api.operations import Form, Operation

type _Json = Mapping[str, Any]

_PROMPT_FIELDS = ("instructions", "messages", "prompt", "input")
"""Where a request says something, in the order in which a model reads it."""
_MEDIA = {
    "image_url": "image",
    "input_image": "image",
    "input_audio": "audio",
    "file": "file",
    "input_file": "file",
    "video_url": "video",
}
_DATA_FIELDS = ("data", "file_data", "url", "image_url", "file_url")
_DATA_URL = re.compile(r"^data:[^,]*,")
_PART_NAME = re.compile(rb'[ ;]name="?([^";\r\n]*)', re.IGNORECASE)
_FILE_NAME = re.compile(rb'filename="?([^";\r\n]*)', re.IGNORECASE)
_KIND = re.compile(rb"content-type:\s*(image|audio|video)/", re.IGNORECASE)
_READABLE_FIELDS = ("prompt", "input", "instructions")


class Message(msgspec.Struct, frozen=True):
    """What one side said. The role is the API's: system, developer, user, assistant or tool."""

    role: str
    content: str


def prompt_text(operation: Operation, body: bytes) -> tuple[Message, ...]:
    """What the body of a request says. Nothing where its operation takes no words, or it cannot be read."""
    if operation.form is Form.MULTIPART:
        return tuple(_of_form(body))
    if operation.form is not Form.JSON:
        return ()
    try:
        fields: Mapping[str, msgspec.Raw] = json_text.decode(body, dict[str, msgspec.Raw])
        return tuple(
            message
            for name in _PROMPT_FIELDS
            if name in fields
            for message in _messages(name, json_text.decode(fields[name]))
        )
    except json_text.NOT_READABLE:
        return ()


def _messages(field: str, value: Any) -> Iterator[Message]:
    if isinstance(value, list) and value and isinstance(value[0], dict) and "text" not in value[0]:
        yield from (_message(item) for item in value if isinstance(item, dict))
    elif isinstance(value, list) and value and isinstance(value[0], int):
        yield Message("user", f"[{len(value)} tokens]")
    elif value:
        items = value if isinstance(value, list) else [value]
        role = "system" if field == "instructions" else "user"
        yield from (Message(role, _content(item)) for item in items)


def _message(item: _Json) -> Message:
    """A message of chat completions, or an input item of the Responses API."""
    match item:
        case {"type": "function_call" | "custom_tool_call" | "mcp_call"}:
            return Message("assistant", _call(item))
        case {"type": "function_call_output" | "custom_tool_call_output"}:
            return Message("tool", _content(item.get("output")))
        case {"type": "reasoning"}:
            return Message("assistant", "[reasoning]" + _content(item.get("summary")))
        case {"role": str(role)}:
            return Message(role, "".join((_content(item.get("content")), *_calls(item.get("tool_calls")))))
    return Message("user", _content(item))


def _calls(value: Any) -> Iterator[str]:
    for call in value if isinstance(value, list) else ():
        match call:
            case {"function": dict(function)} | {"custom": dict(function)}:
                yield _call(function)


def _call(call: _Json) -> str:
    return f"[calls {call.get('name')}({call.get('arguments') or call.get('input') or ''})]"


def _content(value: Any) -> str:
    """A text, a part, or parts, in words."""
    match value:
        case str() | None:
            return value or ""
        case list() if value and isinstance(value[0], int):
            return f"[{len(value)} tokens]"
        case list():
            return "".join(map(_content, value))
        case {"text": str(text)} | {"refusal": str(text)}:
            return text
        case {"type": str(type_)}:
            kind = _MEDIA.get(type_)
            return _media(kind, value) if kind else f"[{type_}]"
    return f"[{type(value).__name__}]"


def _media(kind: str, part: _Json) -> str:
    """Something that is not words: how large it is, or where it is."""
    inner = part.get(part["type"], part)
    place = {"url": inner} if isinstance(inner, str) else inner if isinstance(inner, dict) else {}
    data = next((place[name] for name in _DATA_FIELDS if isinstance(place.get(name), str)), "")
    if data.startswith(("https:", "http:")):
        return f"[{kind} {data}]"
    if data:
        return f"[{kind} {_base64_bytes(_DATA_URL.sub('', data, count=1))} bytes]"
    return f"[{kind} {place.get('file_id') or place.get('filename') or 'without data'}]"


def _base64_bytes(text: str) -> int:
    return len(text.rstrip("=")) * 3 // 4


def _of_form(body: bytes) -> Iterable[Message]:
    """The words and files of multipart/form-data; its first line is its delimiter."""
    delimiter = body.partition(b"\r\n")[0]
    if not delimiter.startswith(b"--"):
        return
    for part in body.split(b"\r\n" + delimiter):
        head, _, data = part.removeprefix(delimiter).partition(b"\r\n\r\n")
        name, filename = _PART_NAME.search(head), _FILE_NAME.search(head)
        if filename:
            kind = _KIND.search(head)
            named = filename[1].decode("utf-8", "replace")
            yield Message("user", f"[{kind[1].decode().lower() if kind else 'file'} {named} {len(data)} bytes]")
        elif name and name[1].decode("latin-1") in _READABLE_FIELDS:
            yield Message("user", data.decode("utf-8", "replace"))
