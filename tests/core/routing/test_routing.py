"""Routing: which deployment is asked, in what order, and what an attempt teaches."""

from collections import Counter
from datetime import UTC, datetime
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.configuration import Deployment, Model, Pool, Strategy, Target, Upstream, UpstreamKind
from shared.core.headers import Headers
from shared.core.routing.breaker import Breaker, Phase
from shared.core.routing.selection import (
    UNMET,
    Health,
    Wait,
    after_attempt,
    candidates,
    ended,
    least_wait,
    name_of,
    started,
)
from shared.core.routing.upstream_limits import Allowance, Allowances
from shared.core.routing.verdicts import Verdict, judge_answer, judge_error

NOW = datetime(2025, 11, 21, 10, 0, 0, tzinfo=UTC)
UPSTREAM = Upstream(name="east", kind=UpstreamKind.OPENAI, url="http://127.0.0.1/v1", key="k")

FINE = UNMET
COOLING = Health(cool_until=110)
LIMITED = Health(cool_until=107, is_rate_limited=True)
TRIPPED = Health(breaker=Breaker(phase=Phase.OPEN, until=105, trips=1))
DUE = Health(breaker=Breaker(phase=Phase.OPEN, until=99, trips=1))
PROBED = Health(breaker=Breaker(phase=Phase.HALF_OPEN, until=150, trips=1))
SPENT = Health(allowances=Allowances(tokens=Allowance(remaining=0, resets_at=110)))
RESET = Health(allowances=Allowances(tokens=Allowance(remaining=0, resets_at=99)))


def pool(strategy: Strategy = Strategy.WEIGHTED, /, **deployments: tuple[int, int]) -> Pool:
    """A pool of deployments, each with its priority and weight."""
    targets = tuple(
        Target(Deployment(name=name, model="m", upstream="east", priority=priority, weight=weight), UPSTREAM)
        for name, (priority, weight) in deployments.items()
    )
    return Pool(Model(name="m", strategy=strategy), targets)


TWO_AND_TWO = {"a": (0, 1), "b": (0, 1), "c": (1, 1), "d": (1, 1)}

CHOICES: dict[str, tuple[dict[str, Health], set[str]]] = {  # at 100 s: what is known -> the orders that may come
    "all fine": ({}, {"abcd", "bacd", "abdc", "badc"}),
    "one cools down": ({"a": COOLING}, {"bcd", "bdc"}),
    "one is rate limited": ({"b": LIMITED}, {"acd", "adc"}),
    "one has tripped": ({"a": TRIPPED, "c": FINE}, {"bcd", "bdc"}),
    "one is due for a probe": ({"a": DUE, "b": TRIPPED, "d": COOLING}, {"ac"}),
    "one is being probed": ({"a": PROBED, "d": COOLING}, {"bc"}),
    "due, but cooling down": ({"a": msgspec.structs.replace(DUE, cool_until=110), "d": COOLING}, {"bc"}),
    "a limit used up: behind its equals, before the others": ({"a": SPENT, "d": COOLING}, {"bac"}),
    "all limits used up": ({"a": SPENT, "b": SPENT, "d": COOLING}, {"abc", "bac"}),
    "a limit that is reset again": ({"a": RESET, "b": SPENT, "d": COOLING}, {"abc"}),
    "the first priority is out": ({"a": TRIPPED, "b": LIMITED}, {"cd", "dc"}),
    "all are out": ({"a": TRIPPED, "b": LIMITED, "c": COOLING, "d": PROBED}, {""}),
}


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize(("health", "orders"), CHOICES.values(), ids=CHOICES.keys())
def test_priority_goes_before_strategy_and_who_is_out_is_left_out(
    health: dict[str, Health], orders: set[str], strategy: Strategy
) -> None:
    random = Random(1)
    seen = {names(candidates(pool(strategy, **TWO_AND_TWO), health, 100.0, random.random)) for _ in range(100)}
    assert seen == orders


def names(targets: tuple[Target, ...]) -> str:
    return "".join(map(name_of, targets))


def test_what_was_tried_is_not_tried_again() -> None:
    assert names(candidates(pool(**TWO_AND_TWO), {}, 100.0, Random(1).random, tried=["a", "b", "d"])) == "c"
    assert candidates(pool(**TWO_AND_TWO), {}, 100.0, Random(1).random, tried=TWO_AND_TWO) == ()


WEIGHTS = {"even": (1, 1, 1), "uneven": (1, 2, 5), "one in a thousand": (1, 999, 1000), "great": (10**9, 10**9, 1)}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS.keys())
def test_each_deployment_gets_its_share_of_the_calls(weights: tuple[int, int, int]) -> None:
    random, draws = Random(7), 20_000
    of_three = pool(a=(0, weights[0]), b=(0, weights[1]), c=(0, weights[2]))
    orders = Counter(names(candidates(of_three, {}, 0.0, random.random)) for _ in range(draws))
    for index, name in enumerate("abc"):
        share = sum(count for order, count in orders.items() if order[0] == name) / draws
        assert share == pytest.approx(weights[index] / sum(weights), abs=0.015)
    after_a = {order[1]: count for order, count in orders.items() if order[0] == "a"}
    if sum(after_a.values()) > 1000:  # enough to tell: the second place is drawn from the rest in the same way
        assert after_a.get("b", 0) / sum(after_a.values()) == pytest.approx(weights[1] / sum(weights[1:]), abs=0.03)


@given(
    weights=st.lists(st.integers(1, 10**12), min_size=1, max_size=6), draws=st.lists(st.floats(0, 1, exclude_max=True))
)
def test_every_draw_is_an_order_of_all_deployments(weights: list[int], draws: list[float]) -> None:
    numbers = iter(draws)
    many = pool(**{f"d{index}": (0, weight) for index, weight in enumerate(weights)})
    chosen = candidates(many, {}, 0.0, lambda: next(numbers, 0.5))
    assert sorted(map(name_of, chosen)) == sorted(map(name_of, many.targets))


def test_the_one_with_the_fewest_calls_under_way_comes_first() -> None:
    health = {"a": Health(outstanding=3), "b": Health(outstanding=1), "c": Health(outstanding=2)}
    three = pool(Strategy.LEAST_OUTSTANDING, a=(0, 1), b=(0, 1), c=(0, 1))
    assert names(candidates(three, health, 0.0, Random(1).random)) == "bca"


def test_among_equals_calls_are_spread() -> None:
    random, three = Random(1), pool(Strategy.LEAST_OUTSTANDING, a=(0, 1), b=(0, 1), c=(0, 1))
    firsts = Counter(names(candidates(three, {}, 0.0, random.random))[0] for _ in range(3000))
    assert min(firsts.values()) > 900


def fast(first_byte_ms: float, at: float = 100.0, outstanding: int = 0) -> Health:
    return Health(first_byte_ms=first_byte_ms, measured_at=at, outstanding=outstanding)


def shares(health: dict[str, Health], draws: int = 3000) -> dict[str, float]:
    random = Random(3)
    of_all = pool(Strategy.FASTEST, **dict.fromkeys(health, (0, 1)))
    firsts = Counter(names(candidates(of_all, health, 100.0, random.random))[0] for _ in range(draws))
    return {name: round(firsts[name] / draws, 2) for name in health}


FASTEST: dict[str, tuple[dict[str, Health], dict[str, float]]] = {
    "of two the faster": ({"a": fast(300), "b": fast(100)}, {"a": 0, "b": 1}),
    "of three the fastest in two of three": (
        {"a": fast(300), "b": fast(100), "c": fast(200)},
        {"a": 0, "b": 2 / 3, "c": 1 / 3},
    ),
    "who was never measured is asked": ({"a": fast(100), "b": UNMET}, {"a": 0, "b": 1}),
    "as fast, but less busy": ({"a": fast(100, outstanding=2), "b": fast(100, outstanding=1)}, {"a": 0, "b": 1}),
    "who was slow long ago is asked again": ({"a": fast(100), "b": fast(1000, at=0.0)}, {"a": 0, "b": 1}),
    "who was slow just now is not": ({"a": fast(100), "b": fast(1000, at=90.0)}, {"a": 1, "b": 0}),
}


@pytest.mark.parametrize(("health", "expected"), FASTEST.values(), ids=FASTEST.keys())
def test_the_better_of_two_at_random_comes_first(health: dict[str, Health], expected: dict[str, float]) -> None:
    assert shares(health) == pytest.approx(expected, abs=0.04)


def test_a_slow_deployment_does_not_get_the_first_place_by_its_priority_groups_mixing() -> None:
    """Guards that the two that are compared are of one priority."""
    health = {"a": fast(300), "b": fast(100), "c": fast(1), "d": fast(2)}
    random, mixed = Random(1), pool(Strategy.FASTEST, **TWO_AND_TWO)
    assert {names(candidates(mixed, health, 100.0, random.random)) for _ in range(200)} == {"bacd"}


ANSWER = judge_answer(200, (), NOW)
REFUSAL = judge_answer(400, (), NOW)
FAILURE = judge_answer(500, (), NOW)
LIMIT = judge_answer(429, (("retry-after", "7"),), NOW)
MISSING = judge_answer(404, (), NOW, b'{"error":{"code":"DeploymentNotFound"}}')


def known_after(*verdicts: Verdict, headers: Headers = (), first_byte_ms: float | None = None) -> Health:
    health = UNMET
    for verdict in verdicts:
        health = after_attempt(health, verdict, 100.0, headers=headers, first_byte_ms=first_byte_ms)
    return health


AVAILABLE = {  # verdicts -> out until
    "answers": ((ANSWER,) * 9, None),
    "refusals are answers": ((REFUSAL,) * 99, None),
    "a failure": ((FAILURE,), None),
    "five failures": ((FAILURE,) * 5, 105.0),
    "five that could not be reached": ((judge_error(sent=False, retry_unknown=False),) * 5, 105.0),
    "five that broke off": ((judge_error(sent=True, retry_unknown=False),) * 5, 105.0),
    "five failures among many answers": ((ANSWER,) * 20 + (FAILURE,) * 5, None),
    "one limit": ((LIMIT,), 107.0),
    "limits do not trip the breaker": ((LIMIT,) * 9, 107.0),
    "the longer cool-down stays": ((LIMIT, judge_answer(429, (("retry-after", "2"),), NOW)), 107.0),
    "an answer does not end a cool-down": ((LIMIT, ANSWER), 107.0),
    "a missing deployment": ((MISSING,), 110.0),
    "a failure that says for how long": ((judge_answer(503, (("retry-after", "30"),), NOW),), 130.0),
    "five of those": ((judge_answer(503, (("retry-after", "2"),), NOW),) * 5, 102.0),
}


@pytest.mark.parametrize(("verdicts", "until"), AVAILABLE.values(), ids=AVAILABLE.keys())
def test_what_attempts_came_to_decides_how_long_a_deployment_is_out(
    verdicts: tuple[Verdict, ...], until: float | None
) -> None:
    health = known_after(*verdicts)
    assert health.is_available(100.0) is (until is None)
    if until is not None:
        assert not health.is_available(until - 0.01)
        assert health.is_available(until)


def test_latency_is_an_average_that_forgets() -> None:
    health = after_attempt(UNMET, ANSWER, 0.0, first_byte_ms=100)
    assert health.first_byte_ms == 100
    for now in (0.0, 0.0, 0.0):  # a burst is no more than one measurement
        health = after_attempt(health, ANSWER, now, first_byte_ms=900)
    assert health.first_byte_ms == pytest.approx(100)
    health = after_attempt(health, ANSWER, 30.0, first_byte_ms=900)
    assert health.first_byte_ms == pytest.approx(900 - 800 / 2.718, abs=1)
    health = after_attempt(health, ANSWER, 1000.0, first_byte_ms=50)
    assert health.first_byte_ms == pytest.approx(50)


def test_errors_do_not_make_a_deployment_look_fast() -> None:
    for verdict in (REFUSAL, FAILURE, LIMIT, MISSING):
        assert known_after(verdict, first_byte_ms=1).first_byte_ms is None


def test_what_headers_say_of_limits_is_remembered() -> None:
    headers = (("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "6s"))
    assert known_after(ANSWER, headers=headers).allowances.is_exhausted(105.9)
    assert known_after(LIMIT, headers=headers).allowances.is_exhausted(105.9)


def test_attempts_under_way_are_counted() -> None:
    health = started(started(UNMET, 0.0), 0.0)
    assert health.outstanding == 2
    health = ended(health, 1.0, judged=True)
    assert health.outstanding == 1
    assert ended(ended(health, 1.0, judged=True), 1.0, judged=False).outstanding == 0


def test_starting_an_attempt_takes_the_place_of_the_probe() -> None:
    probing = started(DUE, 100.0)
    assert not probing.is_available(100.0)
    assert ended(probing, 101.0, judged=False).is_available(101.0)
    assert after_attempt(probing, ANSWER, 101.0).is_available(101.0)
    assert after_attempt(probing, REFUSAL, 101.0).is_available(101.0)
    assert not after_attempt(probing, FAILURE, 101.0).is_available(101.0)


def test_a_probe_that_meets_a_limit_has_reached_the_deployment() -> None:
    health = after_attempt(started(DUE, 100.0), LIMIT, 101.0)
    assert health.breaker.phase is Phase.CLOSED
    assert not health.is_available(107.9)
    assert health.is_available(108.0)


WAITS = {  # at 100 s
    "the least": ({"a": COOLING, "b": TRIPPED}, Wait(seconds=5, is_rate_limited=False)),
    "a limit": ({"a": LIMITED, "b": COOLING}, Wait(seconds=7, is_rate_limited=True)),
    "a failure before a limit": ({"a": LIMITED, "b": TRIPPED}, Wait(seconds=5, is_rate_limited=False)),
    "the longer of two reasons": (
        {"a": Health(cool_until=107, is_rate_limited=True, breaker=TRIPPED.breaker), "b": COOLING},
        Wait(seconds=7, is_rate_limited=True),
    ),
    "a limit that ends before the breaker does": (
        {"a": Health(cool_until=103, is_rate_limited=True, breaker=TRIPPED.breaker), "b": COOLING},
        Wait(seconds=5, is_rate_limited=False),
    ),
    "a probe is soon back": ({"a": PROBED, "b": COOLING}, Wait(seconds=1, is_rate_limited=False)),
    "one is to be had": ({"a": COOLING}, Wait(seconds=1, is_rate_limited=False)),
    "a limit of old": (
        {"a": Health(cool_until=50, is_rate_limited=True), "b": COOLING},
        Wait(seconds=1, is_rate_limited=False),
    ),
}


@pytest.mark.parametrize(("health", "expected"), WAITS.values(), ids=WAITS.keys())
def test_the_wait_is_that_for_the_first_to_be_back(health: dict[str, Health], expected: Wait) -> None:
    assert least_wait(pool(a=(0, 1), b=(0, 1)), health, 100.0) == expected


def test_upstreams_that_are_asked_as_such_are_told_apart() -> None:
    upstreams = (UPSTREAM, msgspec.structs.replace(UPSTREAM, name="west"))
    homes = [Target(Deployment(name="", model="", upstream=each.name), each) for each in upstreams]
    assert len(set(map(name_of, homes))) == 2


VERDICTS = st.sampled_from([ANSWER, REFUSAL, FAILURE, LIMIT, MISSING, judge_error(sent=True, retry_unknown=True)])
STEPS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["start", "end", "abandon"]) | VERDICTS, st.floats(0, 30)),
    max_size=60,
)


def lived(steps: list[tuple[str, str | Verdict, float]]) -> tuple[dict[str, Health], float]:
    """What is known of four deployments after any course of events, possible or not."""
    health: dict[str, Health] = {}
    now = 0.0
    for name, step, gap in steps:
        now += gap
        before = health.get(name, UNMET)
        if isinstance(step, Verdict):
            health[name] = after_attempt(before, step, now, first_byte_ms=gap)
        else:
            health[name] = started(before, now) if step == "start" else ended(before, now, judged=step == "end")
    return health, now


@given(steps=STEPS, strategy=st.sampled_from(Strategy), seed=st.integers(0, 1000))
def test_the_first_choice_is_available_and_of_the_best_priority_that_is(
    steps: list[tuple[str, str | Verdict, float]], strategy: Strategy, seed: int
) -> None:
    health, now = lived(steps)
    of_four = pool(strategy, **TWO_AND_TWO)
    available = {name for name in "abcd" if health.get(name, UNMET).is_available(now)}
    chosen = candidates(of_four, health, now, Random(seed).random)
    assert {name_of(target) for target in chosen} == available
    if available:
        assert chosen[0].deployment.priority == min(TWO_AND_TWO[name][0] for name in available)
        assert least_wait(of_four, health, now).seconds == 1
    else:
        assert 1 <= least_wait(of_four, health, now).seconds <= 60


@given(steps=STEPS)
def test_nothing_that_happens_locks_a_pool_for_ever(steps: list[tuple[str, str | Verdict, float]]) -> None:
    health, now = lived(steps)
    assert len(candidates(pool(**TWO_AND_TWO), health, now + 60, Random(1).random)) == 4


@given(steps=STEPS)
def test_what_the_wait_promises_is_kept_where_no_probe_is_under_way(
    steps: list[tuple[str, str | Verdict, float]],
) -> None:
    health, now = lived(steps)
    if all(each.breaker.phase is not Phase.HALF_OPEN for each in health.values()):
        later = now + least_wait(pool(**TWO_AND_TWO), health, now).seconds + 1e-9
        assert candidates(pool(**TWO_AND_TWO), health, later, Random(1).random)
