"""The Responses API (https://platform.openai.com/docs/api-reference/responses and .../responses-streaming).

Rule: usage is counted where a response is made. One that is made in the background says null when it is created, and
that stays unknown: what is retrieved later is no new usage.
"""

import msgspec

from shared.core.usage.reading import Part
from shared.core.usage.wire import NOTHING, Message, Usage, annotated, word

TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled", "error"})
_ENDED = frozenset({"completed", "incomplete", "failed", "cancelled"})


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Response(Message):
    id: str | None = None
    model: str | None = None
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    usage: Usage | None = None
    service_tier: msgspec.Raw = NOTHING
    content_filters: msgspec.Raw = NOTHING


class _Message(_Response):
    """A response, or an event about one."""

    response: _Response | None = None


_decoder = msgspec.json.Decoder(_Message)


def parse_response(data: bytes) -> Part:
    """A response or one event of its stream. Raises msgspec.DecodeError for what is not that."""
    message = _decoder.decode(data)
    response = message.response or message
    error, refused = response.failure
    return Part(
        model=response.model,
        response_id=response.id,
        finish_reasons=_finish_reasons(response),
        usage=response.usage.read() if response.usage else None,
        tier=None if response.service_tier is NOTHING else word(response.service_tier),
        error=error,
        content_filter=refused or annotated(response.content_filters),
        done=message.type in TERMINAL,
    )


def _finish_reasons(response: _Response) -> tuple[str, ...]:
    """Why it is incomplete, else how it ended."""
    details = response.incomplete_details
    reason = (details and details.reason) or response.status
    return (reason,) if reason and response.status in _ENDED else ()
