"""The gateway: in which order a call is announced, forwarded and answered."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from shared.clients.limits import Admission, Limits
from shared.core.configuration import Client, parse
from shared.core.configuration import Limits as ClientLimits
from shared.core.errors import BudgetExhausted, NoDeploymentAvailable
from shared.core.headers import Headers
from shared.gateway.answers import Answer
from shared.gateway.proxying import Gateway
from shared.settings import read_settings
from shared.transports import TransportDown
from tests.examples import NOON, inbound

CONFIGURATION = parse(
    """
    upstreams = [{name = "east", kind = "openai", url = "https://east.example/v1", key = "k"}]
    deployments = [{name = "gpt-4o", model = "gpt-4o", upstream = "east"}]
    prices = [{model = "gpt-4o", input = 2, output = 10}]
    """,
    {},
)


class Path:
    """What a call goes through, standing in for the parts around the gateway; notes what happens, in order."""

    current = CONFIGURATION
    limited = ClientLimits()

    def __init__(self, failure: Exception | None = None) -> None:
        self.happened: list[str] = []
        self.announced, self.let = asyncio.Event(), asyncio.Event()
        self._failure = failure

    async def opened(self, _: Any) -> None:
        self.happened.append("announced")
        self.announced.set()
        await self.let.wait()
        if self._failure:
            raise self._failure
        self.happened.append("durable")

    async def closed(self, _: Any) -> None:
        self.happened.append("closed")

    async def answered(self, *_: Any) -> Any:
        self.happened.append("forwarded")
        raise NoDeploymentAvailable("for the sake of brevity")

    async def client_of(self, *_: Any) -> Client:
        return Client(id="team-blue", limits=self.limited)

    async def find(self, _: str) -> None:
        return None

    async def find_all(self, _: object) -> tuple[()]:
        return ()

    def gateway(self, limits: Any = None, **settings: str) -> Gateway:
        part: Any = self
        return Gateway(
            settings=read_settings(settings),
            live=part,
            identity=part,
            attempting=part,
            publisher=part,
            objects=part,
            limits=limits or Limits(part, instance="one", now=lambda: NOON, allow_when_down=False),
            now=lambda: NOON,
        )

    async def begun(self, **settings: str) -> asyncio.Task[Answer]:
        """A call that has come as far as it comes before it is durable that there is one."""
        gateway = self.gateway(None, **settings)
        call = asyncio.create_task(gateway.handle(msgspec.structs.replace(inbound(), chunks=_body)))
        await self.announced.wait()
        return call


class Spent:
    """The limits of a client that has nothing left."""

    async def admit(self, _: Client, *, tokens: int, money: Decimal) -> Admission:
        if tokens or money:
            raise BudgetExhausted("Nothing is left.")
        return Admission(())

    def settle(self, *_: Any, **__: Any) -> None:
        return

    def headers(self, _: Client) -> Headers:
        return ()


BEGUN_WITH_NOTHING_LEFT = {
    "a chat": ("POST", "/v1/chat/completions", 403),
    "a batch": ("POST", "/v1/batches", 403),
    "a run": ("POST", "/v1/threads/runs", 403),
    "the end of a batch": ("POST", "/v1/batches/batch_1A/cancel", 404),
    "a look at one": ("GET", "/v1/batches/batch_1A", 404),
}


@pytest.mark.parametrize(
    ("method", "url", "status"), BEGUN_WITH_NOTHING_LEFT.values(), ids=BEGUN_WITH_NOTHING_LEFT.keys()
)
async def test_who_has_nothing_left_begins_nothing_that_costs_later(method: str, url: str, status: int) -> None:
    """And may stop and see what was begun before, as far as it is theirs: 404 is of an object that is not."""
    path = Path()
    path.let.set()
    path.limited = ClientLimits(money_per_month=Decimal(1))
    gateway = path.gateway(limits=Spent())
    request = msgspec.structs.replace(inbound(url), method=method, chunks=_body)
    assert (await gateway.handle(request)).status == status


async def _body() -> AsyncIterator[bytes]:
    yield b'{"model":"gpt-4o","messages":[]}'


async def test_no_upstream_is_asked_before_the_call_is_on_record() -> None:
    path = Path()
    call = await path.begun()
    for _ in range(100):
        await asyncio.sleep(0)
    assert path.happened == ["announced"]

    path.let.set()
    await call
    assert path.happened == ["announced", "durable", "forwarded", "closed"]


@pytest.mark.parametrize(("policy", "forwarded"), {"refuse": False, "allow": True}.items())
async def test_what_cannot_be_recorded_is_forwarded_only_where_that_is_allowed(policy: str, forwarded: bool) -> None:
    path = Path(TransportDown("away"))
    path.let.set()
    call = await path.begun(TOLLGATE_WHEN_UNRECORDABLE=policy)
    assert (await call).status == 503
    assert ("forwarded" in path.happened) is forwarded


async def test_in_fast_mode_nothing_waits_for_the_record() -> None:
    path = Path()
    call = await path.begun(TOLLGATE_RECORDING="fast")
    await call
    assert "forwarded" in path.happened
    assert "durable" not in path.happened
    path.let.set()
