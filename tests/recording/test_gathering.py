"""What is handed over at the same time is written together, and nobody hears more or less than what became of it."""

import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from shared.core.recording.events import Closed, Record
from shared.recording.gathering import Gathering
from tests.emulator import Storage
from tests.examples import closed, opened


class SlowSink:
    """Writes when it is let; remembers in what company."""

    name = "slow"

    def __init__(self) -> None:
        self.writes: list[list[Record]] = []
        self.go = asyncio.Event()
        self.failure: Exception | None = None

    async def write(self, events: Sequence[Record], /) -> None:
        self.writes.append(list(events))
        await self.go.wait()
        if self.failure:
            raise self.failure

    async def prepare(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


async def until_written(sink: SlowSink, writes: int) -> None:
    async with asyncio.timeout(5):
        while len(sink.writes) < writes:  # noqa: ASYNC110 - a list, not an event
            await asyncio.sleep(0)


async def test_what_comes_while_a_write_is_under_way_shares_the_next_one() -> None:
    sink = SlowSink()
    gathering = Gathering(sink)
    first = asyncio.create_task(gathering.write([opened(1)]))
    await until_written(sink, 1)
    others = [asyncio.create_task(gathering.write([opened(number)])) for number in (2, 3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in (first, *others))
    sink.go.set()
    await asyncio.gather(first, *others)
    assert sink.writes == [[opened(1)], [opened(2), opened(3)]]


async def test_a_failure_is_everybodys_and_the_next_write_is_new() -> None:
    sink = SlowSink()
    sink.failure = OSError("down")
    sink.go.set()
    gathering = Gathering(sink)
    failed = await asyncio.gather(*(gathering.write([opened(number)]) for number in (1, 2)), return_exceptions=True)
    assert failed == [sink.failure, sink.failure]
    sink.failure = None
    await gathering.write([opened(3)])
    assert sink.writes[-1] == [opened(3)]


async def test_one_who_goes_leaves_the_others_their_write() -> None:
    sink = SlowSink()
    gathering = Gathering(sink)
    tasks = [asyncio.create_task(gathering.write([opened(number)])) for number in (1, 2)]
    await until_written(sink, 1)
    tasks[0].cancel()
    sink.go.set()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    await tasks[1]


async def test_entries_that_were_written_together_are_all_in_the_ledger(storage: Storage) -> None:
    gathering = Gathering(storage.ledger)
    await asyncio.gather(*(gathering.write([opened(number), closed(number)]) for number in range(30)))
    assert len(await storage.entries(closed())) == 30


async def test_a_sink_that_hangs_is_handed_nothing_more_until_it_has_come_back() -> None:
    """Guards that one slow sink holds the others up: whoever waits for it takes no further message."""
    sink = SlowSink()
    gathering = Gathering(sink, patience_s=0.05)
    with pytest.raises(TimeoutError, match="within"):
        await gathering.write([opened(1)])
    with pytest.raises(TimeoutError, match="earlier write"):
        await gathering.write([opened(2)])
    sink.go.set()
    async with asyncio.timeout(5):
        while len(sink.writes) < 2:
            await asyncio.sleep(0)
            with contextlib.suppress(TimeoutError):
                await gathering.write([opened(3)])
    assert sink.writes == [[opened(1)], [opened(3)]]


async def test_who_has_nothing_for_the_sink_does_not_wait_for_others() -> None:
    """Guards that half of all messages, which tell of calls that were opened, wait for what only ended calls are written to."""
    sink = SlowSink()
    gathering = Gathering(sink, only=Closed)
    first = asyncio.create_task(gathering.write([opened(1), closed(1)]))
    await until_written(sink, 1)
    await gathering.write([opened(2)])
    sink.go.set()
    await first
    assert sink.writes == [[closed(1)]]
