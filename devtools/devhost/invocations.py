"""Every run of a function passes here. The rule: a run gets a fresh id, is logged, and is bounded by functionTimeout.

A run that outlives functionTimeout ends this whole process, as it ends the worker process in Azure, with every other
run in it. A thread watches, because the event loop may be what hangs.
"""

import asyncio
import logging
import os
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from devtools.devhost import runtime
from devtools.devhost.config import Backoff
from devtools.devhost.options import TIMEOUT_EXIT_CODE
from devtools.devhost.runtime import Call, Function, Outcome, TypedData

_log = logging.getLogger("devhost")


@dataclass(frozen=True, kw_only=True)
class Input:
    """What a trigger hands to a function: the value of its parameter, what is told about it, and why it fired."""

    data: TypedData
    metadata: Mapping[str, TypedData]
    reason: str


class Invocations:
    """Runs functions and knows which are running."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._running: dict[str, tuple[float, str]] = {}
        self._triggered: set[asyncio.Task[Outcome]] = set()
        if timeout_s is not None:
            threading.Thread(target=self._watch, args=(timeout_s,), name="function-timeout", daemon=True).start()

    async def http(self, function: Function, params: Mapping[str, str], *, call_id: str, trace_parent: str) -> Outcome:
        """Run an HTTP function; the request reaches it through the runtime's web app under the same call id."""
        data = runtime.route_data(params)
        return await self._run(Call(id=call_id, function=function, data=data, metadata={}, trace_parent=trace_parent))

    async def trigger(self, function: Function, given: Input, *, retry_count: int = 0) -> bool:
        """Run a function once; True when it succeeded. When its listener is cancelled, the function is not."""
        call_id = str(uuid.uuid4())
        started = time.monotonic()
        _log.info("Executing 'Functions.%s' (Reason='%s', Id=%s)", function.name, given.reason, call_id)
        call = Call(
            id=call_id,
            function=function,
            data=given.data,
            metadata=given.metadata,
            trace_parent=new_trace_parent(),
            retry_count=retry_count,
        )
        run = asyncio.create_task(self._run(call))
        self._triggered.add(run)
        run.add_done_callback(self._triggered.discard)
        outcome = await asyncio.shield(run)
        if outcome.error is None:
            took_ms = (time.monotonic() - started) * 1000
            _log.info("Executed 'Functions.%s' (Succeeded, Id=%s, Duration=%.0fms)", function.name, call_id, took_ms)
        return outcome.error is None

    async def trigger_with_retries(self, function: Function, given: Input) -> bool:
        """Run a function as its `@app.retry` says; False when it failed and will not be tried again.

        Follows FunctionExecutorExtensions.TryExecuteAsync of Azure/azure-webjobs-sdk.
        """
        policy = function.retry
        backoff = Backoff(policy.minimum_s, policy.maximum_s) if policy else None
        retry_count = 0
        while not await self.trigger(function, given, retry_count=retry_count):
            if policy is None or backoff is None:
                return False
            if policy.max_retries != -1 and retry_count >= policy.max_retries:
                _log.error("Functions.%s: gave up after %d retries", function.name, retry_count)
                return False
            retry_count += 1
            delay = backoff.next()
            _log.warning(
                "Functions.%s: retry %d of %d in %.1f s", function.name, retry_count, policy.max_retries, delay
            )
            await asyncio.sleep(delay)
        return True

    async def drain(self) -> None:
        """Wait for the functions that listeners have started."""
        if self._triggered:
            await asyncio.wait(self._triggered)

    async def _run(self, call: Call) -> Outcome:
        self._running[call.id] = (time.monotonic(), call.function.name)
        try:
            outcome = await runtime.invoke(call)
        finally:
            del self._running[call.id]
        if outcome.error is not None:
            _log.error("Executed 'Functions.%s' (Failed, Id=%s)\n%s", call.function.name, call.id, outcome.error)
        return outcome

    def _watch(self, timeout_s: float) -> None:
        while True:
            time.sleep(min(1.0, timeout_s / 10))
            for call_id, (started, name) in list(self._running.items()):
                if time.monotonic() - started > timeout_s:
                    _log.error(
                        "Timeout value of %.0f s exceeded by function 'Functions.%s' (Id: '%s'). "
                        "Restarting the worker process.", timeout_s, name, call_id
                    )  # fmt: skip
                    logging.shutdown()
                    os._exit(TIMEOUT_EXIT_CODE)


def new_trace_parent(incoming: str = "") -> str:
    """A W3C traceparent for a new span, in the trace that the caller named or in a new one."""
    parts = incoming.split("-")
    trace_id = parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else os.urandom(16).hex()
    return f"00-{trace_id}-{os.urandom(8).hex()}-{parts[3] if len(parts) >= 4 else '00'}"
