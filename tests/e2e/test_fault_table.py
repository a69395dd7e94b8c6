"""Every way for a call to fail, times every way to choose a deployment, times what is asked for: the table of docs/routing.md.

A cell is a model of its own with two deployments, and whichever is asked first fails, once. What follows depends on the kind of
failure alone: not on the strategy, not on priorities, not on the operation; on the form only where a stream has to tell it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from enum import Enum, auto
from itertools import product
from typing import Any

import httpx
import msgspec
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Fault, Simulator
from shared.core.call_record import CallRecord, Outcome, UsageSource
from shared.core.configuration import Strategy
from tests.e2e.conftest import SELDOM
from tests.stack import Stack, running, upstream_of

PLACES = ("north", "south")
MESSAGES = [{"role": "user", "content": "route me"}]
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat/completions", {"messages": MESSAGES}),
    "response": ("responses", {"input": "route me", "store": False}),
    "embedding": ("embeddings", {"input": "route me"}),
}


class Kind(Enum):
    """What follows from a failure."""

    NEXT = auto()
    """Another deployment is asked."""
    ANSWER = auto()
    """It is the client's answer."""
    UNKNOWN = auto()
    """It may have been billed: another is asked where the model says so."""
    BROKEN = auto()
    """The client has had content: it is told."""


class Row(msgspec.Struct, frozen=True):
    """A failure: what follows, and the status that the attempt is recorded with; None: no answer came."""

    fault: Fault
    kind: Kind
    status: int | None
    streams: Sequence[bool] = (False, True)


ROWS = {
    "429": Row(Fault(status=429, retry_after=9), Kind.NEXT, 429),
    "429 without a word": Row(Fault(status=429, ratelimit="absent"), Kind.NEXT, 429),
    "408": Row(Fault(status=408), Kind.NEXT, 408),
    "500": Row(Fault(status=500), Kind.NEXT, 500),
    "502": Row(Fault(status=502), Kind.NEXT, 502),
    "503": Row(Fault(status=503, retry_after=3), Kind.NEXT, 503),
    "504": Row(Fault(status=504), Kind.NEXT, 504),
    "missing": Row(Fault(missing_deployment=True), Kind.NEXT, 404),
    "credential": Row(Fault(status=401), Kind.NEXT, 401),
    "error event": Row(Fault(error_after_chunks=0), Kind.NEXT, 200, (True,)),
    "reset": Row(Fault(drop=True), Kind.UNKNOWN, None),
    "silent": Row(Fault(delay_ms=20_000), Kind.UNKNOWN, None),
    "cut at once": Row(Fault(cut_after_chunks=0), Kind.UNKNOWN, None, (True,)),
    "cut": Row(Fault(cut_after_bytes=40), Kind.BROKEN, 200, (False,)),
    "cut later": Row(Fault(cut_after_chunks=6), Kind.BROKEN, 200, (True,)),
    "error later": Row(Fault(error_after_chunks=6), Kind.BROKEN, 200, (True,)),
    "400": Row(Fault(status=400), Kind.ANSWER, 400),
    "403": Row(Fault(status=403), Kind.ANSWER, 403),
    "409": Row(Fault(status=409), Kind.ANSWER, 409),
    "content filter": Row(Fault(filter_prompt=True), Kind.ANSWER, 400),
}


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One call."""

    row: str
    strategy: Strategy
    has_priorities: bool
    retry_unknown: bool
    operation: str
    stream: bool


def cells_of(row: str) -> Iterator[Cell]:
    """All that can make a difference, and once each what must not."""
    asked = (("chat", False), ("chat", True), ("response", True), ("embedding", False))
    for strategy, ranked, retry, (operation, stream) in product(Strategy, (False, True), (False, True), asked):
        is_usual = strategy is Strategy.WEIGHTED and not ranked
        if (
            stream in ROWS[row].streams
            and (is_usual or operation == "chat")
            and (strategy is Strategy.WEIGHTED or not ranked)  # priorities come before any strategy
            and (is_usual or not retry or ROWS[row].kind is Kind.UNKNOWN)
        ):
            yield Cell(
                row=row,
                strategy=strategy,
                has_priorities=ranked,
                retry_unknown=retry,
                operation=operation,
                stream=stream,
            )


CELLS = [cell for row in ROWS for cell in cells_of(row)]
MODELS = {cell: f"cell-{number}" for number, cell in enumerate(CELLS)}
"""A model for each, so that no cell sees another's breakers and cool-downs."""


@pytest.fixture(scope="module")
async def table(azurite: Azurite, simulator: Simulator) -> AsyncIterator[Stack]:
    document = {
        "upstreams": [upstream_of(simulator, place, "openai", place) for place in PLACES],
        "deployments": [
            {"name": f"{model}-{place}", "model": model, "upstream": place, "priority": rank * cell.has_priorities}
            for cell, model in MODELS.items()
            for rank, place in enumerate(PLACES)
        ],
        "models": [
            {"name": model, "strategy": cell.strategy, "retry_unknown": cell.retry_unknown}
            for cell, model in MODELS.items()
            if cell.strategy is not Strategy.WEIGHTED or cell.retry_unknown
        ],
    }
    timeouts = {"TOLLGATE_FIRST_BYTE_TIMEOUT_S": "4", "TOLLGATE_IDLE_TIMEOUT_S": "4"}
    async with running(azurite, simulator, "faulttable", document, TOLLGATE_ROLLUP_SCHEDULE=SELDOM, **timeouts) as app:
        yield app


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call."""

    status: int
    tried: tuple[int | None, ...]
    tells_error: bool = True
    """Whether the body, or the stream, is or ends with an error."""
    says_when: bool = False
    """Whether there is a Retry-After."""
    outcome: Outcome | None = Outcome.UPSTREAM_ERROR
    usage_source: UsageSource | None = UsageSource.NONE


def expected(cell: Cell) -> Seen:
    """The rules, all of them."""
    row = ROWS[cell.row]
    match row.kind:
        case Kind.UNKNOWN if not cell.retry_unknown:
            return Seen(status=502, tried=(None,), says_when=True)
        case Kind.NEXT | Kind.UNKNOWN:
            completed, provider = Outcome.COMPLETED, UsageSource.PROVIDER
            tried = (row.status, 200)
            return Seen(status=200, tried=tried, tells_error=False, outcome=completed, usage_source=provider)
        case Kind.BROKEN:
            return Seen(status=200 if cell.stream else 502, tried=(200,))
        case Kind.ANSWER:
            assert row.status
            return Seen(status=row.status, tried=(row.status,), outcome=Outcome.COMPLETED)


def tells_error(answer: httpx.Response) -> bool:
    body = answer.content
    if answer.headers["content-type"].startswith("text/event-stream"):
        body = body.rstrip().split(b"\n\n")[-1].rpartition(b"data: ")[2]
    try:
        told = json.loads(body)
    except ValueError:
        return False
    return bool(told.get("error")) or told.get("type") == "error"


async def seen(stack: Stack, http: httpx.AsyncClient, cell: Cell) -> tuple[Seen, CallRecord]:
    path, fields = BODIES[cell.operation]
    streams = {"stream": True} if cell.stream else {}
    answer = await http.post(f"/v1/{path}", json={"model": MODELS[cell], **fields, **streams})
    record = (await stack.archived(answer.headers["x-tollgate-call-id"])).record
    saw = Seen(
        status=answer.status_code,
        tried=tuple(attempt.status for attempt in record.attempts),
        tells_error=tells_error(answer),
        says_when="retry-after" in answer.headers,
        outcome=record.outcome,
        usage_source=record.usage_source,
    )
    return saw, record


@pytest.mark.parametrize("name", ROWS)
async def test_what_follows_from_a_failure_depends_on_its_kind_alone(
    table: Stack, simulator: Simulator, name: str
) -> None:
    """Invariant 6, everywhere: what may have been billed is not repeated unasked, and nothing is after content."""
    cells = [cell for cell in CELLS if cell.row == name]
    for cell in cells:
        simulator.set_fault(MODELS[cell], msgspec.structs.replace(ROWS[name].fault, times=1))
    limits = httpx.Limits(max_connections=8)
    headers = {"api-key": table.key()}
    async with httpx.AsyncClient(base_url=table.host.base_url, timeout=60, limits=limits, headers=headers) as http:
        results = await asyncio.gather(*(seen(table, http, cell) for cell in cells))

    assert {cell: saw for cell, (saw, _) in zip(cells, results, strict=True)} == {
        cell: expected(cell) for cell in cells
    }
    account = {(entry.deployment, entry.resource) for entry in simulator.calls()}
    for cell, (_, record) in zip(cells, results, strict=True):
        asked = [attempt.upstream for attempt in record.attempts]
        assert len(set(asked)) == len(asked), "none is asked twice"
        assert {(MODELS[cell], place) for place in asked} == {each for each in account if each[0] == MODELS[cell]}
        if cell.has_priorities:
            assert asked == list(PLACES)[: len(asked)], "in the order of their priorities"
