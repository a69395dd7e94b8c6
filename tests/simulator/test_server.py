"""Starting, stopping, and the command line."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from devtools.simulator import Simulator
from tests.simulator.test_chat import PROMPT

ROOT = Path(__file__).parents[2]


def test_the_command_line_says_where_it_serves():
    command = [sys.executable, "-m", "devtools.simulator", "--seed", "9", "--key", "k1", "--tokens-per-second", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("simulator ready on http://127.0.0.1:")
            url = line.split()[-1] + "/v1/chat/completions"
            body = {"model": "gpt-4o", "messages": PROMPT}
            assert httpx.post(url, json=body, headers={"authorization": "Bearer k1"}).status_code == 200
            assert httpx.post(url, json=body, headers={"authorization": "Bearer k2"}).status_code == 401
        finally:
            process.terminate()


async def test_two_simulators_share_nothing(client):
    async with Simulator.start() as one, Simulator.start() as other:
        await client.with_options(base_url=f"{one.base_url}/v1").models.list()
        assert (len(one.calls()), len(other.calls())) == (1, 0)


def test_a_simulator_stops_though_a_call_is_under_way():
    with Simulator.start() as stopping:
        hint = {"authorization": "Bearer k", "x-simulator-fault": "delay-ms=60000"}
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{stopping.base_url}/v1/models", headers=hint, timeout=0.2)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{stopping.base_url}/v1/models")
