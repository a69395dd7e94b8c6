"""A closed call as a row of Data Explorer's table CallRecords.

Rule: a row has the columns that queries/tables.kql declares, in its order (a test holds the two together), in APIM's words
where those fit. The same call gives the same row, so that rows which came twice can be told by their CallId. The archive has
the bodies; a row has what they say.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from shared.core.api.completion_text import ChoiceText, ToolCall
from shared.core.api.prompt_text import Message
from shared.core.call_record import Attempt, CallRecord
from shared.core.headers import is_spilled_over
from shared.core.money.deferred import counted_tier
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.conversation import conversation
from shared.core.usage import TokenUsage

VERSION = 1
"""Of what a row means. Stored with each, and raised when columns change their meaning."""

TEXT_LIMIT = 12 * 1024 * 1024
"""Characters of the request's, and of the response's, messages: as JSON they stay below the 32 MB that tables.kql allows."""


class ResponseMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one choice said."""

    role: str
    content: str
    refusal: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One row; its columns are the fields in PascalCase. Instants are UTC, `_ms` milliseconds from `opened_at`."""

    record_version: int
    call_id: str
    opened_at: datetime
    closed_at: datetime | None
    first_byte_ms: int | None
    duration_ms: int | None
    upstream_ms: int
    """Spent on attempts, each until its answer began. `first_byte_ms` less this is what the gateway itself took."""
    client_id: str
    cost_center: str
    end_user: str | None
    caller_ip: str | None
    user_agent: str | None
    operation_name: str
    url_style: str
    api_version: str | None
    model_asked: str
    model_name: str
    """The model that served; the one asked for where nobody said."""
    model_served: str | None
    """The model that served, where somebody said."""
    tier: str | None
    """What the price depends on besides the model: `batch`, `priority`, `hd/1024x1024`."""
    deployment_name: str | None
    upstream: str | None
    region: str | None
    is_stream_completion: bool
    outcome: str | None
    status: int | None
    error: str | None
    content: str
    """How much of the call is kept: `full`, `metadata` or `none`."""
    redactions: dict[str, int]
    trace_id: str | None
    finish_reasons: tuple[str, ...]
    content_filter: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    usage_source: str | None
    input_tokens: int | None
    cached_input_tokens: int | None
    cache_write_input_tokens: int | None
    audio_input_tokens: int | None
    image_input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    audio_output_tokens: int | None
    image_output_tokens: int | None
    audio_ms: int | None
    """Milliseconds of sound that were listened to."""
    images: int | None
    characters: int | None
    total_tokens: int | None
    """Input and output; unknown where neither is known."""
    request_bytes: int
    response_bytes: int | None
    request_sha256: str
    response_sha256: str | None
    response_id: str | None
    request_parameters: dict[str, Any]
    response_headers: dict[str, str]
    is_spilled_over: bool
    """Whether Azure served it from another deployment than the one asked, for want of provisioned capacity."""
    spillover_from: str | None
    request_messages: tuple[Message, ...]
    response_messages: tuple[ResponseMessage, ...]


COLUMNS: tuple[str, ...] = Row.__struct_encode_fields__

_CALLED_OTHERWISE = {"operation": "operation_name", "deployment": "deployment_name", "stream": "is_stream_completion"}
_COPIED = tuple(name for name in CallRecord.__struct_fields__ if name in Row.__struct_fields__)


def row_of(call: ArchivedCall) -> Row:
    """The row of a call that has ended."""
    record, said = call.record, conversation(call)
    copied = {name: getattr(record, name) for name in _COPIED} | {"tier": counted_tier(record)}
    renamed = {ours: getattr(record, theirs) for theirs, ours in _CALLED_OTHERWISE.items()}
    usage = record.usage or TokenUsage()
    return Row(
        **copied,
        **renamed,
        **msgspec.structs.asdict(usage),
        record_version=VERSION,
        trace_id=record.trace_id,
        upstream_ms=sum(attempt.duration_ms for attempt in record.attempts),
        model_asked=record.model,
        model_name=record.model_served or record.model,
        total_tokens=_total(usage),
        is_spilled_over=is_spilled_over(record.response_headers),
        spillover_from=record.response_headers.get("x-ms-spillover-from-deployment"),
        request_messages=tuple(_fitting(said.prompt)),
        response_messages=tuple(_said(said.completion)),
    )


def json_lines(rows: Iterable[Row]) -> bytes:
    """The rows as what is ingested: a line of JSON each."""
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def _total(usage: TokenUsage) -> int | None:
    known = [tokens for tokens in (usage.input_tokens, usage.output_tokens) if tokens is not None]
    return sum(known) if known else None


def _fitting(messages: Iterable[Message]) -> Iterator[Message]:
    """The messages, as far as a row may hold them."""
    left = TEXT_LIMIT
    for message in messages:
        yield Message(message.role, _cut(message.content, left))
        left -= len(message.content)
        if left <= 0:
            return


def _said(choices: Iterable[ChoiceText]) -> Iterator[ResponseMessage]:
    left = TEXT_LIMIT
    for choice in choices:
        yield ResponseMessage(
            role="assistant",
            content=_cut(choice.content, left),
            refusal=_cut(choice.refusal, left),
            reasoning=_cut(choice.reasoning, left),
            tool_calls=choice.tool_calls,
            finish_reason=choice.finish_reason,
        )
        left = max(0, left - len(choice.content))


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}[cut: {len(text)} characters, the archive has them all]"
