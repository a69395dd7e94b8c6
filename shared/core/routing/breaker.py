"""The circuit breaker: keeps a deployment out of use while it fails, and lets it show that it is back.

Rule: a breaker is a value that changes as this table says, and at no other time. No timer runs in it: an open breaker that
is due stays open until a call starts.

    phase       started               succeeded   failed                       abandoned
    closed      -                     counted     counted; open if too many    -
    open        half-open where due   -           -                            -
    half-open   where the probe is    closed      open, for longer             open, due at once
                overdue: a new one

`-` changes nothing: it is the late end of a call from before. Instants are seconds of a monotonic clock.
https://learn.microsoft.com/azure/architecture/patterns/circuit-breaker; the words are those of
https://learn.microsoft.com/azure/api-management/backends#circuit-breaker.
"""

from enum import StrEnum

import msgspec


class Phase(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    """Calls pass."""
    OPEN = "open"
    """None does, until a time."""
    HALF_OPEN = "half-open"
    """One, the probe, is under way and decides."""


class Event(StrEnum):
    """What a breaker is told of a call."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    """The deployment answered, be it that the request was wrong."""
    FAILED = "failed"
    """It could not be reached, broke off, or answered that it failed."""
    ABANDONED = "abandoned"
    """The call ended before anything could be said: its client has gone, say."""


class BreakerRules(msgspec.Struct, frozen=True, kw_only=True):
    """When a breaker trips, and for how long."""

    failures: int = 5
    """So many failures within the window trip it ..."""
    failure_ratio: float = 0.5
    """... where they are at least this part of the window's calls: a busy deployment has a few at any time."""
    window_s: float = 30.0
    trip_s: float = 5.0
    """How long it is open the first time. Twice as long each time after that ..."""
    longest_trip_s: float = 60.0
    """... up to this."""
    calm_s: float = 300.0
    """Closed for so long, it starts over with `trip_s`."""
    probe_s: float = 60.0
    """A probe not heard of for so long no longer keeps others out."""


RULES = BreakerRules()


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Calls and failures in two halves of a window that rolls on by a half."""

    started_at: float = 0.0
    """When the later half began."""
    calls: int = 0
    failures: int = 0
    earlier_calls: int = 0
    earlier_failures: int = 0

    def after(self, now: float, half_s: float, *, failed: bool) -> "Tally":
        """The tally with one more call."""
        age = now - self.started_at
        if age < half_s:
            base = self
        elif age < 2 * half_s:
            base = Tally(started_at=self.started_at + half_s, earlier_calls=self.calls, earlier_failures=self.failures)
        else:
            base = Tally(started_at=now)
        return msgspec.structs.replace(base, calls=base.calls + 1, failures=base.failures + failed)

    def is_too_much(self, rules: BreakerRules) -> bool:
        """Whether it fulfils the condition for tripping."""
        calls, failures = self.calls + self.earlier_calls, self.failures + self.earlier_failures
        return failures >= max(rules.failures, rules.failure_ratio * calls)


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """A breaker at one moment. The default is one that has seen nothing."""

    phase: Phase = Phase.CLOSED
    until: float = 0.0
    """Open: when a probe is due. Half-open: when the probe is overdue."""
    trips: int = 0
    """In a row, with no calm between."""
    closed_at: float = 0.0
    tally: Tally = Tally()

    def admits(self, now: float) -> bool:
        """Whether a call may start."""
        return self.phase is Phase.CLOSED or now >= self.until


def after(
    breaker: Breaker, event: Event, now: float, *, trip_s: float | None = None, rules: BreakerRules = RULES
) -> Breaker:
    """The breaker once `event` has happened. `trip_s`, from a Retry-After, is how long to be open should it trip."""
    match breaker.phase, event:
        case Phase.CLOSED, (Event.SUCCEEDED | Event.FAILED):
            tally = breaker.tally.after(now, rules.window_s / 2, failed=event is Event.FAILED)
            counted = msgspec.structs.replace(breaker, tally=tally)
            is_too_much = event is Event.FAILED and tally.is_too_much(rules)
            return _tripped(counted, now, trip_s, rules) if is_too_much else counted
        case ((Phase.OPEN | Phase.HALF_OPEN), Event.STARTED) if now >= breaker.until:
            return msgspec.structs.replace(breaker, phase=Phase.HALF_OPEN, until=now + rules.probe_s)
        case Phase.HALF_OPEN, Event.SUCCEEDED:
            return Breaker(trips=breaker.trips, closed_at=now)
        case Phase.HALF_OPEN, Event.FAILED:
            return _tripped(breaker, now, trip_s, rules)
        case Phase.HALF_OPEN, Event.ABANDONED:
            return msgspec.structs.replace(breaker, phase=Phase.OPEN, until=now)
        case _:
            return breaker


def _tripped(breaker: Breaker, now: float, trip_s: float | None, rules: BreakerRules) -> Breaker:
    is_calm = breaker.phase is Phase.CLOSED and now - breaker.closed_at >= rules.calm_s
    trips = 1 if is_calm else breaker.trips + 1
    if trip_s is None:
        trip_s = rules.trip_s * 2.0 ** min(trips - 1, 32)  # far above any limit, far below a float's
    return Breaker(phase=Phase.OPEN, until=now + min(trip_s, rules.longest_trip_s), trips=trips)
