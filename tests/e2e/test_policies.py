"""What a client's policy and the app's settings change: hang-ups, silence, deadlines, unknown operations."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from shared.core.call_record import CallRecord, Outcome, UsageSource
from shared.core.clients.keys import RANDOM_BYTES, mint
from shared.gateway.relay import HEARTBEAT
from tests.stack import Stack, key_hash, running

KEYS = {name: mint(secrets.token_bytes(RANDOM_BYTES)) for name in ("drains", "cancels", "files-only", "private")}
CLIENTS = [
    {"id": "drains"},
    {"id": "cancels", "on_disconnect": "cancel"},
    {"id": "files-only", "operations": ["files"], "models": ["gpt-4o"]},
    {"id": "private", "content": "none"},
]


@pytest.fixture(scope="module")
async def app(azurite: Azurite, simulator: Simulator) -> AsyncIterator[Stack]:
    document = {"clients": [client | {"keys": [key_hash(KEYS[str(client["id"])])]} for client in CLIENTS]}
    settings = {
        "TOLLGATE_HEARTBEAT_S": "0.4",
        "TOLLGATE_DEADLINE_S": "5",
        "TOLLGATE_UNKNOWN_OPERATIONS": "forward",
    }
    async with running(azurite, simulator, "policies", document, **settings) as started:
        yield started


def body_of(text: str, *, stream: bool = True) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], "stream": stream, "user": "ann"}


async def stream(app: Stack, client: str, pace: str, *, leave: bool, fault: str = "") -> tuple[bytes, CallRecord]:
    """One stream, to its end or left after the first chunk; what was received, and the record."""
    headers = {"api-key": KEYS[client].text, "x-simulator-pace": pace, "x-ms-client-request-id": f"policy {client}"}
    if fault:
        headers["x-simulator-fault"] = fault
    received = b""
    async with (
        httpx.AsyncClient(base_url=app.host.base_url, timeout=30) as http,
        http.stream("POST", "/v1/chat/completions", json=body_of("a long story"), headers=headers) as answer,
    ):
        async for chunk in answer.aiter_raw():
            received += chunk
            if leave and b"content" in received:
                break
    return received, (await app.archived(answer.headers["x-tollgate-call-id"])).record


async def test_a_client_that_hangs_up_is_drained_for_its_true_usage(app: Stack) -> None:
    _, record = await stream(app, "drains", "tokens_per_second=60; answer_tokens=60", leave=True)
    assert (record.outcome, record.usage_source) == (Outcome.CLIENT_CLOSED, UsageSource.DRAINED)
    assert record.usage is not None
    assert record.usage.output_tokens == 60


async def test_a_client_whose_policy_is_cancel_stops_the_upstream_and_is_counted_what_was_produced(app: Stack) -> None:
    """Invariant: an estimate is named one."""
    _, record = await stream(app, "cancels", "tokens_per_second=20; answer_tokens=400", leave=True)
    assert (record.outcome, record.usage_source) == (Outcome.CLIENT_CLOSED, UsageSource.ESTIMATED)
    assert record.usage is not None
    assert 0 < (record.usage.output_tokens or 0) < 200
    [entry] = [each for each in app.simulator.calls() if each.client_request_id == "policy cancels"]
    assert not entry.completed
    assert entry.usage is not None, "the upstream saw the hang-up and stopped"
    assert entry.usage["completion_tokens"] < 400


async def test_a_silent_stream_is_kept_alive_with_comments(app: Stack) -> None:
    received, record = await stream(
        app, "drains", "answer_tokens=30", leave=False, fault="stall_s=1.5; stall_after_chunks=6"
    )
    assert received.count(HEARTBEAT) >= 2
    assert record.outcome is Outcome.COMPLETED
    kept = (await app.archived(record.call_id)).response
    assert HEARTBEAT not in kept, "the archive holds what the upstream sent"


async def test_a_call_that_takes_too_long_ends_at_its_deadline(app: Stack) -> None:
    received, record = await stream(app, "drains", "tokens_per_second=4; answer_tokens=200", leave=False)
    assert b"upstream_failed" in received[-300:]
    assert (record.outcome, record.error) == (Outcome.UPSTREAM_ERROR, "the call's deadline passed")


async def test_an_operation_that_the_catalogue_does_not_know_is_forwarded_and_recorded(app: Stack) -> None:
    headers = {"api-key": KEYS["drains"].text}
    async with httpx.AsyncClient(base_url=app.host.base_url) as http:
        answer = await http.post("/v1/something/new", json={"a": 1}, headers=headers)
    assert [entry.path for entry in app.simulator.calls() if entry.path.endswith("something/new")]
    record = (await app.archived(answer.headers["x-tollgate-call-id"])).record
    assert (record.operation, record.status) == ("unknown", answer.status_code)


async def test_a_websocket_is_told_where_to_go(app: Stack) -> None:
    headers = {"api-key": KEYS["drains"].text, "connection": "upgrade", "upgrade": "websocket"}
    async with httpx.AsyncClient(base_url=app.host.base_url) as http:
        answer = await http.get("/v1/realtime?model=gpt-realtime", headers=headers)
    assert answer.status_code == 501
    assert "client secret" in answer.json()["error"]["message"]


async def test_a_client_may_do_what_it_is_allowed_and_what_it_was_refused_is_on_the_record(app: Stack) -> None:
    headers = {"api-key": KEYS["files-only"].text}
    async with httpx.AsyncClient(base_url=app.host.base_url) as http:
        refused = await http.post("/v1/chat/completions", json=body_of("hi", stream=False), headers=headers)
        allowed = await http.get("/v1/files", headers=headers)
        models = await http.get("/v1/models", headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "operation_not_allowed")
    assert allowed.status_code == 200
    assert models.status_code == 403
    record = (await app.archived(refused.headers["x-tollgate-call-id"])).record
    assert (record.outcome, record.attempts) == (Outcome.REJECTED, ())


async def test_what_a_client_does_not_want_kept_is_not_kept(app: Stack) -> None:
    """Invariant: content is recorded as the client's policy says; the ledger is the same."""
    async with httpx.AsyncClient(base_url=app.host.base_url) as http:
        answer = await http.post(
            "/v1/chat/completions", json=body_of("a secret", stream=False), headers={"api-key": KEYS["private"].text}
        )
    kept = await app.archived(answer.headers["x-tollgate-call-id"])
    assert (kept.request, kept.response, kept.record.end_user) == (b"", b"", None)
    assert kept.record.usage is not None
    assert kept.record.usage.output_tokens == answer.json()["usage"]["completion_tokens"]
