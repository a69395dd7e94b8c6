"""`make bench-recorder`, or `python -m bench.recorder [--calls N]`: how many calls a second one core records, small and large,
and in which sink its time goes.

The rule: only this process's own CPU time counts; the storage emulator's is its own. Messages are packed as the gateway packs
them and taken as the trigger hands them over; growth is shown, since what grows faster than the calls would be a defect. So is
the most memory that the process had.
"""

import argparse
import asyncio
import hashlib
import math
import resource
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import batched

import msgspec

from devtools.azurite import Azurite
from shared.core.call_record import CallRecord
from shared.core.recording.archive import Extent, head_of
from shared.core.recording.events import Body, Chunk, chunk_bytes, encode, pack
from shared.recording.gathering import Gathering
from shared.recording.recorder import Recorder
from tests.emulator import storage_at
from tests.examples import closed, opened

_DEFAULT_CALLS = 2_000
_BATCHES = (1, 10, 100)
"""Calls that one invocation is handed: alone, as a busy storage queue packs them, and as Event Hubs do."""
_AT_ONCE = 16
"""Messages of a storage queue that are in hand, as host.json says; a partition of Event Hubs has one invocation at a time."""
_QUEUE_BYTES, _HUB_BYTES = 48 * 1024, 1_000_000
"""The largest message of each transport."""
_BODY_BYTES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
_MOST_BYTES = 400_000_000
"""Of bodies, in one line."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What recording so many calls took."""

    calls: int
    batch: int
    body_bytes: int
    """Of the request, and of the response."""
    peak_mb: float
    seconds: float
    cpu_s: float

    @property
    def per_core(self) -> float:
        """Calls a second."""
        return self.calls / self.cpu_s


async def measure(
    calls: int, batch: int, recorder: Recorder, body_bytes: int = 0, *, is_alone: bool = False
) -> Recorded:
    """Records `calls` calls, each opened and closed, `batch` at a time."""
    seconds = cpu_s = 0.0
    sizes = (min(batch, calls - start) for start in range(0, calls, batch))
    is_queue = batch < _BATCHES[-1]
    limit = _QUEUE_BYTES if is_queue else _HUB_BYTES
    invocations = (messages for size in sizes for messages in _invocations(size, body_bytes, limit))
    for together in batched(invocations, _AT_ONCE if is_queue and not is_alone else 1, strict=False):
        began, cpu_began = time.perf_counter(), time.process_time()
        await asyncio.gather(*map(recorder.record, together))
        seconds += time.perf_counter() - began
        cpu_s += time.process_time() - cpu_began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return Recorded(calls=calls, batch=batch, body_bytes=body_bytes, peak_mb=peak_mb, seconds=seconds, cpu_s=cpu_s)


def _invocations(calls: int, body_bytes: int, limit: int) -> Iterator[Sequence[bytes]]:
    """What a trigger hands over of so many calls: small ones at once, the chunks of large ones one by one."""
    now, first = datetime.now(UTC), secrets.randbits(60)
    small = []
    for number in range(first, first + calls):
        small.append(encode(opened(number, now)))
        if 2 * body_bytes > limit:
            yield from ([encode(chunk)] for chunk in _chunks(closed(number, now).record, body_bytes, limit))
            continue
        body = Body.of(b"x" * body_bytes)
        event = msgspec.structs.replace(
            closed(number, now), **({"request": body, "response": body} if body_bytes else {})
        )
        small.append(encode(event))
    yield pack(small, limit)


def _chunks(record: CallRecord, body_bytes: int, limit: int) -> Iterator[Chunk]:
    """Those of a call with two such bodies, as `split` makes them, but one at a time: their memory is not the recorder's."""
    size = chunk_bytes(limit)
    body = Extent(body_bytes, _digest(b"", body_bytes))
    head = head_of(record, body, body)
    whole = _digest(head, 2 * body_bytes)
    total = len(head) + 2 * body_bytes
    for start in range(0, total, size):
        data = head[start : start + size]
        data += b"x" * (min(size, total - start) - len(data))
        count = math.ceil(total / size)
        yield Chunk(call_id=record.call_id, index=start // size, count=count, sha256=whole, data=data)


def _digest(beginning: bytes, then: int) -> str:
    """Of some bytes and so many letters x."""
    digest = hashlib.sha256(beginning)
    for start in range(0, then, _HUB_BYTES):
        digest.update(b"x" * min(_HUB_BYTES, then - start))
    return digest.hexdigest()


@asynccontextmanager
async def recording(connection: str) -> AsyncIterator[Recorder]:
    """A recorder on an account of its own."""
    async with storage_at(
        connection, "benchrecorder", use_env_settings=False
    ) as parts:  # as shared/storage/account.py does
        for part in (parts.archive, parts.ledger, parts.quarantine, parts.shelf):
            await part.prepare()
        yield Recorder(
            archive=parts.archive,
            sinks=(parts.archive, Gathering(parts.ledger)),
            quarantine=parts.quarantine,
            shelf=parts.shelf,
        )


async def grown(most: int, batches: Sequence[int] = _BATCHES) -> AsyncIterator[Recorded]:
    """From few calls to `most`, batch by batch."""
    with Azurite.start() as azurite:
        async with recording(azurite.connection_string) as recorder:
            await measure(20, 10, recorder)  # connections are open, code is compiled
            for batch in batches:
                for calls in (most // 4, most // 2, most):
                    yield await measure(max(1, calls), batch, recorder)


async def by_size(most: int) -> AsyncIterator[Recorded]:
    """From small calls to the largest, those above a message in chunks of a megabyte."""
    with Azurite.start() as azurite:
        async with recording(azurite.connection_string) as recorder:
            await measure(20, 10, recorder)
            for body_bytes in _BODY_BYTES:
                calls = max(1, min(most, _MOST_BYTES // (2 * body_bytes)))
                yield await measure(calls, _BATCHES[-1], recorder, body_bytes)


async def alone(calls: int) -> Recorded:
    """Calls that come one at a time: what an invocation costs besides its calls."""
    with Azurite.start() as azurite:
        async with recording(azurite.connection_string) as recorder:
            await measure(20, 10, recorder)
            return await measure(calls, 1, recorder, is_alone=True)


async def by_sink(calls: int) -> Sequence[tuple[str, float]]:
    """CPU milliseconds of a small call: what is spent before any sink, and in each."""
    costs = []
    with Azurite.start() as azurite:
        async with recording(azurite.connection_string) as recorder:
            await measure(20, 10, recorder)
            for name, sinks in (("before the sinks", ()), *((sink.name, (sink,)) for sink in recorder.sinks)):
                measured = await measure(calls, _BATCHES[-1], msgspec.structs.replace(recorder, sinks=sinks))
                costs.append((name, 1000 / measured.per_core))
    before = costs[0][1]
    return [costs[0], *((name, cost - before) for name, cost in costs[1:])]


async def _main(most: int) -> None:
    print(f"{'calls':>8}{'body bytes':>12}{'a batch':>9}{'seconds':>9}{'CPU s':>8}{'calls/s a core':>16}{'peak MB':>9}")
    for run in (grown(most), by_size(most)):
        async for each in run:
            print(
                f"{each.calls:>8}{each.body_bytes:>12}{each.batch:>9}{each.seconds:>9.1f}{each.cpu_s:>8.2f}"
                f"{each.per_core:>16.0f}{each.peak_mb:>9.0f}",
                flush=True,
            )
    one = await alone(most // 10)
    print(f"{'one call alone':>18}: {1000 / one.per_core:.3f} ms CPU")
    for name, cost in await by_sink(most // 2):
        print(f"{name:>18}: {cost:.3f} ms CPU a small call")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.recorder")
    parser.add_argument("--calls", type=int, default=_DEFAULT_CALLS, help="of the largest run; default: %(default)s")
    asyncio.run(_main(parser.parse_args(arguments).calls))
    return 0


if __name__ == "__main__":
    sys.exit(main())
