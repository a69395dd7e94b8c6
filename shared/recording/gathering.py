"""Gathering: what several invocations hand to one sink at the same time is written together.

Rule: `write` returns when the sink has kept its events. A storage queue hands over one message an invocation; while one write is
under way the next ones gather, so that they share what a write costs. A lone one waits for nobody. A sink that hangs is handed
nothing more until it has come back: whoever waits for it would keep the other sinks from the next events.
"""

import asyncio
from collections.abc import Sequence

from shared.core.recording.events import Record
from shared.sinks import Sink

type _Waiting = list[tuple[Sequence[Record], asyncio.Future[None]]]


class Gathering:
    """Stands for a sink; one per process, used from one event loop.

    only: the events that the sink keeps, where those are not all; who has none of them does not wait for the others'.
    patience_s: after which a write hangs; None: never.
    """

    def __init__(self, sink: Sink, *, only: type[Record] | None = None, patience_s: float | None = None) -> None:
        self.name = sink.name
        self._sink = sink
        self._only = only
        self._patience_s = patience_s
        self._hangs = False
        self._waiting: _Waiting = []
        self._writer: asyncio.Task[None] | None = None

    async def write(self, events: Sequence[Record]) -> None:
        """As the sink's; what it raises over anybody's events is raised for all that were written with them. Raises TimeoutError
        where the sink hangs: then they may be kept all the same."""
        kept = events if self._only is None else [event for event in events if isinstance(event, self._only)]
        if not kept:
            return
        if self._hangs:
            raise TimeoutError(f"{self.name} has not come back from an earlier write")
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((kept, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting())
        await written

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            events = [event for events, _ in batch for event in events]
            write = asyncio.create_task(self._sink.write(events))
            await asyncio.wait((write,), timeout=self._patience_s)
            if not write.done():
                await self._until_back(write, batch)
                continue
            _settle(batch, write.exception())

    async def _until_back(self, write: asyncio.Task[None], batch: _Waiting) -> None:
        self._hangs = True
        late, self._waiting = [*batch, *self._waiting], []
        _settle(late, TimeoutError(f"{self.name} has not come back within {self._patience_s:g} s"))
        await asyncio.wait((write,))
        write.exception()  # nobody waits for it any more
        self._hangs = False

    async def prepare(self) -> None:
        await self._sink.prepare()

    async def close(self) -> None:
        await self._sink.close()


def _settle(batch: _Waiting, failure: BaseException | None) -> None:
    for _, written in batch:
        if written.done():
            continue  # whoever waited was cancelled
        if failure:
            written.set_exception(failure)
        else:
            written.set_result(None)
