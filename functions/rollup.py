"""The rollup's trigger."""

from datetime import timedelta

import azure.functions as func

from shared import rollup, wiring

blueprint = func.Blueprint()
_settings = wiring.settings_for_bindings()


@blueprint.timer_trigger(arg_name="timer", schedule=_settings.rollup_schedule, run_on_startup=False)
async def roll_up_usage(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding wants it
    """Rolls up the hours in which something changed."""
    parts = await wiring.services()
    overdue = timedelta(seconds=parts.settings.incomplete_after_s)
    await rollup.run(parts.ledger, parts.usage, wiring.now(), overdue)
    await parts.limits_table.sweep(wiring.now())
