"""The circuit breaker: what each event makes of each phase, and that no history locks a deployment out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.routing.breaker import RULES, Breaker, BreakerRules, Event, Phase, Tally, after

FEW = BreakerRules(failures=3, window_s=10, trip_s=5, longest_trip_s=60, calm_s=300, probe_s=20)

CLOSED = Breaker()
ABOUT_TO_TRIP = Breaker(tally=Tally(started_at=99, calls=2, failures=2))
OPEN = Breaker(phase=Phase.OPEN, until=105, trips=1)
DUE = Breaker(phase=Phase.OPEN, until=99, trips=1)
PROBING = Breaker(phase=Phase.HALF_OPEN, until=120, trips=1)
PROBE_LOST = Breaker(phase=Phase.HALF_OPEN, until=99, trips=1)

TABLE = {  # at 100 s: before, event, phase after, until after
    "a closed breaker lets calls start": (CLOSED, Event.STARTED, Phase.CLOSED, 0),
    "a success leaves it closed": (CLOSED, Event.SUCCEEDED, Phase.CLOSED, 0),
    "one failure does, too": (CLOSED, Event.FAILED, Phase.CLOSED, 0),
    "one too many opens it": (ABOUT_TO_TRIP, Event.FAILED, Phase.OPEN, 105),
    "who hangs up says nothing": (ABOUT_TO_TRIP, Event.ABANDONED, Phase.CLOSED, 0),
    "a call that was chosen before the trip is no probe": (OPEN, Event.STARTED, Phase.OPEN, 105),
    "a late success does not close it": (OPEN, Event.SUCCEEDED, Phase.OPEN, 105),
    "a late failure does not prolong it": (OPEN, Event.FAILED, Phase.OPEN, 105),
    "nor does a late hang-up": (OPEN, Event.ABANDONED, Phase.OPEN, 105),
    "the first call once it is due is the probe": (DUE, Event.STARTED, Phase.HALF_OPEN, 120),
    "due, it stays open until a call starts": (DUE, Event.SUCCEEDED, Phase.OPEN, 99),
    "there is one probe at a time": (PROBING, Event.STARTED, Phase.HALF_OPEN, 120),
    "a probe that succeeds closes it": (PROBING, Event.SUCCEEDED, Phase.CLOSED, 0),
    "a probe that fails opens it for longer": (PROBING, Event.FAILED, Phase.OPEN, 110),
    "a probe whose client has gone lets the next call be one": (PROBING, Event.ABANDONED, Phase.OPEN, 100),
    "a probe that never came back is replaced": (PROBE_LOST, Event.STARTED, Phase.HALF_OPEN, 120),
}


@pytest.mark.parametrize(("before", "event", "phase", "until"), TABLE.values(), ids=TABLE.keys())
def test_each_event_has_one_effect_in_each_phase(before: Breaker, event: Event, phase: Phase, until: float) -> None:
    breaker = after(before, event, 100.0, rules=FEW)
    assert breaker.phase is phase
    assert breaker.until == until


def test_the_table_leaves_no_event_out() -> None:
    assert {(row[0].phase, row[1]) for row in TABLE.values()} == {(phase, event) for phase in Phase for event in Event}


ADMITS = {
    "closed": (CLOSED, True),
    "open": (OPEN, False),
    "open and due": (DUE, True),
    "probing": (PROBING, False),
    "probe lost": (PROBE_LOST, True),
}


@pytest.mark.parametrize(("breaker", "expected"), ADMITS.values(), ids=ADMITS.keys())
def test_calls_pass_when_closed_or_due(breaker: Breaker, expected: object) -> None:
    assert breaker.admits(100.0) is expected


def run(events: str, breaker: Breaker = CLOSED, *, start: float = 0.0, every_s: float = 0.1) -> Breaker:
    """The breaker after one event every so often: `x` failed, `.` succeeded."""
    for index, event in enumerate(events):
        breaker = after(breaker, Event.FAILED if event == "x" else Event.SUCCEEDED, start + index * every_s, rules=FEW)
    return breaker


TRIPS = {
    "three in a row": ("xxx", 0.1, True),
    "two are not enough": ("xx", 0.1, False),
    "half of the calls": ("x.x.x", 0.1, True),
    "a busy deployment has failures": ("......x......x......x......x......", 0.1, False),
    "half of them after a good time": ("....xxxx", 0.1, True),
    "three within the window": ("xxx", 2.4, True),
    "three further apart than it": ("xxxxxx", 6.0, False),
    "what is long past does not count for it either": ("." * 50 + "xxx", 11.0, False),
}


@pytest.mark.parametrize(("events", "every_s", "trips"), TRIPS.values(), ids=TRIPS.keys())
def test_it_trips_on_enough_failures_that_are_enough_of_the_calls(events: str, every_s: float, *, trips: bool) -> None:
    assert (run(events, every_s=every_s).phase is Phase.OPEN) is trips


WINDOW = {  # half of it is 5 s; the events, each with its time
    "failures on both sides of the half": ([("x", 4), ("x", 4.9), ("x", 5.1)], True),
    "the whole window later they are gone": ([("x", 0), ("x", 0), ("x", 10)], False),
    "and so after a long silence": ([("x", 0), ("x", 0), ("x", 1000)], False),
    "good calls of the earlier half count, too": ([*[(".", 4)] * 9, ("x", 6), ("x", 6), ("x", 6)], False),
    "those before it do not": ([*[(".", 4)] * 9, ("x", 11), ("x", 11), ("x", 11)], True),
}


@pytest.mark.parametrize(("events", "trips"), WINDOW.values(), ids=WINDOW.keys())
def test_the_window_rolls_on_by_halves(events: list[tuple[str, float]], *, trips: bool) -> None:
    breaker = CLOSED
    for event, at in events:
        breaker = run(event, breaker, start=at)
    assert (breaker.phase is Phase.OPEN) is trips


@given(first=st.floats(0, 100), start=st.floats(0, 20), gaps=st.lists(st.floats(0, 2.4), min_size=2, max_size=2))
def test_failures_within_half_a_window_are_always_counted_together(
    first: float, start: float, gaps: list[float]
) -> None:
    """Guards that no boundary between two windows hides failures."""
    now = first + start
    breaker = run(".", start=first)
    for gap in (0.0, *gaps):
        now += gap
        breaker = after(breaker, Event.FAILED, now, rules=FEW)
    assert breaker.phase is Phase.OPEN


def test_good_calls_that_have_left_the_window_do_not_outweigh_failures() -> None:
    busy = run("." * 100, every_s=0.01)
    assert run("xxx", busy, start=2.0).phase is Phase.CLOSED
    assert run("xxx", busy, start=30.0).phase is Phase.OPEN


def probe(breaker: Breaker, event: Event) -> tuple[Breaker, float]:
    """The breaker after a probe at the first possible moment, and how long it had to be waited for."""
    now = breaker.until
    return after(after(breaker, Event.STARTED, now, rules=FEW), event, now, rules=FEW), now


def test_each_trip_in_a_row_lasts_twice_as_long_up_to_a_limit() -> None:
    breaker, now = run("xxx", every_s=0), 0.0
    lasted: list[float] = []
    for _ in range(1500):
        lasted.append(round(breaker.until - now, 6))
        breaker, now = probe(breaker, Event.FAILED)
    assert lasted[:6] == [5, 10, 20, 40, 60, 60]
    assert set(lasted[6:]) == {60}


def test_a_deployment_that_comes_and_goes_stays_out_longer_each_time() -> None:
    breaker, now = probe(run("xxx", every_s=0), Event.SUCCEEDED)
    breaker = run("xxx", breaker, start=now, every_s=0)
    assert breaker.until - now == 10


def test_after_a_calm_time_the_trips_start_over() -> None:
    breaker, now = probe(run("xxx", every_s=0), Event.SUCCEEDED)
    later = now + FEW.calm_s
    assert run("xxx", breaker, start=later, every_s=0).until - later == 5


def test_once_closed_it_takes_as_many_failures_as_ever() -> None:
    breaker, now = probe(run("xxx", every_s=0), Event.SUCCEEDED)
    assert run("xx", breaker, start=now).phase is Phase.CLOSED


RETRY_AFTER = {"shorter": (2.0, 2.0), "longer": (30.0, 30.0), "not for ever": (86_400.0, 60.0), "none": (None, 10.0)}


@pytest.mark.parametrize(("trip_s", "expected"), RETRY_AFTER.values(), ids=RETRY_AFTER.keys())
def test_a_retry_after_says_how_long_it_is_open(trip_s: float | None, expected: float) -> None:
    assert after(PROBING, Event.FAILED, 100.0, trip_s=trip_s, rules=FEW).until == 100.0 + expected


@given(
    history=st.lists(st.tuples(st.sampled_from(Event), st.floats(0, 100), st.none() | st.floats(0, 1e9)), max_size=80)
)
def test_after_any_history_an_idle_breaker_lets_a_call_through(
    history: list[tuple[Event, float, float | None]],
) -> None:
    breaker, now = Breaker(), 0.0
    for event, gap, trip_s in history:
        now += gap
        breaker = after(breaker, event, now, trip_s=trip_s)
    assert breaker.admits(now + max(RULES.longest_trip_s, RULES.probe_s))


@given(history=st.lists(st.tuples(st.sampled_from([Event.SUCCEEDED, Event.FAILED]), st.floats(0, 20)), max_size=80))
def test_there_is_never_a_second_probe_beside_the_first(history: list[tuple[Event, float]]) -> None:
    """Guards that starting is what takes the one place that a due breaker has."""
    breaker, now = Breaker(), 0.0
    for event, gap in history:
        now += gap
        if breaker.admits(now):
            begun = after(breaker, Event.STARTED, now)
            assert begun.phase is Phase.CLOSED or not begun.admits(now)
            breaker = begun
        breaker = after(breaker, event, now)
