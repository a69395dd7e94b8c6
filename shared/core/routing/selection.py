"""Which deployment serves a call, by what is known of each.

Rule: decisions over values. Clock and randomness are handed in, and what was learned comes back as a new Health. Instants are
seconds of a monotonic clock.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from itertools import groupby
from math import exp, log

import msgspec

from shared.core.configuration import Pool, Strategy, Target
from shared.core.headers import Headers
from shared.core.routing.breaker import RULES, Breaker, BreakerRules, Event, Phase, after
from shared.core.routing.upstream_limits import Allowances
from shared.core.routing.verdicts import Reason, Verdict

type Random = Callable[[], float]
"""A number from 0 up to, but not, 1."""

_FADES_S = 30.0
"""The time constant of the latency average."""
_SHORTEST_WAIT_S = 1.0

_LIMITED = frozenset({Reason.RATE_LIMITED, Reason.QUOTA_SPENT})


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What a process knows of one deployment. The default is one that it has not met."""

    breaker: Breaker = Breaker()
    cool_until: float = 0.0
    is_rate_limited: bool = False
    """Whether it is a limit that it cools down from."""
    outstanding: int = 0
    """Attempts under way."""
    first_byte_ms: float | None = None
    """A decaying average."""
    measured_at: float = 0.0
    allowances: Allowances = Allowances()

    def is_available(self, now: float) -> bool:
        """Whether a call may be sent to it."""
        return now >= self.cool_until and self.breaker.admits(now)

    def latency_ms(self, now: float) -> float:
        """What to expect: the average, less the longer nothing was measured, so that a slow deployment is asked again."""
        return 0.0 if self.first_byte_ms is None else self.first_byte_ms * exp((self.measured_at - now) / _FADES_S)


UNMET = Health()


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """How long a pool is out."""

    seconds: float
    """At least 1: a client that comes back at once finds the same."""
    is_rate_limited: bool
    """What is waited for is a limit (429), not a failure (503)."""


def name_of(target: Target) -> str:
    """What a target's health is known by. An upstream that is asked as such, for no model, has one of its own."""
    return target.deployment.name or f"upstream {target.upstream.name}"


def candidates(
    pool: Pool, health: Mapping[str, Health], now: float, random: Random, tried: Container[str] = ()
) -> tuple[Target, ...]:
    """The targets that may be asked, best first; without those whose name is in `tried`. Empty: all are out.

    By priority; within one, those that are known to have used up a limit come last; among equals the model's strategy
    decides. `health` is by name_of.
    """

    def rank(target: Target) -> tuple[int, bool]:
        return target.deployment.priority, _of(health, target).allowances.is_exhausted(now)

    available = [
        target
        for target in pool.targets
        if (name := name_of(target)) not in tried and health.get(name, UNMET).is_available(now)
    ]
    if len(available) < 2:
        return tuple(available)
    order = _ORDERS[pool.model.strategy]
    groups = groupby(sorted(available, key=rank), rank)
    return tuple(target for _, group in groups for target in order(tuple(group), health, now, random))


def least_wait(pool: Pool, health: Mapping[str, Health], now: float) -> Wait:
    """How long until the first deployment of a pool may be asked. Raises ValueError where the pool is empty."""
    return min((_wait(_of(health, target), now) for target in pool.targets), key=lambda wait: wait.seconds)


def started(health: Health, now: float, rules: BreakerRules = RULES) -> Health:
    """The health once an attempt has begun."""
    return msgspec.structs.replace(
        health, outstanding=health.outstanding + 1, breaker=after(health.breaker, Event.STARTED, now, rules=rules)
    )


def after_attempt(
    health: Health,
    verdict: Verdict,
    now: float,
    *,
    headers: Headers = (),
    first_byte_ms: float | None = None,
    rules: BreakerRules = RULES,
) -> Health:
    """The health once an attempt is judged. Only an answer's latency counts: errors come fast."""
    event = Event.FAILED if verdict.counts_as_failure else Event.SUCCEEDED
    learned = msgspec.structs.replace(
        health,
        breaker=after(health.breaker, event, now, trip_s=verdict.cool_down_s, rules=rules),
        allowances=health.allowances.after(headers, now),
    )
    if verdict.reason is Reason.ANSWERED and first_byte_ms is not None:
        return _measured(learned, first_byte_ms, now)
    if verdict.cool_down_s is not None and (until := now + verdict.cool_down_s) > health.cool_until:
        return msgspec.structs.replace(learned, cool_until=until, is_rate_limited=verdict.reason in _LIMITED)
    return learned


def ended(health: Health, now: float, *, judged: bool, rules: BreakerRules = RULES) -> Health:
    """The health once an attempt is over. `judged`: there was a verdict on it."""
    breaker = health.breaker if judged else after(health.breaker, Event.ABANDONED, now, rules=rules)
    return msgspec.structs.replace(health, outstanding=max(0, health.outstanding - 1), breaker=breaker)


def _of(health: Mapping[str, Health], target: Target) -> Health:
    return health.get(name_of(target), UNMET)


def _measured(health: Health, first_byte_ms: float, now: float) -> Health:
    """An average over time, not over calls: a burst counts as one."""
    average = health.first_byte_ms
    if average is not None:
        share = exp((health.measured_at - now) / _FADES_S)
        first_byte_ms = average * share + first_byte_ms * (1 - share)
    return msgspec.structs.replace(health, first_byte_ms=first_byte_ms, measured_at=now)


def _wait(health: Health, now: float) -> Wait:
    breaker_s = 0.0 if health.breaker.admits(now) else health.breaker.until - now
    if health.breaker.phase is Phase.HALF_OPEN:
        breaker_s = min(breaker_s, _SHORTEST_WAIT_S)  # the probe's answer, not its deadline, is what is waited for
    cooling_s = health.cool_until - now
    return Wait(
        seconds=max(_SHORTEST_WAIT_S, cooling_s, breaker_s),
        is_rate_limited=health.is_rate_limited and cooling_s > max(0.0, breaker_s),
    )


def _weighted(targets: Sequence[Target], _health: Mapping[str, Health], _now: float, random: Random) -> list[Target]:
    """A race in which each arrives after a time of its own, shorter on average the more it weighs: the first comes first in
    proportion to the weights, and so does the second among the rest (https://doi.org/10.1016/j.ipl.2005.11.003)."""
    return sorted(targets, key=lambda target: -log(1.0 - random()) / target.deployment.weight)


def _least_outstanding(
    targets: Sequence[Target], health: Mapping[str, Health], _now: float, random: Random
) -> list[Target]:
    return sorted(targets, key=lambda target: (_of(health, target).outstanding, random()))


def _fastest(targets: Sequence[Target], health: Mapping[str, Health], now: float, random: Random) -> list[Target]:
    """Two at random and not all: the fastest is not overrun by everybody at once
    (https://www.eecs.harvard.edu/~michaelm/postscripts/mythesis.pdf)."""

    def cost(target: Target) -> tuple[float, int]:
        known = _of(health, target)
        return known.latency_ms(now), known.outstanding

    shuffled = sorted(targets, key=lambda _: random())
    return sorted(shuffled[:2], key=cost) + shuffled[2:]


_ORDERS: Mapping[Strategy, Callable[[Sequence[Target], Mapping[str, Health], float, Random], list[Target]]] = {
    Strategy.WEIGHTED: _weighted,
    Strategy.LEAST_OUTSTANDING: _least_outstanding,
    Strategy.FASTEST: _fastest,
}
