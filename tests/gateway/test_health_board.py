"""The health board: what one call learns, the next one knows."""

import asyncio
from datetime import UTC, datetime

from shared.core.configuration import Deployment, Model, Pool, Target, Upstream, UpstreamKind
from shared.core.routing.breaker import BreakerRules, Phase
from shared.core.routing.verdicts import judge_answer
from shared.gateway.health_board import HealthBoard, HealthView

NOW = datetime(2025, 11, 21, 10, 0, 0, tzinfo=UTC)
UPSTREAM = Upstream(name="east", kind=UpstreamKind.OPENAI, url="http://127.0.0.1/v1", key="k")
ANSWER, FAILURE = judge_answer(200, (), NOW), judge_answer(500, (), NOW)
LIMIT = judge_answer(429, (("retry-after", "7"),), NOW)
POOL = Pool(
    Model(name="m"),
    tuple(
        Target(Deployment(name=name, model="m", upstream="east", priority=priority), UPSTREAM)
        for priority, name in enumerate("ab")
    ),
)


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def board(clock: Clock) -> HealthBoard:
    return HealthBoard(now=clock, random=lambda: 0.5, rules=BreakerRules(failures=1, failure_ratio=0.1))


def chosen(health: HealthBoard, *tried: str) -> str | None:
    """Whose turn it is; the attempt ends at once, with an answer."""
    lease = health.begin(POOL, tried)
    if lease is None:
        return None
    lease.judged(ANSWER)
    lease.end()
    return lease.name


def test_a_call_that_fails_over_takes_each_deployment_once_and_then_none() -> None:
    health = board(Clock())
    assert [chosen(health), chosen(health, "a"), chosen(health, "a", "b")] == ["a", "b", None]


def test_the_next_call_knows_of_a_limit_and_of_its_end() -> None:
    clock = Clock()
    health = board(clock)
    lease = health.begin(POOL)
    assert lease
    lease.judged(LIMIT, headers=(("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "9s")))
    lease.end()
    assert chosen(health) == "b"
    assert health.least_wait(POOL).seconds == 1
    clock.now = 7.0
    assert chosen(health) == "a"


def test_what_is_known_can_be_looked_at_and_not_changed() -> None:
    clock = Clock()
    health = board(clock)
    lease = health.begin(POOL)
    assert lease
    before = health.snapshot()
    lease.judged(ANSWER, first_byte_ms=12)
    lease.end()
    assert (before["a"].outstanding, before["a"].first_byte_ms) == (1, None)
    assert (health.snapshot()["a"].outstanding, health.snapshot()["a"].first_byte_ms) == (0, 12)
    assert "b" not in health.snapshot()


def test_people_are_told_how_a_deployment_is_and_for_how_long_it_rests() -> None:
    clock = Clock()
    health = board(clock)
    assert health.view("a") is None
    trip(health)
    assert health.view("a") == HealthView(
        breaker=Phase.OPEN, outstanding=0, first_byte_ms=None, rests_s=5.0, is_rate_limited=False
    )
    clock.now = 5.0
    lease = health.begin(POOL)
    assert lease
    probed = health.view("a")
    assert probed
    assert (probed.breaker, probed.outstanding) == (Phase.HALF_OPEN, 1)
    lease.judged(LIMIT)
    lease.end()
    limited = health.view("a")
    assert limited
    assert (limited.rests_s, limited.is_rate_limited) == (7.0, True)


def test_an_attempt_ends_once() -> None:
    health = board(Clock())
    first, second = health.begin(POOL), health.begin(POOL)
    assert first
    assert second
    for _ in range(3):
        first.end()
    assert health.snapshot()["a"].outstanding == 1


def test_an_answer_that_breaks_off_later_counts_as_a_failure_too() -> None:
    health = board(Clock())
    lease = health.begin(POOL)
    assert lease
    lease.judged(ANSWER)
    lease.judged(FAILURE)
    lease.end()
    assert chosen(health) == "b"


def trip(health: HealthBoard) -> None:
    lease = health.begin(POOL)
    assert lease
    assert lease.name == "a"
    lease.judged(FAILURE)
    lease.end()


def test_of_many_calls_at_once_one_is_the_probe() -> None:
    clock = Clock()
    health = board(clock)
    trip(health)
    clock.now = 5.0

    async def call() -> str | None:
        await asyncio.sleep(0)
        lease = health.begin(POOL)
        await asyncio.sleep(0)
        return lease.name if lease else None

    async def calls() -> list[str | None]:
        return await asyncio.gather(*(call() for _ in range(50)))

    assert sorted(filter(None, asyncio.run(calls()))) == ["a"] + ["b"] * 49


def test_a_probe_whose_client_hangs_up_leaves_the_place_to_the_next() -> None:
    clock = Clock()
    health = board(clock)
    trip(health)
    clock.now = 5.0
    probe = health.begin(POOL)
    assert probe
    assert probe.name == "a"
    assert chosen(health) == "b"
    probe.end()
    assert chosen(health) == "a"
    assert health.snapshot()["a"].breaker.phase is Phase.CLOSED


def test_a_stream_from_before_the_trip_that_ends_makes_no_room_for_a_second_probe() -> None:
    clock = Clock()
    health = board(clock)
    stream = health.begin(POOL)
    assert stream
    stream.judged(ANSWER)
    trip(health)
    clock.now = 5.0
    assert health.begin(POOL, ["b"])
    stream.end()
    assert health.begin(POOL, ["b"]) is None


def test_when_all_are_out_the_wait_is_known() -> None:
    health = board(Clock())
    trip(health)
    lease = health.begin(POOL)
    assert lease
    lease.judged(LIMIT)
    lease.end()
    assert health.begin(POOL) is None
    wait = health.least_wait(POOL)
    assert (wait.seconds, wait.is_rate_limited) == (5, False)
