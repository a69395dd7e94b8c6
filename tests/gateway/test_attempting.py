"""Attempts: what is left of one that nobody can go on with."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from shared.core.configuration import Model, Pool, UpstreamKind
from shared.core.errors import GatewayError
from shared.gateway.attempting import Attempting, Patience, Unanswered
from shared.gateway.health_board import HealthBoard
from shared.gateway.upstream import UpstreamError
from tests.examples import NOON, call, target

POOL = Pool(Model(name="gpt-4o"), (target(UpstreamKind.OPENAI),))


class Breaking:
    """A stream that fails while its beginning is looked at."""

    status = 200
    headers = (("content-type", "text/event-stream"),)
    is_closed = False

    def __init__(self, failure: BaseException) -> None:
        self._failure = failure

    async def peek(self, _: float) -> AsyncIterator[bytes]:
        yield b""
        raise self._failure

    async def close(self) -> None:
        self.is_closed = True


class Edge:
    """Credentials and upstreams in one; what they do is handed in."""

    def __init__(self, failure: BaseException | None = None, response: Breaking | None = None) -> None:
        self.board = HealthBoard(now=lambda: 0.0, random=lambda: 0.0)
        self._failure = failure
        self._response = response

    async def current(self, _: Any) -> str:
        return "key"

    async def send(self, _: Any) -> Any:
        if self._failure:
            raise self._failure
        if self._response:
            return self._response
        await asyncio.Event().wait()
        return None

    async def answered(self, patience: Patience, pool: Pool = POOL) -> Any:
        edge: Any = self
        attempting = Attempting(
            upstreams=edge,
            board=self.board,
            credentials=edge,
            now=lambda: NOON,
            first_byte_timeout_s=1000,
            idle_timeout_s=1000,
        )
        return await attempting.answered(call(b'{"model":"gpt-4o","messages":[]}'), pool, patience)


FAILURES: dict[str, BaseException] = {
    "an upstream's": UpstreamError("ReadError", sent=True),
    "the client's": GatewayError("no"),
    "a defect of ours": RuntimeError("no"),
    "the end of the process": asyncio.CancelledError(),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_no_attempt_counts_as_under_way_once_it_is_over(failure: BaseException) -> None:
    edge = Edge(failure)
    with suppress(type(failure)):
        await edge.answered(Patience(math.inf))
    assert edge.board.snapshot()["east"].outstanding == 0


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_no_connection_is_held_by_an_answer_that_nobody_goes_on_with(failure: BaseException) -> None:
    """There is room for a thousand, in a process that lives for days."""
    response = Breaking(failure)
    with suppress(type(failure)):
        await Edge(response=response).answered(Patience(math.inf))
    assert response.is_closed


BILLABLE = {"it was never sent": (False, False), "it was sent and nothing came back": (True, True)}


@pytest.mark.parametrize(("sent", "is_unknown"), BILLABLE.values(), ids=BILLABLE.keys())
async def test_only_what_may_have_been_worked_on_may_be_billed(sent: bool, is_unknown: bool) -> None:
    unanswered = await Edge(UpstreamError("x", sent=sent)).answered(Patience(math.inf))
    assert isinstance(unanswered, Unanswered)
    assert unanswered.is_unknown is is_unknown


async def test_whom_nobody_waits_for_any_more_is_not_asked_either() -> None:
    """The client went while a credential was fetched."""
    patience = Patience(math.inf)
    patience.end()
    async with asyncio.timeout(30):
        unanswered = await Edge().answered(patience)
    assert unanswered.error.status == 499


async def test_a_call_whose_time_is_over_counts_against_no_other_deployment() -> None:
    east = target(UpstreamKind.OPENAI)
    west = msgspec.structs.replace(east, deployment=msgspec.structs.replace(east.deployment, name="west"))
    pool = Pool(Model(name="gpt-4o", retry_unknown=True), (east, west))
    unanswered = await Edge().answered(Patience(asyncio.get_running_loop().time()), pool)
    assert len(unanswered.served.attempts) == 1
