"""The gateway: in which order a call is announced, forwarded and answered."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from shared.answers import Answer
from shared.core.configuration import Client, parse
from shared.core.errors import NoDeploymentAvailable
from shared.limits import Limits
from shared.proxying import Gateway
from shared.settings import read_settings
from shared.transports import TransportDown
from tests.examples import NOON, inbound

CONFIGURATION = parse(
    """
    upstreams = [{name = "east", kind = "openai", url = "https://east.example/v1", key = "k"}]
    deployments = [{name = "gpt-4o", model = "gpt-4o", upstream = "east"}]
    """,
    {},
)


class Path:
    """What a call goes through, standing in for the parts around the gateway; notes what happens, in order."""

    current = CONFIGURATION

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
        return Client(id="team-blue")

    async def begun(self, **settings: str) -> asyncio.Task[Answer]:
        """A call that has come as far as it comes before it is durable that there is one."""
        part: Any = self
        gateway = Gateway(
            settings=read_settings(settings),
            live=part,
            identity=part,
            attempting=part,
            publisher=part,
            objects=part,
            limits=Limits(part, instance="one", now=lambda: NOON, allow_when_down=False),
            now=lambda: NOON,
        )
        call = asyncio.create_task(gateway.handle(msgspec.structs.replace(inbound(), chunks=_body)))
        await self.announced.wait()
        return call


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
