"""CallRecord: the immutable account of one call.

Rule: a record with no outcome is open: the call was accepted and has not ended yet. The closed record repeats what the
open one said, so the two can be merged in either order, any number of times.
"""

from datetime import datetime
from enum import StrEnum

import msgspec

from shared.core.trace_context import TraceContext
from shared.core.usage import TokenUsage


class Outcome(StrEnum):
    """How a call ended."""

    COMPLETED = "completed"
    CLIENT_CLOSED = "client_closed"
    UPSTREAM_ERROR = "upstream_error"
    REJECTED = "rejected"
    """Refused by the gateway, and not forwarded."""
    INCOMPLETE = "incomplete"
    """Opened, and never heard of again: given by the rollup after a grace time, replaced if the end turns up."""


class UsageSource(StrEnum):
    """Where a call's token counts come from."""

    PROVIDER = "provider"
    DRAINED = "drained"
    """The provider's, read to its end after the client had gone."""
    ESTIMATED = "estimated"
    """Counted by the gateway, from what was produced before the upstream was stopped."""
    COUNTED = "counted"
    """Counted by the gateway in the request, where that is what is billed: the characters to be spoken."""
    NONE = "none"
    """Nobody said."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One request to one deployment. `status` is None where no answer came; then `error` says why."""

    deployment: str
    upstream: str
    status: int | None
    error: str | None
    duration_ms: int
    """Until its answer began."""
    started_ms: int | None = None
    """From the call's `opened_at`."""


class CallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Instants are UTC; `_ms` are milliseconds from `opened_at`, `_bytes` are bytes of the body."""

    call_id: str
    client_id: str
    cost_center: str
    operation: str
    url_style: str
    api_version: str | None
    model: str
    """As the client asked for it."""
    stream: bool
    end_user: str | None
    caller_ip: str | None
    user_agent: str | None
    opened_at: datetime
    request_bytes: int
    request_sha256: str
    request_parameters: dict[str, str | int | float | bool | list[str]] = {}
    """What was asked for besides the content: temperature, size, the names of tools, ..."""

    outcome: Outcome | None = None
    closed_at: datetime | None = None
    first_byte_ms: int | None = None
    """Until the first byte of the answer was handed to the client."""
    duration_ms: int | None = None
    status: int | None = None
    """What the client was answered."""
    attempts: tuple[Attempt, ...] = ()
    deployment: str | None = None
    upstream: str | None = None
    region: str | None = None
    model_served: str | None = None
    tier: str | None = None
    """What its price depends on besides the model: `batch`, `flex`, `priority`; of images quality and size. None: standard."""
    response_id: str | None = None
    response_parent: str | None = None
    """The id of the thread or evaluation that the answer's object stands below."""
    finish_reasons: tuple[str, ...] = ()
    content_filter: tuple[str, ...] = ()
    """What a content filter held back: `prompt.violence`, `completion.hate`, ..."""
    usage: TokenUsage | None = None
    usage_source: UsageSource | None = None
    response_bytes: int | None = None
    response_sha256: str | None = None
    response_headers: dict[str, str] = {}
    response_encoding: str | None = None
    """The Content-Encoding of the response body, which is recorded as it was sent."""
    error: str | None = None
    trace: TraceContext | None = None
    """Its span, where telemetry is on."""
    redactions: dict[str, int] = {}
    """How often which pattern was taken out of what is kept. The digests above are of what was sent."""
    content: str = "full"
    """How much of the call is kept: `full`, `metadata` or `none`."""

    @property
    def trace_id(self) -> str | None:
        """Where to find it among the traces."""
        return self.trace.trace_id if self.trace else None
