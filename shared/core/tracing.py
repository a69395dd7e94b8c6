"""A call as a trace: which spans and measurements its record amounts to, by OpenTelemetry's GenAI conventions.

    chat gpt-4o                      SERVER    the call, from its acceptance to its end; a child of the client's own span
    ├─ publish opened                PRODUCER  that there is a call is made durable
    ├─ chat gpt-4o                   CLIENT    an attempt at a deployment, one span each; the upstream's spans are its children
    ├─ publish closed                PRODUCER  how it ended is made durable
    └─ record                        CONSUMER  it is written to the sinks, wherever that happens

Rule: made of a call's record when it has ended, so nothing of it has to be carried through the stream. No content, no key,
nothing that a client wrote but the name of a model. https://opentelemetry.io/docs/specs/semconv/gen-ai/ (in development)
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

import msgspec

from shared.core.call_record import Attempt, CallRecord, Outcome
from shared.core.configuration import Upstream, UpstreamKind
from shared.core.trace_context import TraceContext, attempt_of

type Attributes = dict[str, str | int | float | bool | list[str]]


class Kind(StrEnum):
    """What a span stands for, in OpenTelemetry's words."""

    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"
    INTERNAL = "INTERNAL"


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A span as a value. `error` is its `error.type`; None: it did what it was to do."""

    name: str
    kind: Kind
    context: TraceContext
    start: datetime
    end: datetime
    attributes: Attributes
    error: str | None = None


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a metric in METRICS."""

    metric: str
    value: float
    attributes: Attributes


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A histogram: its unit in UCUM, what it tells, and the upper bounds of its buckets."""

    unit: str
    help: str
    bounds: tuple[float, ...]


_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(float(4**power) for power in range(14))

METRICS = {
    "gen_ai.server.request.duration": Metric(unit="s", help="A call, from its acceptance to its end.", bounds=_SECONDS),
    "gen_ai.server.time_to_first_token": Metric(
        unit="s", help="A streamed call, from its acceptance to the answer's first byte.", bounds=_SECONDS
    ),
    "gen_ai.client.operation.duration": Metric(unit="s", help="An attempt at a deployment.", bounds=_SECONDS),
    "gen_ai.client.token.usage": Metric(unit="{token}", help="Tokens that are billed, of a call.", bounds=_TOKENS),
    "tollgate.step.duration": Metric(
        unit="s", help="A step of publishing, recording or rolling up, by `tollgate.step`.", bounds=_SECONDS
    ),
}

BACKLOG = "tollgate.backlog"
"""A gauge beside these: what waits to be kept, by `tollgate.backlog.of`: messages, shelved or quarantined."""

_OPERATIONS = {"chat.completions": "chat", "responses": "chat", "completions": "text_completion"}
"""The conventions' names for our operations; those that it does not name keep ours."""
_API_TYPES = {"chat.completions": "chat_completions", "responses": "responses"}
_REQUEST = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "n": "gen_ai.request.choice.count",
    "seed": "gen_ai.request.seed",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "service_tier": "openai.request.service_tier",
}
_USAGE = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_input_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}


def spans_of(record: CallRecord, upstreams: Mapping[str, Upstream]) -> tuple[Span, ...]:
    """The spans of a call that has ended, its own first; none where it is in no trace, or in one that is not kept."""
    if record.trace is None or not record.trace.is_sampled or record.closed_at is None:
        return ()
    call = Span(
        name=_span_name(record),
        kind=Kind.SERVER,
        context=record.trace,
        start=record.opened_at,
        end=record.closed_at,
        attributes=_common(record, upstreams.get(record.upstream or "")) | _call(record),
        error=_error_of(record),
    )
    attempts = (
        _attempt_span(record, record.trace, number, attempt, upstreams.get(attempt.upstream))
        for number, attempt in enumerate(record.attempts)
    )
    return (call, *attempts)


def measurements_of(record: CallRecord, upstreams: Mapping[str, Upstream]) -> tuple[Measurement, ...]:
    """What a call that has ended adds to the metrics."""
    common = _common(record, upstreams.get(record.upstream or ""))
    about = common | _error(_error_of(record)) | {"tollgate.client.id": record.client_id}
    found = [
        _measured("gen_ai.server.request.duration", _s(record.duration_ms), about),
        _measured("gen_ai.server.time_to_first_token", _s(record.first_byte_ms) if record.stream else None, about),
    ]
    if record.usage:
        for type_ in ("input", "output"):
            tokens = getattr(record.usage, f"{type_}_tokens")
            found.append(_measured("gen_ai.client.token.usage", tokens, about | {"gen_ai.token.type": type_}))
    for number, attempt in enumerate(record.attempts):
        of_attempt = _common(record, upstreams.get(attempt.upstream)) | _attempt(attempt, number)
        seconds = _s(attempt.duration_ms)
        found.append(_measured("gen_ai.client.operation.duration", seconds, of_attempt | _error(_failure(attempt))))
    return tuple(each for each in found if each)


def _measured(metric: str, value: float | None, attributes: Attributes) -> Measurement | None:
    return None if value is None else Measurement(metric=metric, value=value, attributes=attributes)


def _span_name(record: CallRecord) -> str:
    return f"{_OPERATIONS.get(record.operation, record.operation)} {record.model}".strip()


def _attempt_span(
    record: CallRecord, call: TraceContext, number: int, attempt: Attempt, upstream: Upstream | None
) -> Span:
    start = record.opened_at + timedelta(milliseconds=attempt.started_ms or 0)
    end = start + timedelta(milliseconds=attempt.duration_ms)
    is_served = number == len(record.attempts) - 1 and record.deployment is not None
    if is_served and record.closed_at:
        end = max(end, record.closed_at)  # its duration ends where the answer began, its span with the answer
    return Span(
        name=_span_name(record),
        kind=Kind.CLIENT,
        context=attempt_of(call, number),
        start=start,
        end=end,
        attributes=_common(record, upstream) | _attempt(attempt, number),
        error=_failure(attempt),
    )


def _common(record: CallRecord, upstream: Upstream | None) -> Attributes:
    found: Attributes = {"gen_ai.operation.name": _OPERATIONS.get(record.operation, record.operation)}
    if record.model:
        found["gen_ai.request.model"] = record.model
    if record.model_served:
        found["gen_ai.response.model"] = record.model_served
    if upstream:
        is_azure = upstream.kind is not UpstreamKind.OPENAI
        found["gen_ai.provider.name"] = "azure.ai.openai" if is_azure else "openai"
        url = urlsplit(upstream.url)
        found["server.address"] = url.hostname or ""
        found["server.port"] = url.port or (443 if url.scheme == "https" else 80)
    return found


def _call(record: CallRecord) -> Attributes:
    found: Attributes = {
        "tollgate.call.id": record.call_id,
        "tollgate.client.id": record.client_id,
        "tollgate.cost_center": record.cost_center,
        "tollgate.operation": record.operation,
        "tollgate.outcome": record.outcome or "",
        "tollgate.attempts": len(record.attempts),
        "gen_ai.request.stream": record.stream,
    }
    optional: dict[str, str | int | float | bool | list[str] | None] = {
        "http.response.status_code": record.status,
        "openai.api.type": _API_TYPES.get(record.operation),
        "gen_ai.response.id": record.response_id,
        "gen_ai.response.finish_reasons": list(record.finish_reasons) or None,
        "gen_ai.response.time_to_first_chunk": _s(record.first_byte_ms) if record.stream else None,
        "tollgate.deployment": record.deployment,
        "tollgate.usage_source": record.usage_source,
        **{_REQUEST[name]: value for name, value in record.request_parameters.items() if name in _REQUEST},
    }
    if record.usage:
        optional |= {attribute: getattr(record.usage, field) for field, attribute in _USAGE.items()}
    return found | {name: value for name, value in optional.items() if value is not None}


def _attempt(attempt: Attempt, number: int) -> Attributes:
    found: Attributes = {"tollgate.deployment": attempt.deployment, "tollgate.attempt": number}
    return found if attempt.status is None else found | {"http.response.status_code": attempt.status}


def _failure(attempt: Attempt) -> str | None:
    """Why an attempt was none that served, as one of few words."""
    if attempt.status is not None:
        return str(attempt.status) if attempt.error or attempt.status >= 400 else None
    return (attempt.error or "no answer").partition(":")[0]


def _error_of(record: CallRecord) -> str | None:
    if record.status is not None and record.status >= 400:
        return str(record.status)
    return None if record.outcome is Outcome.COMPLETED else str(record.outcome)


def _error(error: str | None) -> Attributes:
    return {} if error is None else {"error.type": error}


def _s(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
