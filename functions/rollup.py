"""The timers' triggers; what they do is in shared/upkeep.py."""

import azure.functions as func

from shared import wiring

blueprint = func.Blueprint()
_settings = wiring.settings_for_bindings()


@blueprint.timer_trigger(arg_name="timer", schedule=_settings.rollup_schedule, run_on_startup=False)
async def roll_up_usage(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding wants it
    """Delivers what waits, then rolls up the hours in which something changed."""
    parts = await wiring.services()
    from shared import upkeep  # with what indexing does not have to wait for

    await upkeep.every_minute(parts, wiring.now())


@blueprint.timer_trigger(arg_name="timer", schedule="0 30 3 * * *", run_on_startup=False)
async def clear_expired(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding wants it
    """Forgets what is over."""
    parts = await wiring.services()
    from shared import upkeep  # likewise

    await upkeep.every_night(parts, wiring.now())
