"""What this process knows of its deployments: the only routing state there is, shared by all calls.

Rule: one event loop, and nothing is awaited between reading and writing, so no lock is needed and no two calls are the one
probe. What is decided, and what is learned, is decided in core/routing.
"""

from collections.abc import Callable, Container, Mapping

import msgspec

from shared.core.configuration import Pool, Target
from shared.core.headers import Headers
from shared.core.routing.breaker import RULES, BreakerRules, Phase
from shared.core.routing.selection import (
    UNMET,
    Health,
    Random,
    Wait,
    after_attempt,
    candidates,
    ended,
    least_wait,
    name_of,
    started,
)
from shared.core.routing.verdicts import Verdict


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """How a deployment is, in words for people."""

    breaker: Phase
    outstanding: int
    """Attempts under way."""
    first_byte_ms: int | None
    """A decaying average."""
    rests_s: float
    """For how long it is passed over from now; 0: it is in use."""
    is_rate_limited: bool
    """It is a limit that it rests for, not a failure."""


class HealthBoard:
    """Health by name_of a target. One per process. `now` is a monotonic clock in seconds."""

    def __init__(self, *, now: Callable[[], float], random: Random, rules: BreakerRules = RULES) -> None:
        self.rules = rules
        self._now = now
        self._random = random
        self._health: dict[str, Health] = {}

    def begin(self, pool: Pool, tried: Container[str] = ()) -> "Lease | None":
        """Starts an attempt at the best target of `pool` whose name is not in `tried`; None: all others are out."""
        best = candidates(pool, self._health, self._now(), self._random, tried)
        if not best:
            return None
        lease = Lease(self, best[0])
        self.change(lease.name, lambda health, now: started(health, now, self.rules))
        return lease

    def least_wait(self, pool: Pool) -> Wait:
        """How long until a deployment of `pool` may be asked."""
        return least_wait(pool, self._health, self._now())

    def change(self, name: str, decide: Callable[[Health, float], Health]) -> None:
        """Puts what `decide` makes of a health, at this instant, in its place."""
        self._health[name] = decide(self._health.get(name, UNMET), self._now())

    def is_available(self, name: str) -> bool:
        """Whether a call may be sent to the target of that name now."""
        return self._health.get(name, UNMET).is_available(self._now())

    def view(self, name: str) -> HealthView | None:
        """How a deployment is at this instant; None where this process has not asked it yet."""
        if name not in self._health:
            return None
        health, now = self._health[name], self._now()
        tripped_s = 0.0 if health.breaker.admits(now) else health.breaker.until - now
        cooling_s = max(0.0, health.cool_until - now)
        return HealthView(
            breaker=health.breaker.phase,
            outstanding=health.outstanding,
            first_byte_ms=None if health.first_byte_ms is None else round(health.first_byte_ms),
            rests_s=round(max(tripped_s, cooling_s), 1),
            is_rate_limited=health.is_rate_limited and cooling_s > tripped_s,
        )

    def snapshot(self) -> Mapping[str, Health]:
        """Every deployment that was ever asked, as it is now."""
        return dict(self._health)


class Lease:
    """One attempt's hold on a deployment: from its start until its last byte. `end` it, whatever happens."""

    __slots__ = ("_board", "_ended", "_judged", "name", "target")

    def __init__(self, board: HealthBoard, target: Target) -> None:
        self.target = target
        self.name = name_of(target)
        """What goes into `tried`."""
        self._board = board
        self._judged = False
        self._ended = False

    def judged(self, verdict: Verdict, *, headers: Headers = (), first_byte_ms: float | None = None) -> None:
        """Takes note of a verdict; of a second one, too, where an accepted answer breaks off later."""
        self._judged = True
        self._board.change(
            self.name,
            lambda health, now: after_attempt(
                health, verdict, now, headers=headers, first_byte_ms=first_byte_ms, rules=self._board.rules
            ),
        )

    def end(self) -> None:
        """The attempt is over. A second time changes nothing."""
        if not self._ended:
            self._ended = True
            self._board.change(
                self.name,
                lambda health, now: ended(health, now, judged=self._judged, rules=self._board.rules),
            )
