"""`python -m bench.memory [--calls N]`: what the worker process holds after so many calls of every kind.

The rule: what is compared is one process with itself, each time with no call under way, its messages recorded, and what can
be given back given back. Streams, whole answers, refusals and clients that hang up are mixed.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import httpx
import msgspec
from azure.core.exceptions import ResourceExistsError
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from bench.load import Load, measure
from devtools.azurite import ROOT, Azurite
from devtools.simulator import Simulator
from tests.stack import Stack, running

PROBE = ROOT / "bench" / "apps" / "probe"
NEVER = "0 0 0 1 1 *"
_PATH = "/v1/chat/completions"
_CONNECTIONS = 16
_PACE = "answer_tokens=16"
_QUIET_S = 60.0


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What the process holds after `calls` calls."""

    calls: int
    failed: int
    """Of those; all are counted, for they too leave something behind or nothing."""
    seconds: float
    rss_bytes: int
    references: int
    tasks: int


class _Probed(msgspec.Struct, frozen=True):
    rss_bytes: int
    references: int
    tasks: int


async def rounds(stack: Stack, sizes: Sequence[int]) -> AsyncIterator[Held]:
    """Makes so many calls a round, and says after each what is held. The first sample comes after the first round."""
    calls, failed, began = 0, 0, time.monotonic()
    for size in sizes:
        failed += await _call(stack, size)
        calls += size
        await _recorded(stack)
        async with httpx.AsyncClient(base_url=stack.host.base_url, timeout=30) as http:
            probed = msgspec.json.decode((await http.get("/probe")).content, type=_Probed)
        fields = msgspec.structs.asdict(probed)
        yield Held(calls=calls, failed=failed, seconds=time.monotonic() - began, **fields)


def growth_per_call(first: Held, last: Held) -> float:
    """Bytes."""
    return (last.rss_bytes - first.rss_bytes) / (last.calls - first.calls)


async def _call(stack: Stack, calls: int) -> int:
    """Returns how many failed that should not have."""
    failed = 0
    few = max(1, calls // 20)
    headers = {"authorization": f"Bearer {stack.key()}", "x-simulator-pace": _PACE}
    for is_stream, count in ((False, calls // 2 - few), (True, calls - calls // 2 - few)):
        load = Load(
            port=stack.host.port,
            path=_PATH,
            headers=headers,
            body=_body(stream=is_stream),
            connections=_CONNECTIONS,
            calls=count,
        )
        measured = await measure(load)
        failed += measured.failed
        if measured.failed:
            _say(f"{measured.failed} failed, the first with {measured.first_failure}")
    async with httpx.AsyncClient(base_url=stack.host.base_url, headers=headers, timeout=30) as http:
        await _hang_up(http, few)
        for number in range(few):
            body = _body(model="none") if number % 2 else b"{"
            await http.post(_PATH, content=body, headers={"api-key": "tg-none"} if number % 3 else None)
    return failed


async def _hang_up(http: httpx.AsyncClient, calls: int) -> None:
    """Streams whose client leaves after the first bytes."""
    for _ in range(calls):
        async with http.stream("POST", _PATH, content=_body(stream=True)) as answer:
            await anext(answer.aiter_raw())


async def _recorded(stack: Stack) -> None:
    """Returns once no message waits."""
    queue = QueueClient.from_connection_string(stack.azurite.connection_string, f"{stack.prefix}-calls")
    async with queue, asyncio.timeout(_QUIET_S):
        while (await queue.get_queue_properties()).approximate_message_count:  # noqa: ASYNC110 - another process's work
            await asyncio.sleep(0.1)


async def _renew(azurite: Azurite) -> None:
    """Starts the storage emulator again, empty but for what the app made when it started.

    It looks through all calls of an hour for each that comes, and every ten minutes for so long at what it could let go of
    that nothing else gets an answer.
    """
    connection = azurite.connection_string
    async with (
        TableServiceClient.from_connection_string(connection) as tables,
        BlobServiceClient.from_connection_string(connection) as blobs,
        QueueServiceClient.from_connection_string(connection) as queues,
    ):
        made = [
            [table.name async for table in tables.list_tables()],
            [container.name async for container in blobs.list_containers()],
            [queue.name async for queue in queues.list_queues()],
        ]
        await asyncio.to_thread(azurite.stop)
        await asyncio.to_thread(azurite.start_again)
        for names, make in zip(made, (tables.create_table, blobs.create_container, queues.create_queue), strict=True):
            for name in names:
                with suppress(ResourceExistsError):  # the host was faster
                    await make(name)


def _body(*, model: str = "gpt-4o", stream: bool = False) -> bytes:
    messages = [{"role": "user", "content": "remember " * 50}]
    return msgspec.json.encode({"model": model, "messages": messages, "stream": stream})


async def _run(calls: int, samples: int) -> None:
    sizes = [calls // samples] * samples
    with Azurite.start() as azurite, Simulator.start(keep_account=False) as simulator:
        async with running(azurite, simulator, "memory", app=PROBE, TOLLGATE_ROLLUP_SCHEDULE=NEVER) as stack:
            _say("  calls     s   RSS MB   bytes/call since the first   references   tasks   failed")
            first: Held | None = None
            async for held in rounds(stack, sizes):
                growth = f"{growth_per_call(first, held):.0f}" if first else ""
                first = first or held
                _say(
                    f"{held.calls:7d} {held.seconds:5.0f} {held.rss_bytes / 1e6:8.1f} {growth:>28} {held.references:12d}"
                    f" {held.tasks:7d} {held.failed:8d}"
                )
                await _renew(azurite)


def _say(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description="Memory after so many calls.")
    parser.add_argument("--calls", type=int, default=50_000, help="default: %(default)s")
    parser.add_argument("--samples", type=int, default=50, help="how often to look; default: %(default)s")
    options = parser.parse_args(arguments)
    asyncio.run(_run(options.calls, options.samples))
    return 0


if __name__ == "__main__":
    sys.exit(main())
