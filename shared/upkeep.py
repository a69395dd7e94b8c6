"""What the timer does: what was not delivered is, usage is rolled up, and what is over is cleared away.

Rule: every step is taken, whatever became of those before it, and each can be taken again.
"""

from collections.abc import Awaitable
from datetime import datetime, timedelta

import msgspec

from shared.composition import Services
from shared.core.errors import NotReady
from shared.core.tracing import Kind
from shared.recording.chains import chain_hours
from shared.recording.publishing import SPILL
from shared.recording.sweeping import sweep
from shared.telemetry import OFF
from shared.usage import rollup


async def every_minute(parts: Services, now: datetime) -> None:
    """Delivers what waits, then rolls up the hours in which something changed. Raises ExceptionGroup of what failed."""
    recorder = parts.recorder
    steps: dict[str, Awaitable[object]] = {
        "deliver poison": parts.transport.redeliver(recorder.record),
        "deliver spill": parts.shelf.deliver(SPILL, recorder.record_lines),
        "drain outboxes": recorder.drain(),
        "meter": _meter(parts, now),
        "roll up": _count(parts, now),
        "settle budgets": _settle(parts),
        "chain hours": chain_hours(parts.ledger, parts.chains, now=now),
        "tell backlog": _tell_backlog(parts),
        "sweep limits": parts.limits_table.sweep(now),
    }
    failures = []
    with parts.telemetry.step("timer") as run:
        for name, step in steps.items():
            try:
                with parts.telemetry.step(name, Kind.INTERNAL, run):
                    await step
            except Exception as failure:  # noqa: BLE001 - one that fails must not keep the others from their work
                failures.append(failure)
    if failures:
        raise ExceptionGroup("some of the timer's work is left for the next run", failures)


async def every_night(parts: Services, now: datetime) -> None:
    """Forgets stored objects that their upstreams have deleted by now, and quarantines what never became a call."""
    await parts.objects.remove_expired()
    await sweep(parts.recorder.archive, parts.recorder.quarantine, now=now)


async def _tell_backlog(parts: Services) -> None:
    if parts.telemetry is not OFF:
        parts.telemetry.backlog(msgspec.structs.asdict((await parts.readiness.report()).backlog))


async def _meter(parts: Services, now: datetime) -> None:
    if parts.configuration is not None:  # else nobody knows where upstreams are; the next step says so
        await parts.metering.run(parts.configuration, now)


async def _settle(parts: Services) -> None:
    if parts.configuration is not None:
        await parts.budgeting.run(parts.configuration)


async def _count(parts: Services, now: datetime) -> None:
    if parts.configuration is None:
        raise NotReady("The gateway's configuration is invalid; /health says why.")  # and usage would have no price
    overdue = timedelta(seconds=parts.settings.incomplete_after_s)
    prices = parts.configuration.prices
    await rollup.run(parts.ledger, parts.usage, parts.recorder.recover, prices, now=now, incomplete_after=overdue)
