"""The model of what carries how much: its arithmetic, and that docs/scaling.md shows it."""

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench import scaling
from bench.scaling import CEILINGS, STEPS, Plan, bottleneck, planned, units_needed
from shared.settings import SETTINGS

DOC = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text()


def test_the_document_shows_what_the_model_says() -> None:
    assert scaling.table() in DOC


def test_a_peak_is_three_times_the_average_of_the_busy_hours() -> None:
    plan = Plan(calls=220 * 3600 * 10, apps=2, units=0, partitions=0)
    assert plan.per_s == pytest.approx(15)  # 10 a second, on two apps, three times
    assert plan.gateways == math.ceil(15 * 8 / 100)


def test_a_queue_carries_two_messages_a_call_and_is_asked_three_times_for_each() -> None:
    plan = Plan(calls=220 * 3600 * 10 / 3, apps=1, units=0, partitions=0)
    assert plan.requests_per_s == pytest.approx(10 * (1 + 4 + 6))
    used = {ceiling.name: ceiling.used(plan) for ceiling in CEILINGS}
    assert used["storage queue"] == pytest.approx(20 / 2000)
    assert used["ledger partition"] == pytest.approx(20 / 2000)
    assert used["throughput units"] == used["partitions"] == 0


def test_units_are_asked_for_by_size_or_by_number() -> None:
    plan = Plan(calls=220 * 3600 * 1000 / 3, apps=1, units=1, partitions=32)
    assert units_needed(plan) == pytest.approx(max(1000 * 10 / 1000, 2 * 1000 / plan.sent / 1000))


def test_a_recorder_that_is_handed_more_at_a_time_costs_less() -> None:
    busy = Plan(calls=1e8, apps=1, units=10, partitions=4)
    assert busy.recording_cores < replace(busy, partitions=32).recording_cores < replace(busy, units=0).recording_cores


@pytest.mark.parametrize("calls", [*STEPS, 3e5, 7e7, 2e8, 5e8])
def test_what_is_planned_carries_the_calls_with_a_third_to_spare(calls: float) -> None:
    plan = planned(calls)
    assert bottleneck(plan)[1] <= 2 / 3
    assert plan.apps == 1 or bottleneck(scaling._plan(calls, plan.apps - 1))[1] > 2 / 3, "fewer apps would do"


def test_more_calls_never_need_less_or_cost_less() -> None:
    plans = [planned(calls) for calls in STEPS]
    for one, other in itertools.pairwise(plans):
        assert one.apps <= other.apps
        assert one.apps * one.gateways <= other.apps * other.gateways
        assert scaling.cost(one) < scaling.cost(other)


def test_the_settings_that_move_a_ceiling_exist() -> None:
    named = {name for ceiling in CEILINGS for name in re.findall(r"TOLLGATE_\w+", ceiling.moved_by)}
    assert named
    assert named <= {setting.name for setting in SETTINGS}
