"""From a call to its record: open when it is accepted, closed when it has ended.

Rule: values in, values out. What is unknown stays None; text that others chose is cut to a length that fits anywhere.
"""

import hashlib
from datetime import datetime

import msgspec

from shared.core.call_record import Attempt, CallRecord, Outcome, UsageSource
from shared.core.calls import Call
from shared.core.configuration import Target
from shared.core.headers import Headers, for_record, get
from shared.core.usage import Reading

_LONGEST_TEXT = 256


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
    response: bytes = b""
    """The body as the upstream sent it."""
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
        request_bytes=len(call.body),
        request_sha256=hashlib.sha256(call.body).hexdigest(),
    )


def close_record(record: CallRecord, ending: Ending) -> CallRecord:
    """The record once its call has ended."""
    served, target, reading = ending.served, ending.served.target, ending.reading
    return msgspec.structs.replace(
        record,
        outcome=ending.outcome,
        closed_at=ending.closed_at,
        first_byte_ms=_ms(record.opened_at, ending.first_byte_at) if ending.first_byte_at else None,
        duration_ms=_ms(record.opened_at, ending.closed_at),
        status=served.status,
        attempts=served.attempts,
        deployment=target.deployment.name if target else None,
        upstream=target.upstream.name if target else None,
        region=(get(served.headers, "x-ms-region") or target.upstream.region) if target else None,
        model_served=_cut(reading.model),
        response_id=_cut(reading.response_id),
        finish_reasons=reading.finish_reasons,
        usage=reading.usage,
        usage_source=_source(ending),
        response_bytes=len(ending.response),
        response_sha256=hashlib.sha256(ending.response).hexdigest(),
        response_headers=for_record(served.headers),
        response_encoding=get(served.headers, "content-encoding"),
        error=_cut(ending.error),
    )


def _source(ending: Ending) -> UsageSource:
    if ending.reading.usage is None:
        return UsageSource.NONE
    return UsageSource.DRAINED if ending.outcome is Outcome.CLIENT_CLOSED else UsageSource.PROVIDER


def _ms(start: datetime, end: datetime) -> int:
    return round((end - start).total_seconds() * 1000)


def _cut(text: str | None) -> str | None:
    return text[:_LONGEST_TEXT] if text else None
