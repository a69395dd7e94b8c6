"""The timer's trigger: what was not delivered is, usage is rolled up, and what is over is cleared away."""

from datetime import timedelta

import azure.functions as func
import msgspec

from shared import rollup, wiring
from shared.chains import chain_hours
from shared.core.errors import NotReady
from shared.core.tracing import Kind
from shared.publishing import SPILL
from shared.sweeping import sweep
from shared.telemetry import OFF
from shared.wiring import Services

blueprint = func.Blueprint()
_settings = wiring.settings_for_bindings()


@blueprint.timer_trigger(arg_name="timer", schedule=_settings.rollup_schedule, run_on_startup=False)
async def roll_up_usage(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding wants it
    """Delivers what waits, then rolls up the hours in which something changed."""
    parts = await wiring.services()
    recorder = parts.recorder
    steps = {
        "deliver poison": parts.transport.redeliver(recorder.record),
        "deliver spill": parts.shelf.deliver(SPILL, recorder.record_lines),
        "drain outboxes": recorder.drain(),
        "meter": _meter(parts),
        "roll up": _count(parts),
        "settle budgets": _settle(parts),
        "chain hours": chain_hours(parts.ledger, parts.chains, now=wiring.now()),
        "tell backlog": _tell_backlog(parts),
        "sweep limits": parts.limits_table.sweep(wiring.now()),
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


async def _tell_backlog(parts: Services) -> None:
    if parts.telemetry is not OFF:
        parts.telemetry.backlog(msgspec.structs.asdict((await parts.readiness.report()).backlog))


async def _meter(parts: Services) -> None:
    if parts.configuration is not None:  # else nobody knows where upstreams are; the next step says so
        await parts.metering.run(parts.configuration, wiring.now())


async def _settle(parts: Services) -> None:
    if parts.configuration is not None:
        await parts.budgeting.run(parts.configuration)


async def _count(parts: Services) -> None:
    if parts.configuration is None:
        raise NotReady("The gateway's configuration is invalid; /health says why.")  # and usage would have no price
    overdue = timedelta(seconds=parts.settings.incomplete_after_s)
    prices = parts.configuration.prices
    await rollup.run(
        parts.ledger, parts.usage, parts.recorder.recover, prices, now=wiring.now(), incomplete_after=overdue
    )


@blueprint.timer_trigger(arg_name="timer", schedule="0 30 3 * * *", run_on_startup=False)
async def clear_expired(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding wants it
    """Forgets stored objects that their upstreams have deleted by now, and quarantines what never became a call."""
    parts = await wiring.services()
    await parts.objects.remove_expired()
    await sweep(parts.recorder.archive, parts.recorder.quarantine, now=wiring.now())
