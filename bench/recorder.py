"""`make bench-recorder`, or `python -m bench.recorder [--calls N]`: how many small calls a second one core records.

The rule: only this process's own CPU time counts; the storage emulator's is its own. Messages are packed as the gateway packs
them and taken as the trigger hands them over; growth is shown, since what grows faster than the calls would be a defect.
"""

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from devtools.azurite import Azurite
from shared.core.events import encode, pack
from shared.recording import Recorder
from tests.examples import closed, opened
from tests.storage import storage_at

_DEFAULT_CALLS = 2_000
_BATCHES = (1, 10, 100)
"""Calls that one invocation is handed: alone, as a busy storage queue packs them, and as Event Hubs do."""
_MESSAGE_BYTES = 48 * 1024


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What recording so many calls took."""

    calls: int
    batch: int
    seconds: float
    cpu_s: float

    @property
    def per_core(self) -> float:
        """Calls a second."""
        return self.calls / self.cpu_s


async def measure(calls: int, batch: int, recorder: Recorder) -> Recorded:
    """Records `calls` calls, each opened and closed, `batch` at a time."""
    now = datetime.now(UTC)
    first = secrets.randbits(60)
    lines = [
        line
        for number in range(first, first + calls)
        for line in (encode(opened(number, now)), encode(closed(number, now)))
    ]
    invocations = [pack(lines[start : start + 2 * batch], _MESSAGE_BYTES) for start in range(0, len(lines), 2 * batch)]
    began, cpu_began = time.perf_counter(), time.process_time()
    for messages in invocations:
        await recorder.record(messages)
    return Recorded(
        calls=calls, batch=batch, seconds=time.perf_counter() - began, cpu_s=time.process_time() - cpu_began
    )


@asynccontextmanager
async def recording(connection: str) -> AsyncIterator[Recorder]:
    """A recorder on an account of its own."""
    async with storage_at(connection, "benchrecorder") as parts:
        for part in (parts.archive, parts.ledger, parts.quarantine, parts.shelf):
            await part.prepare()
        yield Recorder(
            archive=parts.archive, sinks=(parts.archive, parts.ledger), quarantine=parts.quarantine, shelf=parts.shelf
        )


async def grown(most: int, batches: Sequence[int] = _BATCHES) -> AsyncIterator[Recorded]:
    """From few calls to `most`, batch by batch."""
    with Azurite.start() as azurite:
        async with recording(azurite.connection_string) as recorder:
            await measure(20, 10, recorder)  # connections are open, code is compiled
            for batch in batches:
                for calls in (most // 4, most // 2, most):
                    yield await measure(max(1, calls), batch, recorder)


async def _main(most: int) -> None:
    print(f"{'calls':>8}{'a batch':>9}{'seconds':>9}{'CPU s':>8}{'calls/s a core':>16}")
    async for each in grown(most):
        print(f"{each.calls:>8}{each.batch:>9}{each.seconds:>9.1f}{each.cpu_s:>8.2f}{each.per_core:>16.0f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.recorder")
    parser.add_argument("--calls", type=int, default=_DEFAULT_CALLS, help="of the largest run; default: %(default)s")
    asyncio.run(_main(parser.parse_args(arguments).calls))
    return 0


if __name__ == "__main__":
    sys.exit(main())
