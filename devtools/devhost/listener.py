"""What the triggers share. The rule: a listener outlives every error of its source, and stops when it is told to."""

import asyncio
import contextlib
import logging
from typing import Protocol

from devtools.devhost.config import Backoff
from devtools.devhost.invocations import Input
from devtools.devhost.runtime import Function

_log = logging.getLogger("devhost")


class Listener(Protocol):
    """Watches the source of one function's trigger and runs the function."""

    @property
    def function(self) -> Function:
        """The function it runs."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Listen until `stopping` is set, then finish what has begun. May raise; it is then run again."""

    def manual_input(self, text: str) -> Input:
        """What `POST /admin/functions/{name}` hands to the function."""


async def keep_running(listener: Listener, stopping: asyncio.Event) -> None:
    """Run a listener until `stopping` is set, through all its errors."""
    backoff = Backoff(0.5, 30.0)
    while not stopping.is_set():
        try:
            await listener.run(stopping)
        except Exception as error:  # noqa: BLE001  # whatever it is, the host goes on and tries again
            delay = backoff.next()
            _log.error(
                "The listener for 'Functions.%s' failed, again in %.1f s: %r", listener.function.name, delay, error
            )
            await pause(stopping, delay)


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Sleep, or return at once when `stopping` is set."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
