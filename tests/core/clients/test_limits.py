"""The arithmetic of slices: whatever instances do, in whatever order, they never take more than the limit."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.clients import limits as rules
from shared.core.clients.limits import CLOCK_SKEW, LEASE, Account, Holding, Kind, Lease, Verdict
from shared.core.configuration import Limits
from shared.core.errors import BudgetExhausted, RateLimited, TokenRateLimited

NOW = datetime(2026, 11, 21, 10, 12, 48, tzinfo=UTC)
TOKENS, MONTH = Kind.TOKENS_PER_MINUTE, Kind.TOKENS_PER_MONTH
FRESH = Holding(window=rules.window_of(MONTH, NOW))


def exchange(
    account: Account, holding: Holding, *, limit: int = 800, demand: int = 0, leave: bool = False, at: datetime = NOW
) -> tuple[Account, Holding]:
    """What one exchange of instance `a` with nobody in between comes to."""
    holding = rules.trimmed(rules.recovered(holding, account, "a"), leave=leave)
    renewal = rules.renew(account, limit, "a", holding, demand=demand, leave=leave, now=at)
    return renewal.account, renewal.applied(holding)


WINDOWS = {
    "a minute": (TOKENS, NOW, "minute-202611211012", datetime(2026, 11, 21, 10, 13, tzinfo=UTC)),
    "the last minute of a year": (
        TOKENS,
        datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        "minute-202612312359",
        datetime(2027, 1, 1, tzinfo=UTC),
    ),
    "a month": (MONTH, NOW, "month-202611", datetime(2026, 12, 1, tzinfo=UTC)),
    "a short month": (MONTH, datetime(2027, 2, 28, 12, tzinfo=UTC), "month-202702", datetime(2027, 3, 1, tzinfo=UTC)),
    "the last month": (MONTH, datetime(2026, 12, 1, tzinfo=UTC), "month-202612", datetime(2027, 1, 1, tzinfo=UTC)),
}


@pytest.mark.parametrize(("kind", "now", "key", "ends_at"), WINDOWS.values(), ids=WINDOWS)
def test_a_window_has_a_key_and_an_end(kind: Kind, now: datetime, key: str, ends_at: datetime) -> None:
    assert rules.window_of(kind, now) == rules.Window(key, ends_at)


def test_only_limits_that_are_set_are_allowances() -> None:
    assert rules.allowances(Limits()) == ()
    assert rules.allowances(Limits(requests_per_minute=3, money_per_month=Decimal("1.5"))) == (
        (Kind.REQUESTS_PER_MINUTE, 3),
        (Kind.MONEY_PER_MONTH, 1_500_000_000),
    )


def test_money_is_rounded_up_to_a_billionth() -> None:
    assert rules.nanos(Decimal("0.0000000001")) == 1
    assert rules.nanos(Decimal("2.50")) == 2_500_000_000


DURATIONS = {
    0: "0ms",
    0.0115: "12ms",
    0.999: "999ms",
    1: "1s",
    12.5: "12.5s",
    60: "1m0s",
    61.25: "1m1.25s",
    360: "6m0s",
}


@pytest.mark.parametrize(("seconds", "text"), DURATIONS.items())
def test_a_duration_is_written_as_openai_does(seconds: float, text: str) -> None:
    assert rules.duration(seconds) == text


def test_a_slice_is_a_part_of_what_is_left_and_at_least_what_calls_lack() -> None:
    account, holding = exchange(Account(), FRESH)
    assert (holding.unspent, holding.left, account.taken) == (100, 700, 100)
    account, holding = exchange(account, rules.reserve(holding, 100), demand=300)
    assert (holding.unspent, holding.left, account.taken) == (300, 400, 400)


def test_a_slice_is_smaller_the_more_instances_hold_one() -> None:
    others = tuple(Lease(name, 0, 50, int(NOW.timestamp())) for name in "bcd")
    account, holding = exchange(Account(leases=others), FRESH)
    assert holding.unspent == (800 - 150) // (8 * 4)
    assert account.taken == 150 + holding.unspent


def test_a_call_that_used_less_gives_the_rest_to_the_next() -> None:
    _, holding = exchange(Account(), FRESH, demand=100)
    holding = rules.settle(rules.reserve(holding, 100), reserved=100, used=30)
    assert (holding.unspent, holding.reserved, holding.spent) == (70, 0, 30)
    assert rules.judge(holding, 800, 70, NOW) is Verdict.COVERED


def test_a_debt_is_taken_from_what_others_can_have() -> None:
    account, holding = exchange(Account(), FRESH, demand=100)
    holding = rules.settle(rules.reserve(holding, 100), reserved=100, used=600)
    assert holding.unspent == -500
    assert rules.wants_exchange(holding)
    account, holding = exchange(account, holding, leave=True)
    assert (holding.unspent, holding.left, account.taken) == (0, 200, 600)


def test_a_debt_may_pass_the_limit_and_then_nothing_is_left() -> None:
    account, holding = exchange(Account(), FRESH, demand=100)
    account, holding = exchange(account, rules.settle(rules.reserve(holding, 100), 100, 5000), demand=1)
    assert (holding.unspent, holding.left, account.taken) == (0, 0, 5000)
    assert rules.judge(holding, 800, 1, NOW) is Verdict.REFUSED


def test_a_call_is_refused_without_asking_again_for_a_second() -> None:
    _, holding = exchange(Account(), FRESH, demand=800)
    holding = rules.reserve(holding, 790)
    assert rules.judge(holding, 800, 10, NOW) is Verdict.COVERED
    assert rules.judge(holding, 800, 11, NOW) is Verdict.REFUSED
    assert rules.judge(holding, 800, 11, NOW + rules.RECHECK) is Verdict.LEASE
    assert rules.judge(holding, 800, 0, NOW) is Verdict.COVERED


def test_what_is_far_too_much_is_given_back_before_others_are_told() -> None:
    account, holding = exchange(Account(), FRESH, demand=700)
    holding = rules.settle(rules.reserve(holding, 700), reserved=700, used=10)
    assert rules.wants_exchange(holding)
    assert rules.trimmed(holding).unspent == 100
    account, holding = exchange(account, holding)
    assert (account.taken, holding.left) == (110, 690)


def test_a_lease_that_ran_out_is_closed_by_others() -> None:
    account, _ = exchange(Account(), rules.settle(rules.reserve(exchange(Account(), FRESH)[1], 40), 40, 40))
    assert account.taken > 40
    b = rules.window_of(MONTH, NOW)
    early = rules.renew(account, 800, "b", Holding(window=b), demand=0, leave=True, now=NOW + LEASE)
    assert early.account.taken == account.taken
    late = rules.renew(
        account, 800, "b", Holding(window=b), demand=0, leave=True, now=NOW + LEASE + CLOCK_SKEW + timedelta(seconds=1)
    )
    assert late.account.taken == late.account.spent == 40


def test_a_holder_stops_before_others_take_its_slice() -> None:
    _, holding = exchange(Account(), FRESH)
    assert rules.judge(holding, 800, 1, NOW + LEASE - CLOCK_SKEW - timedelta(seconds=1)) is Verdict.COVERED
    assert rules.judge(holding, 800, 1, NOW + LEASE - CLOCK_SKEW) is Verdict.LEASE


def test_a_holder_whose_lease_was_closed_keeps_what_it_spent_and_loses_what_it_held() -> None:
    account, holding = exchange(Account(), FRESH)
    account, holding = exchange(account, rules.settle(rules.reserve(holding, 30), 30, 30))
    holding = rules.reserve(rules.settle(rules.reserve(holding, 20), 20, 20), 5)
    closed = Account(spent=30)
    account, holding = exchange(closed, holding, leave=True)
    assert (account.taken, holding.unspent) == (30 + 20 + 5, 0)


def test_the_ledger_raises_what_is_taken_and_is_not_counted_twice() -> None:
    lease = Lease("a", spent=100, held=50, renewed_at=0)
    assert Account(spent=20, leases=(lease,)).taken == 170
    assert Account(spent=20, leases=(lease,), proven=120).taken == 170
    assert Account(spent=20, leases=(lease,), proven=150).taken == 200


def test_a_new_window_forgets_a_slice_and_remembers_a_debt() -> None:
    holding = Holding(window=rules.window_of(TOKENS, NOW), unspent=70)
    later = NOW + timedelta(seconds=12)
    assert rules.rolled(holding, TOKENS, NOW) is holding
    assert rules.rolled(holding, TOKENS, later) == Holding(window=rules.window_of(TOKENS, later))
    owing = msgspec.structs.replace(holding, unspent=-70)
    assert rules.rolled(owing, TOKENS, later) == Holding(window=rules.window_of(TOKENS, later), spent=70, unspent=-70)


REFUSALS = {
    "requests": (Kind.REQUESTS_PER_MINUTE, 3, 1, RateLimited, "of 3 requests per minute 2 are left", 12.0),
    "tokens": (TOKENS, 1000, 300, TokenRateLimited, "of 1000 tokens per minute 2 are left", 12.0),
    "more than the limit": (TOKENS, 1000, 1001, TokenRateLimited, "Request too large", None),
    "a month's tokens": (MONTH, 1000, 300, BudgetExhausted, "2 is left, and this call may take up to 300", 827232.0),
    "a month's money": (
        Kind.MONEY_PER_MONTH,
        1_500_000_000,
        20_000_000,
        BudgetExhausted,
        "Of this month's budget of 1.50, 0.000000002 is left, and this call may take up to 0.02. "
        "The budget renews at 2026-12-01 00:00 UTC.",
        827232.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "limit", "ask", "leaf", "says", "wait_s"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_says_what_is_left_and_when_to_come_back(
    kind: Kind, limit: int, ask: int, leaf: type[Exception], says: str, wait_s: float | None
) -> None:
    error = rules.refusal(kind, limit, ask, Holding(window=rules.window_of(kind, NOW), left=2), NOW)
    assert type(error) is leaf
    assert says in error.message
    assert error.retry_after_s == wait_s


def test_headers_say_the_limit_what_is_left_and_when_it_renews() -> None:
    holding = Holding(window=rules.window_of(TOKENS, NOW))
    assert rules.limit_headers(TOKENS, 800, holding, NOW) == (
        ("x-ratelimit-limit-tokens", "800"),
        ("x-ratelimit-remaining-tokens", "800"),
        ("x-ratelimit-reset-tokens", "12s"),
    )
    seen = msgspec.structs.replace(holding, left=70, unspent=30, seen_at=NOW)
    assert rules.limit_headers(TOKENS, 800, seen, NOW)[1] == ("x-ratelimit-remaining-tokens", "100")
    assert rules.limit_headers(MONTH, 800, seen, NOW) == ()


class World:
    """Instances around one account, which is written by compare-and-set; what is written may stay unknown to the writer."""

    def __init__(self, limit: int, instances: int) -> None:
        self.limit = limit
        self.account = Account()
        self.version = 0
        self.holdings = [FRESH] * instances
        self.calls: list[tuple[int, int]] = []
        self.writes: dict[int, tuple[rules.Renewal, int]] = {}

    def admit(self, i: int, ask: int) -> None:
        if rules.judge(self.holdings[i], self.limit, ask, NOW) is Verdict.COVERED:
            self.holdings[i] = rules.reserve(self.holdings[i], ask)
            self.calls.append((i, ask))

    def settle(self, at: int, share: int) -> None:
        if self.calls:
            i, ask = self.calls.pop(at % len(self.calls))
            self.holdings[i] = rules.settle(self.holdings[i], ask, ask * share // 10)

    def begin(self, i: int, demand: int, *, leave: bool) -> None:
        if i not in self.writes:
            name = str(i)
            holding = rules.trimmed(rules.recovered(self.holdings[i], self.account, name), leave=leave)
            self.holdings[i] = holding
            renewal = rules.renew(self.account, self.limit, name, holding, demand=demand, leave=leave, now=NOW)
            self.writes[i] = renewal, self.version

    def end(self, i: int, *, known: bool) -> None:
        renewal, version = self.writes.pop(i, (None, None))
        if renewal is not None and version == self.version:
            self.account, self.version = renewal.account, self.version + 1
            if known:
                self.holdings[i] = renewal.applied(self.holdings[i])

    @property
    def out(self) -> int:
        return sum(holding.spent + holding.reserved + max(holding.unspent, 0) for holding in self.holdings)


INSTANCE = st.integers(0, 2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), INSTANCE, st.integers(1, 60)),
        st.tuples(st.just("settle"), st.integers(0, 50), st.integers(0, 10)),
        st.tuples(st.just("begin"), INSTANCE, st.integers(0, 60), st.booleans()),
        st.tuples(st.just("end"), INSTANCE, st.booleans()),
    ),
    max_size=120,
)


@given(st.integers(1, 300), STEPS)
def test_instances_never_take_more_than_the_limit_together(limit: int, steps: list[tuple[str, int, int]]) -> None:
    world = World(limit, 3)
    for name, *how in steps:
        if name == "begin":
            world.begin(how[0], how[1], leave=bool(how[2]))
        elif name == "end":
            world.end(how[0], known=bool(how[1]))
        else:
            getattr(world, name)(*how)
        assert world.out <= limit
        assert world.account.taken <= limit
