"""Two hundred streams at once on one worker: each call's account is that call's, whoever else is being served."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from azure.data.tables.aio import TableClient

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from devtools.simulator.account import Entry
from devtools.simulator.tokens import Totals
from shared.core.call_ids import hour_of
from shared.core.call_record import Outcome, UsageSource
from shared.core.money.ledger import UsageEntry
from shared.sinks.ledger import Ledger
from tests.stack import ADMIN_KEY, Stack, running

STREAMS = 200
HANGS_UP_EVERY = 10
LIMITS = {"requests_per_minute": 10_000, "tokens_per_minute": 100_000_000}
MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1")
"""None that reasons: a stream is to speak before others have ended."""
DEPLOYMENTS = {"deployments": [{"name": model, "model": model, "upstream": "simulator"} for model in MODELS]}
CLIENTS: dict[str, dict[str, Any]] = {
    "team-a": {},
    "team-b": {},
    "team-c": {"on_disconnect": "cancel"},
    "team-d": {"limits": LIMITS},
}
"""Whose calls are mixed, and what is special about each."""
FIRST_TOKEN_MS, SPREAD_S = 1500, 12.0


@dataclass
class Stream:
    """One client's stream: what was asked, and what came of it."""

    number: int
    call_id: str = ""
    told: dict[str, Any] | None = None
    text: bytes = b""
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def client_id(self) -> str:
        return list(CLIENTS)[self.number // len(MODELS) % len(CLIENTS)]

    @property
    def model(self) -> str:
        return MODELS[self.number % len(MODELS)]

    @property
    def asks_usage(self) -> bool:
        return self.number % 4 < 2

    @property
    def hangs_up_after(self) -> int | None:
        """Chunks with content."""
        return 1 + self.number // 16 if self.number % HANGS_UP_EVERY == 3 else None

    @property
    def answer_tokens(self) -> int:
        return 20 + self.number * 7 % 41

    @property
    def body(self) -> dict[str, Any]:
        options = {"stream_options": {"include_usage": True}} if self.asks_usage else {}
        content = f"stream {self.number} {'x' * 4 * self.number}"  # a token more than the one before
        return {"model": self.model, "messages": [{"role": "user", "content": content}], "stream": True} | options

    @property
    def headers(self) -> dict[str, str]:
        pace = f"first_token_ms={FIRST_TOKEN_MS}; tokens_per_second={self.answer_tokens / SPREAD_S}"
        return {
            "x-ms-client-request-id": f"stream-{self.number}",
            "x-simulator-pace": f"{pace}; answer_tokens={self.answer_tokens}",
        }


@pytest.fixture
async def own_stack(anyio_backend: str, azurite: Azurite, prefix: str) -> AsyncIterator[Stack]:
    with Simulator.start() as simulator:
        async with running(azurite, simulator, prefix, DEPLOYMENTS) as started:
            yield started


async def keys_of(stack: Stack) -> dict[str, str]:
    """A key for each client, once it is one."""
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    keys = {}
    async with httpx.AsyncClient(base_url=stack.host.base_url) as http:
        for client_id, fields in CLIENTS.items():
            (await http.put(f"/manage/clients/{client_id}", json=fields, headers=admin)).raise_for_status()
            made = await http.post(f"/manage/clients/{client_id}/keys", headers=admin)
            keys[client_id] = made.json()["key"]
        for key in keys.values():
            assert (await http.get("/v1/models", headers={"api-key": key})).status_code == 200
    return keys


async def listen(http: httpx.AsyncClient, key: str, stream: Stream, all_begun: asyncio.Event) -> None:
    """Reads a stream to its end, or to where its client hangs up; none goes on before all have begun."""
    headers = stream.headers | {"authorization": f"Bearer {key}"}
    async with http.stream("POST", "/v1/chat/completions", json=stream.body, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        stream.call_id = answer.headers["x-tollgate-call-id"]
        async for chunk in answer.aiter_raw():
            stream.text += chunk
            stream.has_begun.set()
            await all_begun.wait()
            if stream.hangs_up_after is not None and stream.text.count(b"data: ") > stream.hangs_up_after:
                return


async def ledger_of(stack: Stack, streams: list[Stream]) -> list[UsageEntry]:
    """The entries of the hours in which the streams were opened, once all of them have ended."""
    entries: list[UsageEntry] = []
    table = TableClient.from_connection_string(stack.azurite.connection_string, f"{stack.prefix}Ledger")
    async with table:
        ledger = Ledger(table)
        for _ in range(150):
            hours = {hour_of(stream.call_id) for stream in streams}
            entries = [entry for hour in hours for entry in [each async for each in ledger.entries(hour)]]
            if len(entries) >= len(streams) and all(entry.outcome for entry in entries):
                return entries
            await asyncio.sleep(0.1)
    raise AssertionError(f"{len(entries)} entries, of which {sum(not each.outcome for each in entries)} are open")


def usage_told(stream: Stream) -> Totals | None:
    """The usage that the stream's client was sent."""
    events = [event.removeprefix(b"data: ") for event in stream.text.split(b"\n\n")]
    usages = [usage for event in events if event.startswith(b"{") and (usage := json.loads(event).get("usage"))]
    assert len(usages) <= 1
    return Totals.read(usages[0]) if usages else None


def usage_kept(entry: UsageEntry) -> Totals:
    return Totals(
        input=entry.input_tokens or 0,
        cached=entry.cached_input_tokens or 0,
        output=entry.output_tokens or 0,
        reasoning=entry.reasoning_tokens or 0,
    )


def expected(stream: Stream) -> tuple[Outcome, UsageSource]:
    if stream.hangs_up_after is None:
        return Outcome.COMPLETED, UsageSource.PROVIDER
    is_stopped = CLIENTS[stream.client_id].get("on_disconnect") == "cancel"
    return Outcome.CLIENT_CLOSED, UsageSource.ESTIMATED if is_stopped else UsageSource.DRAINED


async def test_two_hundred_streams_at_once_are_each_accounted_for_as_their_own(own_stack: Stack) -> None:
    """Invariant: every forwarded call is one ledger entry, of its own tokens; nothing lost, doubled or mixed up."""
    streams = [Stream(number) for number in range(STREAMS)]
    keys = await keys_of(own_stack)
    all_begun = asyncio.Event()
    limits = httpx.Limits(max_connections=STREAMS)
    async with (
        httpx.AsyncClient(base_url=own_stack.host.base_url, timeout=60, limits=limits) as http,
        asyncio.TaskGroup() as group,
    ):
        for stream in streams:
            group.create_task(listen(http, keys[stream.client_id], stream, all_begun))
        for stream in streams:
            await stream.has_begun.wait()
        under_way = [entry for entry in own_stack.simulator.calls() if not entry.ended]
        all_begun.set()
    assert len(under_way) == STREAMS, "they are to overlap"

    served = {entry.client_request_id: entry for entry in await own_stack.simulator.settled(STREAMS, timeout_s=20)}
    entries = {entry.call_id: entry for entry in await ledger_of(own_stack, streams)}
    assert len(own_stack.simulator.calls()) == len(served) == STREAMS, "none was sent twice"
    assert set(entries) == {stream.call_id for stream in streams}
    assert sum(stream.hangs_up_after is not None for stream in streams) == STREAMS // HANGS_UP_EVERY
    assert len({entry.input_tokens for entry in entries.values()}) > STREAMS * 0.9, "each has its own count"
    for stream in streams:
        is_right(stream, entries[stream.call_id], served[stream.headers["x-ms-client-request-id"]])

    report = await own_stack.usage_when(lambda report: report["total"]["open"] == 0 and report["total"]["calls"] == 200)
    total = report["total"]
    assert (total["completed"], total["client_closed"], total["usage_unknown"]) == (180, 20, 0)
    assert total["output_tokens"] == sum(entry.output_tokens or 0 for entry in entries.values())


def is_right(stream: Stream, entry: UsageEntry, served: Entry) -> None:
    """Holds an entry to its own call."""
    assert (entry.client_id, entry.model, entry.deployment) == (stream.client_id, stream.model, stream.model)
    assert (entry.outcome, entry.usage_source) == expected(stream)
    assert (entry.status, entry.attempt_count, entry.stream) == (200, 1, True)
    assert entry.request_bytes == len(json.dumps(stream.body, separators=(",", ":"), ensure_ascii=False).encode())
    assert served.usage is not None
    if entry.usage_source is UsageSource.ESTIMATED:
        assert not served.completed, "the upstream was stopped"
        assert entry.input_tokens
        assert 0 < (entry.output_tokens or 0) < 2 * stream.answer_tokens
        return
    assert usage_kept(entry) == Totals.read(served.usage)
    assert entry.response_bytes == served.response_bytes
    if stream.hangs_up_after is None:
        assert usage_told(stream) == (usage_kept(entry) if stream.asks_usage else None)
