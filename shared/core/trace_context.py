"""Where a call stands in a trace: W3C trace context, from the client through us to the upstream.

Rule: ids of attempts follow from the call's, so they are known before an attempt and again when its span is made of the record.
https://www.w3.org/TR/trace-context/
"""

import hashlib
import re

import msgspec

from shared.core.headers import Headers

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


class TraceContext(msgspec.Struct, frozen=True, kw_only=True):
    """A span of ours, and the one that it is a child of. Ids are lower-case hex, of 16 and of 8 bytes."""

    trace_id: str
    span_id: str
    parent_id: str | None = None
    is_sampled: bool = True

    @property
    def traceparent(self) -> str:
        """As the next one in line gets it."""
        return f"00-{self.trace_id}-{self.span_id}-{self.is_sampled:02x}"


def trace_of(headers: Headers) -> TraceContext | None:
    """The span of whoever asks, from its `traceparent`; None where there is none, or none that can be read."""
    stated = [value for name, value in headers if name == "traceparent"]
    found = _TRACEPARENT.fullmatch(stated[0]) if len(stated) == 1 else None
    if found is None or (found[1] == "00" and found[5]):
        return None
    return TraceContext(trace_id=found[2], span_id=found[3], is_sampled=bool(int(found[4], 16) & _SAMPLED))


def child(parent: TraceContext, span_id: str) -> TraceContext:
    """A span below another."""
    return TraceContext(
        trace_id=parent.trace_id, span_id=span_id, parent_id=parent.span_id, is_sampled=parent.is_sampled
    )


def attempt_of(call: TraceContext, number: int) -> TraceContext:
    """The span of a call's attempt, counted from 0."""
    return child(call, hashlib.sha256(f"{call.span_id}/{number}".encode()).hexdigest()[:16])


def for_attempt(headers: Headers, attempt: TraceContext) -> Headers:
    """The headers with the attempt as whoever asks. A `tracestate` belongs to the trace that a readable `traceparent` names."""
    dropped = {"traceparent"} if trace_of(headers) else {"traceparent", "tracestate"}
    return (*((name, value) for name, value in headers if name not in dropped), ("traceparent", attempt.traceparent))
