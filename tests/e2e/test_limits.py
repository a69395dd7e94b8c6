"""Limits hold over two instances of the app that share a Storage account and nothing else."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from shared.core.clients.keys import RANDOM_BYTES, mint
from tests.stack import Stack, key_hash, running

TOKENS_PER_MINUTE = 10_000
TOKENS_PER_MONTH = 20_000
DEFAULT_OUTPUT = 200
LONG_ANSWER = 900
AT_ONCE = 6
REFUSED_FOR_GOOD = 60
"""So many refusals, of all that call at once, are no passing shortage of one instance."""

KEYS = {
    name: mint(secrets.token_bytes(RANDOM_BYTES)) for name in ("minute", "month", "money", "guess", "requests", "free")
}
MONEY_PER_MONTH = Decimal("0.2")
PRICE = {"model": "gpt-4o", "input": 2.5, "output": 10}
LIMITS: dict[str, dict[str, float]] = {
    "minute": {"tokens_per_minute": TOKENS_PER_MINUTE},
    "month": {"tokens_per_month": TOKENS_PER_MONTH},
    "money": {"money_per_month": float(MONEY_PER_MONTH)},
    "guess": {"tokens_per_month": TOKENS_PER_MONTH},
    "requests": {"requests_per_minute": 15},
    "free": {},
}


@pytest.fixture(scope="module")
async def instances(azurite: Azurite, simulator: Simulator) -> AsyncIterator[tuple[Stack, Stack]]:
    clients = [{"id": name, "limits": LIMITS[name], "keys": [key_hash(KEYS[name])]} for name in KEYS]
    document = {"clients": clients, "prices": [PRICE], "shipped_prices": False}
    settings = {"TOLLGATE_OUTPUT_TOKENS": str(DEFAULT_OUTPUT)}
    async with (
        running(azurite, simulator, "limits", document, **settings) as one,
        running(azurite, simulator, "limits", document, **settings) as other,
    ):
        yield one, other


async def in_one_minute(seconds: int) -> None:
    """Waits until the UTC minute has at least so many seconds left."""
    left = 60 - datetime.now(UTC).second
    if left < seconds:
        await asyncio.sleep(left + 0.1)


async def hammer(
    instances: tuple[Stack, Stack], client: str, seconds: float, *, most: int | None, answer: int = 100
) -> tuple[int, list[httpx.Response]]:
    """Calls both instances, AT_ONCE at a time each, until they refuse, or for so long.

    Returns the tokens that were served, and the refusals.
    """
    served = 0
    refused: list[httpx.Response] = []
    body: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "more " * 40}]}
    if most is not None:
        body["max_tokens"] = most
    headers = {"api-key": KEYS[client].text, "x-simulator-pace": f"answer_tokens={answer}"}
    until = time.monotonic() + seconds

    async def one(http: httpx.AsyncClient, url: str) -> None:
        nonlocal served
        while time.monotonic() < until and len(refused) < REFUSED_FOR_GOOD:
            response = await http.post(f"{url}/v1/chat/completions", json=body, headers=headers)
            if response.status_code == 200:
                served += response.json()["usage"]["total_tokens"]
            else:
                refused.append(response)
                await asyncio.sleep(0.05)

    async with httpx.AsyncClient(timeout=30) as http:
        urls = [stack.host.base_url for stack in instances for _ in range(AT_ONCE)]
        await asyncio.gather(*(one(http, url) for url in urls))
    return served, refused


async def test_a_minutes_tokens_are_never_exceeded_by_two_instances_together(instances: tuple[Stack, Stack]) -> None:
    """Invariant: what is taken off before it is spent cannot be overshot together."""
    await in_one_minute(25)
    served, refused = await hammer(instances, "minute", 20, most=100)
    print(f"served {served} tokens")
    assert TOKENS_PER_MINUTE // 2 < served <= TOKENS_PER_MINUTE
    refusal = refused[-1]
    assert refusal.status_code == 429
    assert refusal.json()["error"]["code"] == "rate_limit_exceeded"
    assert refusal.json()["error"]["type"] == "tokens"
    assert 0 < int(refusal.headers["retry-after"]) <= 60
    assert refusal.headers["x-ratelimit-limit-tokens"] == str(TOKENS_PER_MINUTE)


async def test_a_months_budget_is_never_exceeded_where_calls_state_their_maximum(
    instances: tuple[Stack, Stack],
) -> None:
    served, refused = await hammer(instances, "month", 40, most=100)
    print(f"served {served} tokens")
    assert TOKENS_PER_MONTH // 2 < served <= TOKENS_PER_MONTH
    assert {response.status_code for response in refused} == {403}, {response.text for response in refused}
    assert refused[-1].json()["error"]["code"] == "insufficient_quota"


async def test_a_months_money_is_never_exceeded_where_calls_state_their_maximum(
    instances: tuple[Stack, Stack],
) -> None:
    before = len(instances[0].simulator.calls())
    _, refused = await hammer(instances, "money", 40, most=100)
    spent = Decimal(0)
    for entry in instances[0].simulator.calls()[before:]:
        usage = entry.usage or {}
        spent += Decimal(usage["prompt_tokens"]) * Decimal("2.5") / 1_000_000
        spent += Decimal(usage["completion_tokens"]) * 10 / 1_000_000
    print(f"spent {spent}")
    assert MONEY_PER_MONTH / 2 < spent <= MONEY_PER_MONTH
    assert {response.status_code for response in refused} == {403}, {response.text for response in refused}


async def test_a_budget_in_money_does_not_pass_what_has_no_price(instances: tuple[Stack, Stack]) -> None:
    body = {"model": "o4-mini", "messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(base_url=instances[0].host.base_url) as http:
        refused = await http.post("/v1/chat/completions", json=body, headers={"api-key": KEYS["money"].text})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_priced")


async def test_where_calls_do_not_state_it_the_excess_is_bounded_by_the_calls_under_way(
    instances: tuple[Stack, Stack],
) -> None:
    served, refused = await hammer(instances, "guess", 40, most=None, answer=LONG_ANSWER)
    print(f"served {served} tokens")
    under_way = 2 * AT_ONCE
    assert served <= TOKENS_PER_MONTH + under_way * (LONG_ANSWER - DEFAULT_OUTPUT)
    assert served > TOKENS_PER_MONTH // 2
    assert refused


async def test_requests_are_counted_too(instances: tuple[Stack, Stack]) -> None:
    await in_one_minute(8)
    _, refused = await hammer(instances, "requests", 2, most=10)
    assert refused
    assert refused[-1].json()["error"]["type"] == "requests"
    entries = [entry for entry in instances[0].simulator.calls() if entry.deployment == "gpt-4o"]
    assert entries


async def test_an_answer_shows_the_clients_own_limits_and_not_the_upstreams(instances: tuple[Stack, Stack]) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    async with httpx.AsyncClient(base_url=instances[0].host.base_url) as http:
        free = await http.post("/v1/chat/completions", json=body, headers={"api-key": KEYS["free"].text})
        limited = await http.post("/v1/chat/completions", json=body, headers={"api-key": KEYS["requests"].text})
    assert free.status_code == 200
    assert limited.headers["x-ratelimit-limit-requests"] == "15"
    assert "x-ratelimit-remaining-requests" in limited.headers
    assert "x-ratelimit-limit-tokens" not in limited.headers, "that one would be the upstream's"


async def test_refused_calls_are_on_the_record_and_not_among_the_calls(instances: tuple[Stack, Stack]) -> None:
    report = await instances[0].usage_when(
        lambda report: any(row["client_id"] == "requests" and row["rejected"] for row in report["data"])
    )
    [row] = [row for row in report["data"] if row["client_id"] == "requests" and row["calls"]]
    assert row["calls"] <= 15 * 2, "two minutes at the most"
