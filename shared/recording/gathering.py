"""Gathering: what several invocations hand to one sink at the same time is written together.

Rule: `write` returns when the sink has kept its events. A storage queue hands over one message an invocation; while one write is
under way the next ones gather, so that they share what a write costs. A lone one waits for nobody.
"""

import asyncio
from collections.abc import Sequence

from shared.core.recording.events import Record
from shared.sinks import Sink


class Gathering:
    """Stands for a sink; one per process, used from one event loop."""

    def __init__(self, sink: Sink) -> None:
        self.name = sink.name
        self._sink = sink
        self._waiting: list[tuple[Sequence[Record], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def write(self, events: Sequence[Record]) -> None:
        """As the sink's; what it raises over anybody's events is raised for all that were written with them."""
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((events, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting())
        await written

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            failure: Exception | None = None
            try:
                await self._sink.write([event for events, _ in batch for event in events])
            except Exception as error:  # noqa: BLE001 - raised for those who wait
                failure = error
            for _, written in batch:
                if written.done():
                    continue  # whoever waited was cancelled
                if failure:
                    written.set_exception(failure)
                else:
                    written.set_result(None)

    async def prepare(self) -> None:
        await self._sink.prepare()

    async def close(self) -> None:
        await self._sink.close()
