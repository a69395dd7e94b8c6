"""From a call to its record: open when it is accepted, closed when it has ended.

Rule: values in, values out. What is unknown stays None; text that others chose is cut to a length that fits anywhere.
"""

import hashlib
from contextlib import suppress
from datetime import datetime

import msgspec

from shared.core import json_text
from shared.core.api import multipart
from shared.core.api.operations import Form
from shared.core.call_record import Attempt, CallRecord, Outcome, UsageSource
from shared.core.calls import Call
from shared.core.configuration import Target
from shared.core.headers import Headers, for_record, get, is_spilled_over
from shared.core.json_text import NOT_READABLE
from shared.core.money.prices import BATCH, SPILLOVER, STANDARD_TIERS, TRAINING, with_length, without_length
from shared.core.recording.archive import Extent
from shared.core.usage import Reading, TokenUsage

_LONGEST_TEXT = 256
_LONGEST_WORD = 64
_MOST_TOOLS = 64
_MOST_REASONS = 128


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What came of trying: every attempt, and what the last answer was. No `target`: no deployment answered."""

    attempts: tuple[Attempt, ...]
    status: int
    target: Target | None = None
    headers: Headers = ()
    asked_usage: bool = False
    """Whether the gateway asked for a usage chunk that the client did not."""
    is_failure: bool = False
    """Whether it is handed on only because no other deployment could serve."""
    retry_after_s: float | None = None
    """How long until any deployment may be asked again, where that is known better than the last one said."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a call ended."""

    outcome: Outcome
    closed_at: datetime
    served: Served
    first_byte_at: datetime | None = None
    reading: Reading = Reading()
    estimate: TokenUsage | None = None
    """Made where the answer was stopped before it told its usage."""
    response: bytes = b""
    """The body as the upstream sent it."""
    passed: Extent | None = None
    """In its place, where it was too large to be held."""
    error: str | None = None


def open_record(call: Call) -> CallRecord:
    """The record of a call that was accepted."""
    return CallRecord(
        call_id=call.call_id,
        client_id=call.client.id,
        cost_center=call.client.cost_center,
        operation=call.route.operation.name,
        url_style=call.route.style,
        api_version=_cut(call.api_version),
        model=call.model,
        stream=call.stream,
        end_user=_cut(call.end_user),
        caller_ip=_cut(call.request.caller_ip),
        user_agent=_cut(get(call.request.headers, "user-agent")),
        opened_at=call.opened_at,
        request_bytes=call.upload.declared_bytes if call.upload else len(call.body),
        request_sha256=hashlib.sha256(call.body).hexdigest(),
        request_parameters=_parameters(call),
        trace=call.trace,
    )


def close_record(call: Call, record: CallRecord, ending: Ending) -> CallRecord:
    """The record once its call has ended."""
    served, target, reading = ending.served, ending.served.target, ending.reading
    headers = for_record(served.headers)
    usage, source = _usage(call, ending)
    answer = ending.passed or Extent.of(ending.response)
    tier = SPILLOVER if is_spilled_over(headers) else tier_of(call, reading)
    if call.upload:
        record = msgspec.structs.replace(record, request_sha256=call.upload.sha256)
    return msgspec.structs.replace(
        record,
        outcome=ending.outcome,
        closed_at=ending.closed_at,
        first_byte_ms=milliseconds(record.opened_at, ending.first_byte_at) if ending.first_byte_at else None,
        duration_ms=milliseconds(record.opened_at, ending.closed_at),
        status=served.status,
        attempts=served.attempts,
        deployment=target.deployment.name if target else None,
        upstream=target.upstream.name if target else None,
        region=_cut(get(served.headers, "x-ms-region") or target.upstream.region) if target else None,
        model_served=_cut(reading.model),
        tier=_cut(with_length(tier, usage.input_tokens if usage else None)),
        response_id=_cut(reading.response_id),
        response_parent=_cut(reading.parent_id),
        finish_reasons=tuple(reason[:_LONGEST_WORD] for reason in reading.finish_reasons[:_MOST_REASONS]),
        content_filter=tuple(filtered[:_LONGEST_WORD] for filtered in reading.content_filter[:_MOST_REASONS]),
        usage=usage,
        usage_source=source,
        response_bytes=answer.size,
        response_sha256=answer.sha256,
        response_headers={name: value[:_LONGEST_TEXT] for name, value in headers.items()},
        response_encoding=_cut(get(served.headers, "content-encoding")),
        error=_cut(ending.error or reading.error),
    )


def tier_of(call: Call, reading: Reading) -> str:
    """What the price depends on besides the model: as the answer says it, else as it was asked for. Empty: the standard.

    A single call is no batch, and has spilled over only where the upstream says so: it would choose what it costs.
    """
    asked = call.route.operation.tier_fields
    told = reading.tier or "/".join(filter(None, (_asked(call, name) or default for name, default in asked.items())))
    told = without_length(told)
    return "" if told in STANDARD_TIERS or told in (BATCH, SPILLOVER, TRAINING) else told


def _asked(call: Call, name: str) -> str | None:
    """A short text that a request has in a field, of either form."""
    try:
        if call.route.operation.form is Form.MULTIPART:
            part = multipart.find(call.body, get(call.request.headers, "content-type") or "", name)
            return part.value if part else None
        return json_text.decode(call.fields[name], str) if name in call.fields else None
    except NOT_READABLE:
        return None


def _is_background(call: Call) -> bool:
    try:
        return json_text.decode(call.fields.get("background", b"false"), bool)
    except NOT_READABLE:
        return False


def _usage(call: Call, ending: Ending) -> tuple[TokenUsage | None, UsageSource | None]:
    """What was used, and who says so. No source: nothing that is counted."""
    operation = call.route.operation
    if ending.reading.usage is not None:
        is_drained = ending.outcome is Outcome.CLIENT_CLOSED
        return ending.reading.usage, UsageSource.DRAINED if is_drained else UsageSource.PROVIDER
    if operation.told_later and ending.reading.response_id and _is_background(call):
        return None, None  # its object will tell it: see core/money/deferred
    if ending.estimate is not None:
        return ending.estimate, UsageSource.ESTIMATED
    if operation.count_request and ending.served.status < 300 and (counted := operation.count_request(call.fields)):
        return counted, UsageSource.COUNTED
    return None, UsageSource.NONE if operation.tells_usage else None


_PARAMETERS = (
    "temperature", "top_p", "n", "seed", "max_tokens", "max_completion_tokens", "max_output_tokens", "presence_penalty",
    "frequency_penalty", "reasoning_effort", "service_tier", "parallel_tool_calls", "store", "background", "truncation",
    "size", "quality", "style", "voice", "speed", "response_format", "dimensions", "encoding_format",
)  # fmt: skip


class _Tool(msgspec.Struct):
    name: str | None = None
    type: str | None = None
    function: "_Tool | None" = None


def _parameters(call: Call) -> dict[str, str | int | float | bool | list[str]]:
    """The parameters that are one word or number, and the names of tools."""
    found: dict[str, str | int | float | bool | list[str]] = {}
    for name in _PARAMETERS:
        if (
            (raw := call.fields.get(name)) is not None
            and len(value := bytes(raw)) <= _LONGEST_WORD
            and value[:1] not in b"{[n"
        ):
            with suppress(*NOT_READABLE):  # the upstream will say what is wrong with it
                found[name] = json_text.decode(value, str | int | float | bool)
    if "tools" in call.fields:
        found["tools"] = _tools(call.fields["tools"])
    return found


def _tools(raw: msgspec.Raw) -> list[str]:
    try:
        tools: list[_Tool] = json_text.decode(raw, list[_Tool])
    except NOT_READABLE:
        return []  # the upstream will say what is wrong with them
    names = (tool.name or (tool.function and tool.function.name) or tool.type for tool in tools[:_MOST_TOOLS])
    return [name[:_LONGEST_WORD] for name in names if name]


def milliseconds(start: datetime, end: datetime) -> int:
    """From one instant to another."""
    return round((end - start).total_seconds() * 1000)


def _cut(text: str | None) -> str | None:
    return text[:_LONGEST_TEXT] if text else None
