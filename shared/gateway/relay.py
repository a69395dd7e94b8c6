"""The relay: a stream on its way from an upstream to a client, and into the record.

Rule: the upstream is read by a task of its own, to its end, whether the client stays or not: a client that hangs up has
still been served, and its usage is in the last event. Nothing waits for anything but the bytes themselves, and at the end
the terminal event is held until the call's record is durable. What is too large to be held comes no faster than the client
takes it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from shared.core.api.tap import PassTap, StreamTap
from shared.core.call_record import Outcome
from shared.core.errors import GatewayError, NotReady, UpstreamFailed, to_openai_json
from shared.gateway.receiving import Received
from shared.gateway.upstream import Response, UpstreamError

_log = logging.getLogger(__name__)

type Close = Callable[["Relay"], Awaitable[None]]
"""Makes the end of the call durable. Raises GatewayError."""


_GRACE_S = 1.0
_MOST_WAITING = 1024 * 1024
"""Bytes that wait for a client, of what is not held anyway."""

HEARTBEAT = b": keep-alive\n\n"
"""A comment, which every client of server-sent events passes over."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long things may take."""

    deadline: float
    """An instant of the event loop's clock: when the call as a whole must have ended."""
    drain_s: float
    """For how long a stream is read whose client has gone."""
    heartbeat_s: float
    """How long a client may hear nothing: the platform cuts a silent call off."""
    holds_end: bool = True
    """Whether the client's last bytes wait until the end of the call is durable."""


class Relay:
    """One stream. Created and used within one event loop."""

    def __init__(
        self,
        response: Response,
        tap: StreamTap | PassTap,
        close: Close,
        timing: Timing,
        received: Received | None = None,
    ) -> None:
        self.tap = tap
        self.received = received or Received()
        self.outcome = Outcome.COMPLETED
        self.error: str | None = None
        self.is_cut_short = False
        """Whether the upstream ended, in good order, before its terminal event."""
        self.is_broken = False
        """Whether the upstream broke off, or took too long."""
        self.was_stopped = False
        """Whether the upstream was not read to its end, because the client had gone."""
        self._failure: GatewayError | None = None
        self._response = response
        self._close = close
        self._timing = timing
        self._for_client: list[bytes] = []
        self._waiting = 0
        """Bytes of that."""
        self._taken = asyncio.Event()
        self._is_gone = False
        """Whether the client takes no more."""
        self._held: list[bytes] = []
        self._is_cut = False
        """Whether what the client has got ends inside an event."""
        self._is_reading = True
        self._arrived = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def chunks(self) -> AsyncIterator[bytes]:
        """What the client gets, as it comes."""
        while True:
            try:
                async with asyncio.timeout(self._timing.heartbeat_s):
                    await self._arrived.wait()
            except TimeoutError:
                if self.tap.tells_errors and not self._is_cut:
                    yield HEARTBEAT
                continue
            self._arrived.clear()
            ready, self._for_client, self._waiting = self._for_client, [], 0
            self._taken.set()
            for chunk in ready:
                yield chunk
            if self._task.done() and not self._for_client:
                if self._failure and not self.tap.tells_errors:
                    raise self._failure  # all that is left is to break off, so that the client notices
                return

    async def finish(self) -> None:
        """Called when the client has all, or has gone: returns when the call is closed."""
        if not self._task.done():
            if not self._has_been_told_all:
                self.outcome = Outcome.CLIENT_CLOSED
            self._is_gone = True
            self._taken.set()
            await asyncio.wait([self._task], timeout=self._timing.drain_s)
            if self._is_reading:
                self._task.cancel()
        await asyncio.wait([self._task])

    @property
    def _has_been_told_all(self) -> bool:
        """Whether the client has the terminal event, and all before it: what it does then is no hanging up."""
        return self.tap.done and not self._for_client and not self._held

    @property
    def _is_full(self) -> bool:
        """Whether the upstream has to wait for the client."""
        return self.received.is_passing and self._waiting > _MOST_WAITING and not self._is_gone

    async def _run(self) -> None:
        try:
            await self._read_all()
        finally:
            self._is_reading = False
            await self._response.close()
        await self._end_call()
        if self._failure is None:
            self._for_client += self._held
        elif self.tap.tells_errors:
            self._for_client.append(self._error_event(self._failure))
        asyncio.get_running_loop().call_soon(self._arrived.set)  # once this task is done

    async def _read_all(self) -> None:
        """Reads the upstream; how that ended is in `outcome`, `error` and `_failure`."""
        try:
            async with asyncio.timeout_at(self._timing.deadline):
                await self._read()
        except UpstreamError as error:
            self._failed(error.reason)
        except GatewayError as error:  # it cannot be kept; but it was served, and so is a call that counts
            self.error, self._failure = error.message, error
            if self.outcome is Outcome.COMPLETED:
                self.outcome = Outcome.UPSTREAM_ERROR
        except TimeoutError:
            self._late()
        except asyncio.CancelledError:
            self.was_stopped = not self.tap.done
            if self.was_stopped:
                self.error = f"not read to its end within {self._timing.drain_s:g} s after the client had gone"
        except Exception as error:  # noqa: BLE001 - a defect of ours must not leave the client waiting and the call open
            _log.exception("relay failed")
            self._failed(f"unexpected: {error!r}")

    async def _end_call(self) -> None:
        try:
            await self._close(self)
        except GatewayError as error:
            self._failure = error
        except Exception:  # noqa: BLE001 - a defect of ours must not leave the client waiting
            _log.exception("call not closed")
            self._failure = NotReady("The call was served but could not be recorded; try again later.")

    async def _read(self) -> None:
        chunks = self._response.chunks()
        async for chunk in chunks:
            await self.received.add(chunk)
            self._hand_on(self.tap.feed(chunk))
            if self.tap.done:
                break
            while self._is_full:
                self._taken.clear()
                await self._taken.wait()
        else:
            self._hand_on(self.tap.end())
            self.is_cut_short = not self.tap.done
            return
        # All has been said. What follows is the connection's end, which is worth a moment and no failure.
        with contextlib.suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                async for chunk in chunks:
                    await self.received.add(chunk)
                    self._hand_on(self.tap.feed(chunk))

    def _hand_on(self, chunk: bytes) -> None:
        if not chunk or self._is_gone:
            return
        if self.tap.done and self._timing.holds_end:
            self._held.append(chunk)
            return
        self._for_client.append(chunk)
        self._waiting += len(chunk)
        self._is_cut = self.tap.is_inside_event
        self._arrived.set()

    def _late(self) -> None:
        """The deadline has passed: the upstream's fault, unless it waits for the client."""
        if not self._is_full:
            self._failed("the call's deadline passed")
            return
        self.outcome, self.error = Outcome.CLIENT_CLOSED, "the client did not take it before the call's deadline"
        self._failure = UpstreamFailed("The answer was not taken in time.")

    def _failed(self, reason: str) -> None:
        self.is_broken = True
        self.error = reason
        self._failure = UpstreamFailed("The upstream broke off in the middle of its answer.")
        if self.outcome is Outcome.COMPLETED:
            self.outcome = Outcome.UPSTREAM_ERROR

    def _error_event(self, failure: GatewayError) -> bytes:
        """The headers are long gone: the stream itself has to tell, as OpenAI's does."""
        cut = b"\n\n" if self._is_cut else b""
        return cut + b"data: " + to_openai_json(failure) + b"\n\n"
