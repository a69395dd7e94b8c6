"""An acknowledged send outlives the process, and a silent peer does not outlive the idle time-out."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from azure.eventhub._pyamqp.constants import HEADER_FRAME
from azure.eventhub.aio import EventHubProducerClient

from devtools.eventhubs import EventHubsServer
from tests.eventhubs.clients import QUICK, event, producer, receiving

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # the SDK leaves broken sockets to the collector


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The stand-in as a program, with its connection string; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "devtools.eventhubs", "--port", "0", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        yield process, (await process.stdout.readline()).decode().removeprefix("ready ").strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_every_acknowledged_send_survives_a_kill(anyio_backend: str, tmp_path: Path) -> None:
    data = tmp_path / "events.log"
    sent: list[bytes] = []
    async with program("--hub", "calls:2", "--data", str(data)) as (process, connection_string):
        client = EventHubProducerClient.from_connection_string(connection_string, eventhub_name="calls", **QUICK)
        async with client:
            for index in range(20):
                await client.send_batch([event(b"%d-%d" % (index, part), n=part) for part in range(3)])
                sent += [b"%d-%d" % (index, part) for part in range(3)]
            process.kill()
            await process.wait()
    async with EventHubsServer({"calls": 2}, data=data) as server:
        assert sorted(item.body for item in server.events("calls")) == sorted(sent)
        async with producer(server) as again:
            await again.send_event(event(b"later"), partition_id="0")
        last = [item for item in server.events("calls") if item.partition == "0"][-1]
        assert (last.body, last.sequence_number) == (b"later", 30)


async def test_a_record_cut_short_is_dropped_and_overwritten(anyio_backend: str, tmp_path: Path) -> None:
    data = tmp_path / "events.log"
    for round_number in range(2):
        async with EventHubsServer({"calls": 1}, data=data) as server, producer(server) as client:
            await client.send_event(event(b"%d" % round_number))
        with data.open("ab") as file:
            file.write(b"\x00\x00\x01\x00half a record")
    async with EventHubsServer({"calls": 1}, data=data) as server:
        assert [item.body for item in server.events("calls")] == [b"0", b"1"]


async def test_the_program_takes_faults_on_its_control_port(anyio_backend: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with program("--hub", "calls:1", "--control", str(port)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b'{"lost_acks": 2, "drop_connections": true}\n')
        assert b"lost_acks=2" in await reader.readline()
        writer.close()


async def test_a_silent_connection_is_closed_while_one_with_heartbeats_stays(anyio_backend: str) -> None:
    async with EventHubsServer({"calls": 1}, idle_timeout=1.0) as server:
        async with (
            receiving(server, partition_id="0", client={"retry_total": 0}) as received,
            producer(server) as client,
        ):
            await server.attached("calls", 1)
            silent, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(HEADER_FRAME)
            async with asyncio.timeout(30):
                assert b"amqp:connection:forced" in await silent.read()
            writer.close()
            await client.send_event(event(b"still read"))
            await received.until(lambda r: len(r.events) == 1)
        assert not received.errors
