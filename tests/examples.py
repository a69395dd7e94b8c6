"""Calls that tests are about, made by numbers: same number, same call."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.core.call_ids import mint
from shared.core.call_record import Attempt, CallRecord, Outcome, UsageSource
from shared.core.calls import Call, InboundRequest, begun, routed, understood
from shared.core.configuration import Client, Deployment, Target, Upstream, UpstreamKind
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.events import Body, Closed, Opened
from shared.core.usage import TokenUsage

NOON = datetime(2026, 11, 21, 12, 0, 0, 250_000, UTC)

SENTENCES = {
    "plain": "Good morning.",
    "line separator": "one\u2028two\u2029three\x85four\x0bfive\x0csix",
    "two, three and four bytes a character": "Grüße, 東京 и \U0001f680",
    "looks like a stream": "data: [DONE]\\n\\ndata: {}",
}


def call_id(number: int = 0, at: datetime = NOON) -> str:
    return mint(at, number.to_bytes(10))


def opened_record(number: int = 0, at: datetime = NOON, **fields: Any) -> CallRecord:
    """A call that was accepted."""
    record = CallRecord(
        call_id=call_id(number, at),
        client_id="team-blue",
        cost_center="cc-1",
        operation="chat.completions",
        url_style="openai",
        api_version=None,
        model="gpt-4o",
        stream=True,
        end_user=None,
        caller_ip="203.0.113.7",
        user_agent="tests",
        opened_at=at,
        request_bytes=17,
        request_sha256="ab" * 32,
    )
    return msgspec.structs.replace(record, **fields)


def closed_record(number: int = 0, at: datetime = NOON, **fields: Any) -> CallRecord:
    """The same call, ended."""
    ended: dict[str, Any] = {
        "outcome": Outcome.COMPLETED,
        "closed_at": at,
        "first_byte_ms": 40,
        "duration_ms": 90,
        "status": 200,
        "attempts": (Attempt(deployment="east", upstream="contoso", status=200, error=None, duration_ms=35),),
        "deployment": "east",
        "upstream": "contoso",
        "region": "East US",
        "model_served": "gpt-4o-2024-11-20",
        "response_id": "chatcmpl-1",
        "finish_reasons": ("stop",),
        "usage": TokenUsage(input_tokens=10, cached_input_tokens=4, output_tokens=5),
        "usage_source": UsageSource.PROVIDER,
        "response_bytes": 4711,
        "response_sha256": "cd" * 32,
        "response_headers": {"x-request-id": "r-1"},
    }
    return msgspec.structs.replace(opened_record(number, at), **(ended | fields))


def opened(number: int = 0, at: datetime = NOON, **fields: Any) -> Opened:
    return Opened(record=opened_record(number, at, **fields))


def closed(number: int = 0, at: datetime = NOON, **fields: Any) -> Closed:
    return Closed(
        record=closed_record(number, at, **fields),
        request=Body.of(b'{"model":"gpt-4o"}'),
        response=Body.of(b'{"id":"chatcmpl-1"}'),
    )


def archived(number: int = 0, request: bytes = b"{}", response: bytes = b"{}") -> ArchivedCall:
    return ArchivedCall(record=closed_record(number), request=request, response=response)


async def _nothing() -> AsyncIterator[bytes]:
    yield b""


async def _is_here() -> bool:
    return False


def inbound(path: str = "/v1/chat/completions", query: str = "", **headers: str) -> InboundRequest:
    """A POST; header names with `_` for `-`."""
    return InboundRequest(
        method="POST",
        path=path,
        query=query,
        headers=tuple((name.replace("_", "-"), value) for name, value in headers.items()),
        caller_ip=None,
        chunks=_nothing,
        is_gone=_is_here,
    )


def call(body: bytes, request: InboundRequest | None = None) -> Call:
    """What the gateway understands of a request."""
    request = request or inbound()
    return understood(routed(begun(call_id(), NOON, Client(id="team-blue"), request)), body)


def target(kind: UpstreamKind = UpstreamKind.OPENAI, deployment: str = "gpt-4o", **upstream: str) -> Target:
    """A deployment of gpt-4o."""
    fields: dict[str, Any] = {"url": "https://contoso.example", "key": "upstream-key"} | upstream
    return Target(
        Deployment(name="east", model="gpt-4o", upstream="contoso", deployment=deployment),
        Upstream(name="contoso", kind=kind, **fields),
    )
