"""The account says what arrived and what it should cost."""

import hashlib

import anyio
import httpx
import pytest

from devtools.simulator import Fault, Simulator
from tests.simulator.test_chat import PROMPT


async def test_calls_are_kept_in_order_with_what_they_cost(simulator, client, azure):
    whole = await client.chat.completions.create(model="gpt-4o", messages=PROMPT)
    await (await azure.responses.create(model="o3", input="x", stream=True)).close()
    await azure.embeddings.create(model="text-embedding-3-small", input="x")

    first, second, third = await simulator.settled(3)

    assert (first.family, first.resource, first.operation) == ("openai", "default", "chat.completions")
    assert first.usage == whole.usage.model_dump(exclude_unset=True)
    assert (first.status, first.completed, first.stream) == (200, True, False)
    assert (second.family, second.resource, second.operation) == ("azure", "eastus", "responses")
    assert (second.model, second.stream, second.api_version) == ("o3-2025-04-16", True, "2024-10-21")
    assert (third.path, third.deployment) == (
        "/r/eastus/openai/deployments/text-embedding-3-small/embeddings",
        "text-embedding-3-small",
    )
    assert first.sequence < second.sequence < third.sequence


async def test_keys_are_kept_as_fingerprints_only(simulator, client, azure, wire):
    await client.chat.completions.create(model="gpt-4o", messages=PROMPT)
    await azure.chat.completions.create(model="gpt-4o", messages=PROMPT)
    first, second = await simulator.settled(2)
    assert first.key_fingerprint == hashlib.sha256(b"sk-secret").hexdigest()[:16]
    assert (first.auth, second.auth) == ("bearer", "api-key")
    assert first.key_fingerprint != second.key_fingerprint
    account = (await wire.get("/_simulator/account")).text
    assert "secret" not in account


async def test_bytes_and_ids_are_kept_on_both_sides(simulator, wire):
    body = b'{"model": "gpt-4o", "stream": true, "messages": [{"role": "user", "content": "x"}]}'
    headers = {"x-ms-client-request-id": "c1", "traceparent": "00-1-2-01"}
    answer = await wire.post("/openai/v1/chat/completions", content=body, headers=headers)
    (entry,) = await simulator.settled(1)
    assert (entry.body_sha256, entry.body_bytes) == (hashlib.sha256(body).hexdigest(), len(body))
    assert (entry.response_sha256, entry.response_bytes) == (
        hashlib.sha256(answer.content).hexdigest(),
        len(answer.content),
    )
    assert (entry.client_request_id, entry.traceparent) == ("c1", "00-1-2-01")
    assert entry.request_id == answer.headers["x-request-id"]
    assert entry.chunks_sent == answer.text.count("data: {") + 1


async def test_a_call_is_on_the_account_before_it_is_answered(simulator, client):
    simulator.set_fault("gpt-4o", Fault(delay_ms=60_000))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: client.chat.completions.create(model="gpt-4o", messages=PROMPT))
        (entry,) = await simulator.arrived(1)
        assert (entry.status, entry.ended, entry.completed) == (None, False, False)
        tasks.cancel_scope.cancel()
    (entry,) = await simulator.settled(1)
    assert not entry.completed


STREAMS = {
    "chat": ("/v1/chat/completions", {"messages": PROMPT}, "completion_tokens"),
    "responses": ("/v1/responses", {"input": "x"}, "output_tokens"),
}


@pytest.mark.parametrize(("url", "body", "field"), STREAMS.values(), ids=STREAMS)
async def test_a_stream_stops_generating_when_the_caller_hangs_up(simulator, wire, url, body, field):
    pace = {"x-simulator-pace": "tokens_per_second=100; answer_tokens=100000"}
    async with wire.stream("POST", url, json={"model": "gpt-4o", "stream": True, **body}, headers=pace) as response:
        read = b""
        async for data in response.aiter_bytes():
            read += data
            if read.count(b"\n\n") > 10:
                break
    (entry,) = await simulator.settled(1)
    assert (entry.status, entry.completed) == (200, False)
    assert 0 < entry.usage[field] < 1000


async def test_a_whole_answer_in_the_making_is_billed_as_far_as_it_came(simulator, wire):
    pace = {"x-simulator-pace": "tokens_per_second=1000; answer_tokens=100000"}
    with pytest.raises(httpx.ReadTimeout):
        await wire.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": PROMPT}, headers=pace, timeout=0.2)
    (entry,) = await simulator.settled(1)
    assert (entry.status, entry.completed) == (None, False)
    assert 0 < entry.usage["completion_tokens"] < 100_000


async def test_the_summary_adds_up_by_model(simulator, client, wire):
    usages = [
        (await client.chat.completions.create(model="o3", messages=PROMPT, max_tokens=n)).usage for n in (70, 400)
    ]
    await client.embeddings.create(model="text-embedding-3-small", input="x")
    summary = (await wire.get("/_simulator/account/summary")).json()
    assert summary["o3-2025-04-16"] == {
        "calls": 2,
        "completed": 2,
        "input_tokens": sum(usage.prompt_tokens for usage in usages),
        "output_tokens": sum(usage.completion_tokens for usage in usages),
        "cached_input_tokens": 0,
        "reasoning_tokens": sum(usage.completion_tokens_details.reasoning_tokens for usage in usages),
    }
    assert summary["text-embedding-3-small"]["input_tokens"] == 1
    assert simulator.summary()["o3-2025-04-16"].calls == 2


async def test_the_account_can_be_cleared_or_left_out(simulator, client, wire):
    await client.models.list()
    assert (await wire.delete("/_simulator/account")).status_code == 204
    assert (await wire.get("/_simulator/account")).json() == []
    with Simulator.start(keep_account=False) as forgetful:
        await client.with_options(base_url=f"{forgetful.base_url}/v1").models.list()
        assert forgetful.calls() == []
