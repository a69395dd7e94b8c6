"""Any other object of the API.

Rule: no usage. What an object says it used was counted when it was made; looking at it, or replaying its stream, is free.
"""

import msgspec

from shared.core.usage.reading import Part
from shared.core.usage.responses import TERMINAL
from shared.core.usage.wire import Message


class _Object(msgspec.Struct):
    id: str | None = None
    model: str | None = None


class _ObjectMessage(Message):
    """An object, or an event about one."""

    id: str | None = None
    model: str | None = None
    thread_id: str | None = None
    eval_id: str | None = None
    response: _Object | None = None


_decoder = msgspec.json.Decoder(_ObjectMessage)


def parse_object(data: bytes) -> Part:
    """An object: its id and model, no usage. Raises msgspec.DecodeError for what is not that."""
    message = _decoder.decode(data)
    found = message.response or message
    error, refused = (None, ()) if found.id else message.failure  # an object may tell of a failure that is its own
    return Part(
        model=found.model,
        response_id=found.id,
        parent_id=message.eval_id or message.thread_id,
        error=error,
        content_filter=refused,
        done=message.type in TERMINAL,
    )
