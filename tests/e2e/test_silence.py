"""Upstreams that are silent for long before they answer: the client's stream begins without them.

The app's first comment is due after 0.3 s and a whole answer may take 1 s to begin; its upstreams take 1.5 s and more.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Fault, Simulator
from shared.core.call_record import CallRecord, Outcome, UsageSource
from shared.gateway.relay import HEARTBEAT
from tests.e2e.conftest import SELDOM
from tests.e2e.test_routing import error_of
from tests.stack import Stack, configuration, running, upstream_of

SLOW_MS = 1500
MODELS = ("slow", "fails-over", "fails", "refused", "left", "cancelled", "sdk", "whole")


@pytest.fixture(scope="module")
async def silent(azurite: Azurite, simulator: Simulator) -> AsyncIterator[Stack]:
    deployments = [
        {"name": f"{model}-{place}", "model": model, "upstream": place, "priority": priority}
        for model in MODELS
        for priority, place in enumerate(("north", "south"))
    ]
    document: dict[str, Any] = {
        "upstreams": [upstream_of(simulator, place, "openai", place) for place in ("north", "south")],
        "deployments": deployments,
    }
    settings = {"HEARTBEAT_S": "0.3", "FIRST_BYTE_TIMEOUT_S": "1", "ROLLUP_SCHEDULE": SELDOM}
    tollgate = {f"TOLLGATE_{name}": value for name, value in settings.items()}
    async with running(azurite, simulator, "silence", document, **tollgate) as started:
        yield started


async def post(stack: Stack, model: str, *, client_id: str = "team-a", stream: bool = True) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "think hard"}], "stream": stream}
    async with httpx.AsyncClient(base_url=stack.host.base_url, timeout=30) as http:
        return await http.post("/v1/chat/completions", json=body, headers={"api-key": stack.key(client_id)})


async def record_of(stack: Stack, headers: httpx.Headers) -> CallRecord:
    return (await stack.archived(headers["x-tollgate-call-id"])).record


def has_begun_early(answer: httpx.Response) -> bool:
    return (
        answer.status_code == 200
        and answer.headers["content-type"].startswith("text/event-stream")
        and answer.content.startswith(HEARTBEAT * 2)
    )


async def test_a_stream_begins_with_comments_and_goes_on_with_the_upstreams_bytes(
    silent: Stack, simulator: Simulator
) -> None:
    """Invariant 1; and what the client hears of outlasts the time-out of what it would not hear of."""
    simulator.set_fault("north:slow", Fault(delay_ms=SLOW_MS))
    answer = await post(silent, "slow")
    assert has_begun_early(answer)
    archived = await silent.archived(answer.headers["x-tollgate-call-id"])
    record, said = archived.record, answer.content.replace(HEARTBEAT, b"")
    *events, done = said.split(b"\n\n")[:-1]
    assert done == b"data: [DONE]"
    assert b"\n\n".join(events) in archived.response  # which has the usage chunk besides
    assert (record.outcome, record.status, record.usage_source) == (Outcome.COMPLETED, 200, UsageSource.PROVIDER)
    assert (record.first_byte_ms or 0) >= SLOW_MS, "a comment is no first byte"


async def test_another_deployment_may_still_answer_while_only_comments_were_sent(
    silent: Stack, simulator: Simulator
) -> None:
    """Invariant 6: no failover after a byte of content."""
    simulator.set_fault("north:fails-over", Fault(delay_ms=SLOW_MS, status=429))
    answer = await post(silent, "fails-over")
    assert has_begun_early(answer)
    assert answer.content.endswith(b"data: [DONE]\n\n")
    record = await record_of(silent, answer.headers)
    assert [(each.upstream, each.status) for each in record.attempts] == [("north", 429), ("south", 200)]
    assert record.outcome is Outcome.COMPLETED


async def test_where_all_fail_the_stream_says_so(silent: Stack, simulator: Simulator) -> None:
    for place, status in (("north", 500), ("south", 503)):
        simulator.set_fault(f"{place}:fails", Fault(delay_ms=SLOW_MS, status=status))
    answer = await post(silent, "fails")
    assert has_begun_early(answer)
    assert (error_of(answer) or {})["code"] == "overloaded"
    record = await record_of(silent, answer.headers)
    assert [each.status for each in record.attempts] == [500, 503]
    assert (record.outcome, record.status) == (Outcome.UPSTREAM_ERROR, 503), "what would have been answered"


async def test_what_the_upstream_refuses_is_told_in_the_stream(silent: Stack, simulator: Simulator) -> None:
    simulator.set_fault("north:refused", Fault(delay_ms=SLOW_MS, filter_prompt=True))
    answer = await post(silent, "refused")
    assert has_begun_early(answer)
    assert (error_of(answer) or {})["code"] == "content_filter"
    record = await record_of(silent, answer.headers)
    assert (record.outcome, record.status, len(record.attempts)) == (Outcome.COMPLETED, 400, 1)


async def test_the_sdk_hears_nothing_of_the_comments(silent: Stack, simulator: Simulator) -> None:
    messages: Any = [{"role": "user", "content": "think hard"}]
    url = f"{silent.host.base_url}/v1"
    async with openai.AsyncOpenAI(api_key=silent.key(), base_url=url, max_retries=0) as sdk:
        simulator.set_fault("north:sdk", Fault(delay_ms=SLOW_MS, times=1))
        stream = await sdk.chat.completions.create(model="sdk", messages=messages, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        simulator.set_fault("north:sdk", Fault(delay_ms=SLOW_MS, filter_prompt=True))
        stream = await sdk.chat.completions.create(model="sdk", messages=messages, stream=True)
        with pytest.raises(openai.APIError, match="content management policy"):
            await anext(stream)


async def leave(stack: Stack, model: str, client_id: str) -> CallRecord:
    """Hangs up as soon as there is a comment."""
    body = {"model": model, "messages": [{"role": "user", "content": "think hard"}], "stream": True}
    async with httpx.AsyncClient(base_url=stack.host.base_url, timeout=30) as http:
        headers = {"api-key": stack.key(client_id)}
        async with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            async for _ in answer.aiter_raw():
                break
    return await record_of(stack, answer.headers)


async def test_a_client_that_leaves_in_the_silence_is_still_accounted_for(silent: Stack, simulator: Simulator) -> None:
    simulator.set_fault("north:left", Fault(delay_ms=4 * SLOW_MS))  # the hang-up has to get through first
    record = await leave(silent, "left", "team-a")
    assert (record.outcome, record.usage_source) == (Outcome.CLIENT_CLOSED, UsageSource.DRAINED)
    assert record.usage
    assert record.usage.output_tokens


async def test_where_the_policy_is_cancel_the_silent_upstream_is_let_go(azurite: Azurite, simulator: Simulator) -> None:
    """Nobody knows what it used, and it has done nothing wrong."""
    async with running(azurite, simulator, "silencecancel", TOLLGATE_HEARTBEAT_S="0.3") as stack:
        document = configuration(simulator, stack.keys)
        admin = httpx.AsyncClient(base_url=stack.host.base_url, headers={"api-key": "admin-key-of-the-tests"})
        async with admin as http:
            client = (await http.get("/manage/clients/team-a")).json()["client"]
            assert (await http.put("/manage/clients/team-a", json=client | {"on_disconnect": "cancel"})).is_success
        simulator.set_fault("gpt-4o", Fault(delay_ms=60_000, times=1))
        record = await leave(stack, document["deployments"][0]["model"], "team-a")
        assert (record.outcome, record.status) == (Outcome.CLIENT_CLOSED, 499)
        assert [(each.status, each.error) for each in record.attempts] == [(None, "abandoned")]
        assert (record.usage, record.usage_source) == (None, UsageSource.NONE)
        answers = await asyncio.gather(*(post(stack, "gpt-4o", stream=False) for _ in range(3)))
        assert {answer.status_code for answer in answers} == {200}


async def test_what_is_no_stream_keeps_its_time_out(silent: Stack, simulator: Simulator) -> None:
    simulator.set_fault("north:whole", Fault(delay_ms=SLOW_MS))
    answer = await post(silent, "whole", stream=False)
    assert answer.status_code == 502
