"""A cluster with a few calls in it, ingested by the real sink and through the shipped mapping."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from devtools.kusto import KustoServer
from shared.core.call_record import Attempt, Outcome, UsageSource
from shared.core.recording.events import Body, Closed
from shared.core.usage import TokenUsage
from tests.cluster import cluster, explorer
from tests.examples import closed_record

NOW = datetime.now(UTC).replace(microsecond=0)
LONG = "long " * 8000
"""40 000 characters: two pieces of 32 KB."""


def attempt(deployment: str, status: int, duration_ms: int = 35) -> Attempt:
    return Attempt(deployment=deployment, upstream="contoso", status=status, error=None, duration_ms=duration_ms)


def asked(*contents: str) -> Body:
    """A chat request: what the system says, if there are two, and what the user says."""
    roles = ("system", "user")[-len(contents) :]
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
    return Body.of(json.dumps({"model": "gpt-4o", "messages": messages}).encode())


def streamed(*contents: str) -> Body:
    deltas = [{"choices": [{"index": 0, "delta": {"content": content}}]} for content in contents]
    return Body.of(b"".join(b"data: %b\n\n" % json.dumps(delta).encode() for delta in deltas) + b"data: [DONE]\n\n")


def answered(*contents: str) -> Body:
    choices = [{"index": index, "message": {"content": content}} for index, content in enumerate(contents)]
    return Body.of(json.dumps({"choices": choices}).encode())


def call(number: int, request: Body, response: Body, **fields: Any) -> Closed:
    return Closed(record=closed_record(number, NOW, **fields), request=request, response=response)


NOTHING: dict[str, Any] = {"usage": None, "usage_source": UsageSource.NONE, "model_served": None}
RED: dict[str, Any] = {"client_id": "team-red", "cost_center": "cc-2", "caller_ip": "198.51.100.9", "end_user": "bob"}
CALLS = (
    call(1, asked("Be brief.", "Hello"), streamed("Hi", "!"), end_user="ann"),
    call(
        2,
        asked(LONG),
        answered("One", "Two"),
        end_user="ann",
        caller_ip="203.0.113.8",
        stream=False,
        first_byte_ms=140,
        usage=TokenUsage(input_tokens=8000, output_tokens=20),
    ),
    call(
        3,
        asked("Hello"),
        streamed("Hey"),
        **RED,
        model="mystery",
        model_served="mystery-1",
        deployment="west",
        attempts=(attempt("east", 503, 10), attempt("west", 200, 20)),
        response_headers={"x-ms-is-spilled-over": "true", "x-ms-spillover-from-deployment": "west-ptu"},
    ),
    call(
        4,
        asked("Too much"),
        answered(),
        **RED | NOTHING | {"usage_source": None},
        outcome=Outcome.REJECTED,
        status=429,
        error="rate_limit_exceeded",
        attempts=(),
        deployment=None,
        upstream=None,
        region=None,
        stream=False,
    ),
    call(5, asked("Anyone?"), answered(), **NOTHING, outcome=Outcome.UPSTREAM_ERROR, status=502, stream=False),
    call(
        6,
        asked("Tell a story"),
        streamed("Once"),
        outcome=Outcome.CLIENT_CLOSED,
        usage=TokenUsage(input_tokens=6, output_tokens=1),
        usage_source=UsageSource.ESTIMATED,
    ),
    call(
        7,
        Body.of(b'{"model":"text-embedding-3-small","input":"embed me"}'),
        Body.of(b'{"data":[{"embedding":[0.5]}]}'),
        operation="embeddings",
        model="text-embedding-3-small",
        model_served="text-embedding-3-small",
        stream=False,
        usage=TokenUsage(input_tokens=1000),
    ),
)


@pytest.fixture(scope="session")
async def kusto(anyio_backend: str) -> AsyncIterator[KustoServer]:
    """The calls, of which two came twice."""
    async with cluster() as server, explorer(server.url) as sink:
        await sink.write(CALLS)
        await sink.write(CALLS[:2])
        yield server
