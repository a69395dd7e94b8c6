"""The two processes: timeouts, crashes and the end."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from devtools.devhost.client import DevHost, StartError
from tests.devhost.conftest import APPS, Notes

pytestmark = pytest.mark.skipif(os.environ.get("TOLLGATE_HOST") == "func", reason="about the processes of our own host")


@pytest.fixture
async def host(notes: Notes) -> AsyncIterator[DevHost]:
    async with DevHost.start(APPS / "http", {"NOTES": str(notes.path)}) as running:
        yield running


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"  # Z: ended, but not yet collected by anybody
    except FileNotFoundError:
        return False


async def has_ended(pid: int) -> bool:
    for _ in range(1000):
        if not is_running(pid):
            return True
        await asyncio.sleep(0.02)
    return False


@pytest.mark.parametrize("path", ["/slow?seconds=60", "/blocked"])
async def test_a_function_over_its_time_ends_the_worker_process_and_another_serves(host: DevHost, path: str) -> None:
    first = await host.worker_pid()
    async with httpx.AsyncClient(base_url=host.base_url, timeout=30) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(path)
        await host.wait_for_log("Timeout value of 3 s exceeded by function 'Functions.(slow|blocked)'")
        assert (await client.get("/hello")).text == "hello"  # waits at the port until the new process is ready
    assert await host.worker_pid() != first


async def test_a_killed_worker_process_is_replaced(host: DevHost) -> None:
    first = await host.worker_pid()
    await host.kill_worker()
    assert await has_ended(first)
    async with httpx.AsyncClient(base_url=host.base_url, timeout=30) as client:
        assert (await client.get("/hello")).text == "hello"


async def test_the_worker_process_does_not_outlive_a_killed_supervisor(host: DevHost) -> None:
    worker = await host.worker_pid()
    os.kill(host.pid, signal.SIGKILL)
    assert await has_ended(worker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_requests_end_and_exits_with_0(host: DevHost, notes: Notes, number: signal.Signals) -> None:
    async with httpx.AsyncClient(base_url=host.base_url, timeout=30) as client:
        slow = asyncio.create_task(client.get("/slow?seconds=1"))
        await notes.wait_for(lambda notes: "slow began" in notes.lines())
        os.killpg(host.pid, number)  # the whole group, as Ctrl-C in a terminal does
        assert (await slow).text == "slow"
    assert await host.stop() == 0


async def test_what_does_not_end_in_time_is_ended(notes: Notes) -> None:
    settings = {"NOTES": str(notes.path)}
    async with DevHost.start(APPS / "http", settings, arguments=["--grace", "0.5"]) as host:
        worker = await host.worker_pid()
        async with httpx.AsyncClient(base_url=host.base_url, timeout=30) as client:
            hanging = asyncio.create_task(client.get("/slow?seconds=60"))
            await notes.wait_for(lambda notes: "slow began" in notes.lines())
            assert await host.stop() == 0
            with pytest.raises(httpx.TransportError):
                await hanging
        assert await has_ended(worker)


async def test_a_host_restarts_on_its_port(host: DevHost) -> None:
    url = host.base_url
    await host.restart()
    await host.kill()
    await host.begin()
    assert host.base_url == url
    assert (await host.status())["state"] == "Running"


REFUSED = {"reserved": "conflicts with one or more built in routes", "faulty": "events"}


@pytest.mark.parametrize("app", REFUSED)
async def test_an_app_that_cannot_be_hosted_ends_the_host_with_a_reason(app: str) -> None:
    with pytest.raises(StartError, match=REFUSED[app]):
        async with DevHost.start(APPS / app):
            pass
