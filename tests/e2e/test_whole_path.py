"""From the openai SDK to the usage report, and back to what the simulator says it served."""

import asyncio
import itertools
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any

import httpx
import openai
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Fault, Simulator
from devtools.simulator.account import Entry, fingerprint
from shared.core.call_record import Outcome, UsageSource
from tests.stack import CLIENTS, UPSTREAM_KEY, Stack, running

TOKEN_CLASSES = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")


def openai_clients(stack: Stack, client_id: str) -> list[openai.AsyncOpenAI | openai.AsyncAzureOpenAI]:
    """The SDK's clients for the three URL styles."""
    key, base = stack.key(client_id), stack.host.base_url
    return [
        openai.AsyncOpenAI(api_key=key, base_url=f"{base}/v1", max_retries=0),
        openai.AsyncOpenAI(api_key=key, base_url=f"{base}/openai/v1", max_retries=0),
        openai.AsyncAzureOpenAI(api_key=key, azure_endpoint=base, api_version="2024-10-21", max_retries=0),
    ]


async def ask(client: openai.AsyncOpenAI, model: str, text: str, *, stream: bool) -> Counter[str]:
    """Makes one call; returns the tokens that the SDK was told."""
    messages: Any = [{"role": "user", "content": text}]
    if not stream:
        return tokens((await client.chat.completions.create(model=model, messages=messages)).usage)
    parts = await client.chat.completions.create(
        model=model, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    [told] = [part.usage async for part in parts if part.usage]
    return tokens(told)


def tokens(usage: Any) -> Counter[str]:
    return Counter(
        input_tokens=usage.prompt_tokens,
        cached_input_tokens=usage.prompt_tokens_details.cached_tokens,
        output_tokens=usage.completion_tokens,
        reasoning_tokens=usage.completion_tokens_details.reasoning_tokens,
    )


def counted(row: dict[str, int]) -> Counter[str]:
    """The same tokens in a line of the usage report."""
    return Counter({name: row[name] for name in TOKEN_CLASSES})


def served(entries: list[Entry]) -> Counter[str]:
    """The same sums by the simulator's own account."""
    total: Counter[str] = Counter()
    for entry in entries:
        usage = entry.usage or {}
        total += Counter(
            input_tokens=usage["prompt_tokens"],
            cached_input_tokens=usage["prompt_tokens_details"]["cached_tokens"],
            output_tokens=usage["completion_tokens"],
            reasoning_tokens=usage["completion_tokens_details"]["reasoning_tokens"],
        )
    return total


async def test_a_hundred_mixed_calls_add_up_to_what_the_sdk_was_told_and_the_simulator_served(
    own_stack: Stack,
) -> None:
    """Invariant: every forwarded call is exactly one ledger entry, with the provider's own counts."""
    clients = {client_id: openai_clients(own_stack, client_id) for client_id in CLIENTS}
    models = ("gpt-4o", "o4-mini")
    plan = list(itertools.islice(itertools.cycle(itertools.product(CLIENTS, range(3), models, (False, True))), 100))
    told: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    gate = asyncio.Semaphore(10)

    async def one(number: int) -> None:
        client_id, style, model, stream = plan[number]
        long = "word " * 1500 if number % 7 == 0 else ""  # long prompts are partly cached
        async with gate:
            counts = await ask(clients[client_id][style], model, f"{long}question {number}", stream=stream)
        told[client_id, model] += counts

    await asyncio.gather(*(one(number) for number in range(100)))
    entries = await own_stack.simulator.settled(100)
    report = await own_stack.usage_when(lambda report: report["total"]["completed"] == 100)

    assert counted(report["total"]) == served(entries) == sum(told.values(), Counter())
    assert {(row["client_id"], row["model"]): counted(row) for row in report["data"]} == told
    assert (report["total"]["calls"], report["total"]["open"], report["total"]["usage_unknown"]) == (100, 0, 0)

    own = await own_stack.usage(own_stack.key("team-a"))
    assert {row["client_id"] for row in own["data"]} == {"team-a"}, "a client sees its own usage only"
    for client in itertools.chain.from_iterable(clients.values()):
        await client.close()


def test_the_sync_sdk_works_too(stack: Stack) -> None:
    with openai.OpenAI(api_key=stack.key(), base_url=f"{stack.host.base_url}/v1") as client:
        whole = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "sync"}])
        parts = client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "sync"}], stream=True
        )
        streamed = "".join(part.choices[0].delta.content or "" for part in parts)
    assert streamed == whole.choices[0].message.content


async def test_a_stream_arrives_while_the_upstream_is_still_sending(stack: Stack) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "slowly"}], "stream": True}
    headers = {
        "authorization": f"Bearer {stack.key()}",
        "x-simulator-pace": "tokens_per_second=20; first_token_ms=50",
        "x-ms-client-request-id": "slowly",
    }
    arrivals: list[datetime] = []
    async with (
        httpx.AsyncClient() as http,
        http.stream("POST", f"{stack.host.base_url}/v1/chat/completions", json=body, headers=headers) as answer,
    ):
        async for _ in answer.aiter_raw():
            if not arrivals:
                [entry] = [entry for entry in stack.simulator.calls() if entry.client_request_id == "slowly"]
                assert not entry.ended, "the first bytes came only after the upstream had sent all"
            arrivals.append(datetime.now(UTC))
    assert len(arrivals) > 5
    spread = (arrivals[-1] - arrivals[0]).total_seconds()
    assert spread > 0.5, f"at 20 tokens a second the chunks came within {spread} s"


async def test_a_client_that_hangs_up_leaves_an_entry_with_the_true_usage(own_stack: Stack) -> None:
    """Invariant: a client that leaves is billed what the upstream served, and the entry says how that is known."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "never mind"}], "stream": True}
    headers = {"authorization": f"Bearer {own_stack.key()}", "x-simulator-pace": "tokens_per_second=50"}
    async with (
        httpx.AsyncClient() as http,
        http.stream("POST", f"{own_stack.host.base_url}/v1/chat/completions", json=body, headers=headers) as answer,
    ):
        call_id = answer.headers["x-tollgate-call-id"]
        await anext(answer.aiter_raw())

    report = await own_stack.usage_when(lambda report: report["total"]["client_closed"] == 1)
    [entry] = await own_stack.simulator.settled(1)
    assert entry.completed, "the gateway reads on to the usage"
    assert served([entry]) == counted(report["total"])
    record = (await own_stack.archived(call_id)).record
    assert (record.outcome, record.usage_source) == (Outcome.CLIENT_CLOSED, UsageSource.DRAINED)


async def test_a_call_cut_short_by_a_dying_gateway_becomes_incomplete(
    azurite: Azurite, simulator: Simulator, prefix: str
) -> None:
    """Invariant: a call that was forwarded is in the ledger, whatever is killed."""
    async with running(azurite, simulator, prefix, TOLLGATE_INCOMPLETE_AFTER_S="2") as stack:
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "doomed"}], "stream": True}
        headers = {"authorization": f"Bearer {stack.key()}", "x-simulator-pace": "tokens_per_second=5"}
        async with (
            httpx.AsyncClient() as http,
            http.stream("POST", f"{stack.host.base_url}/v1/chat/completions", json=body, headers=headers) as answer,
        ):
            await anext(answer.aiter_raw())
            await stack.host.kill()
        await stack.host.begin()
        report = await stack.usage_when(lambda report: report["total"]["incomplete"] == 1)
        assert (report["total"]["calls"], report["total"]["open"], report["total"]["usage_unknown"]) == (1, 0, 1)


CASES = {
    "JSON": ({"stream": False}, None),
    "a stream whose client asks for usage": ({"stream": True, "stream_options": {"include_usage": True}}, None),
    "CRLF line ends": ({"stream": True, "stream_options": {"include_usage": True}}, Fault(crlf=True)),
    "no space after data:": ({"stream": True, "stream_options": {"include_usage": True}}, Fault(no_space=True)),
    "comments": ({"stream": True, "stream_options": {"include_usage": True}}, Fault(comments=True)),
    "cut at every byte": ({"stream": True, "stream_options": {"include_usage": True}}, Fault(split_bytes=1)),
    "gzip": ({"stream": False}, Fault(gzip=True)),
    "a body too large for one message": ({"stream": False}, Fault(huge_mb=1)),
    "an error": ({"stream": False}, Fault(status=400)),
}


@pytest.mark.parametrize(("options", "fault"), CASES.values(), ids=CASES.keys())
async def test_the_client_gets_the_upstreams_bytes_and_the_archive_keeps_them(
    own_stack: Stack, options: dict[str, Any], fault: Fault | None
) -> None:
    """Invariant: the client receives the upstream's bytes unaltered; the archive holds both bodies as sent."""
    if fault:
        own_stack.simulator.set_fault("*", fault)
    try:
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "bytes \u2028 and 世界"}]} | options
        headers = {"authorization": f"Bearer {own_stack.key()}", "accept-encoding": "gzip"}
        async with (
            httpx.AsyncClient() as http,
            http.stream("POST", f"{own_stack.host.base_url}/v1/chat/completions", json=body, headers=headers) as answer,
        ):
            received = b"".join([chunk async for chunk in answer.aiter_raw()])
    finally:
        own_stack.simulator.clear_faults()
    [entry] = await own_stack.simulator.settled(1)
    kept = await own_stack.archived(answer.headers["x-tollgate-call-id"])
    assert (answer.status_code, len(received)) == (entry.status, entry.response_bytes)
    assert kept.response == received
    assert kept.record.response_sha256 == entry.response_sha256
    assert kept.request == answer.request.content
    assert entry.key_fingerprint == fingerprint(UPSTREAM_KEY), "the client's key stays with us"


async def test_the_usage_chunk_that_only_the_gateway_wanted_is_taken_out(own_stack: Stack) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "quiet"}], "stream": True}
    headers = {"authorization": f"Bearer {own_stack.key()}"}
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{own_stack.host.base_url}/v1/chat/completions", json=body, headers=headers)
    kept = await own_stack.archived(answer.headers["x-tollgate-call-id"])
    events = kept.response.split(b"\n\n")
    usage_chunks = [event for event in events if b'"choices":[]' in event and b'"prompt_tokens"' in event]
    assert len(usage_chunks) == 1
    assert answer.content == kept.response.replace(usage_chunks[0] + b"\n\n", b"")
    assert kept.record.usage_source is UsageSource.PROVIDER


async def test_nothing_recorded_is_lost_when_the_host_is_killed(own_stack: Stack) -> None:
    async with openai.AsyncOpenAI(api_key=own_stack.key(), base_url=f"{own_stack.host.base_url}/v1") as client:
        for number in range(5):
            await ask(client, "gpt-4o", f"before {number}", stream=False)
        await own_stack.host.kill()  # most records are still on their way
        await own_stack.host.begin()
        for number in range(5):
            await ask(client, "gpt-4o", f"after {number}", stream=False)
    entries = await own_stack.simulator.settled(10)
    report = await own_stack.usage_when(lambda report: report["total"]["completed"] == 10)
    assert served(entries) == counted(report["total"])
