"""What is left of a client's limits: the arithmetic of instances that share an allowance and never talk to each other.

    Account   one row of a table, per client, kind of limit and window: what is spent, and the lease of each instance
    Holding   an instance's own side of its lease: spent + reserved by calls under way + unspent

Rule: what an instance may spend stands in the account before it is spent, so the leases never add up to more than the
limit. Amounts are whole numbers: requests, tokens, and billionths of the currency. A lease is written as it is, never
incremented, so writing it again, or not knowing whether it was written, changes nothing.
"""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from enum import Enum, StrEnum, auto

import msgspec
from msgspec.structs import replace

from shared.core.configuration import Limits
from shared.core.errors import BudgetExhausted, GatewayError, RateLimited, TokenRateLimited
from shared.core.headers import Headers

RECHECK = timedelta(seconds=1)
"""How long an account that has too little left is not asked again."""
RENEW_S = 60.0
"""Seconds between reports of an instance that holds part of a month's budget."""
LEASE = timedelta(minutes=5)
"""How long a lease stands without a report; after that, and the skew, others take back what it holds."""
CLOCK_SKEW = timedelta(seconds=30)
"""By how much the clocks of two instances may differ: a holder stops this much early, others wait this much longer."""

_SHARES = 8
"""A slice is this part of what is left, divided by the number of instances that hold some."""
_NANOS = Decimal(10**9)
_NEVER = datetime.min.replace(tzinfo=UTC)


class Kind(StrEnum):
    """A kind of limit; the value is the name of its field in configuration.Limits."""

    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    TOKENS_PER_MONTH = "tokens_per_month"
    MONEY_PER_MONTH = "money_per_month"


BUDGETS = frozenset({Kind.TOKENS_PER_MONTH, Kind.MONEY_PER_MONTH})


class Amounts(msgspec.Struct, frozen=True, kw_only=True):
    """What a call takes, or may take at most."""

    requests: int
    tokens: int
    nanos: int

    def of(self, kind: Kind) -> int:
        """The part that counts against a kind of limit."""
        if kind is Kind.REQUESTS_PER_MINUTE:
            return self.requests
        return self.nanos if kind is Kind.MONEY_PER_MONTH else self.tokens


class Window(msgspec.Struct, frozen=True):
    """The UTC minute or month that an allowance is for: `minute-202611211012`, `month-202611`."""

    key: str
    ends_at: datetime


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """What one instance last wrote of itself."""

    instance: str
    spent: int
    held: int
    """Reserved by calls under way, or unspent."""
    renewed_at: int
    """Seconds since 1970."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What all instances know of one allowance."""

    spent: int = 0
    """By instances whose leases have ended."""
    proven: int = 0
    """What the ledger's sums show to be spent."""
    leases: tuple[Lease, ...] = ()

    @property
    def taken(self) -> int:
        """What is spent or held. The ledger counts the same spending again, later: so the greater of the two."""
        spent = self.spent + sum(lease.spent for lease in self.leases)
        return max(spent, self.proven) + sum(lease.held for lease in self.leases)

    def has(self, instance: str) -> bool:
        """Whether an instance has a lease."""
        return any(lease.instance == instance for lease in self.leases)


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance holds of one allowance."""

    window: Window
    usable_until: datetime = _NEVER
    """When `unspent` may no longer be spent without a new report."""
    spent: int = 0
    told: int = 0
    """The part of `spent` that is known to stand in the account."""
    reserved: int = 0
    unspent: int = 0
    """Negative: calls used more than they had reserved, and the account does not know it yet."""
    left: int = 0
    """What the account had left for anyone, at `seen_at`."""
    seen_at: datetime = _NEVER
    share: int = 0
    """What is fair to hold, given what is left."""
    most: int = 0
    """What is fair to hold at all; twice that is too much."""
    idle: bool = False
    """Whether nothing was admitted since the last report on the timer."""


class Verdict(Enum):
    """What becomes of a call, as far as one allowance goes."""

    COVERED = auto()
    LEASE = auto()
    """The account has to be asked."""
    REFUSED = auto()
    TOO_LARGE = auto()
    """It asks for more than the limit: waiting does not help."""


def allowances(limits: Limits) -> tuple[tuple[Kind, int], ...]:
    """The limits that are set, in whole numbers."""
    amounts = ((kind, getattr(limits, kind)) for kind in Kind)
    return tuple(
        (kind, nanos(amount) if isinstance(amount, Decimal) else amount)
        for kind, amount in amounts
        if amount is not None
    )


def nanos(money: Decimal) -> int:
    """An amount of money in billionths, rounded up."""
    return int((money * _NANOS).to_integral_value(ROUND_CEILING))


def window_of(kind: Kind, now: datetime) -> Window:
    """The window of `now`, which is UTC."""
    if kind in BUDGETS:
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return Window(month_key(f"{now:%Y%m}"), (first + timedelta(days=31)).replace(day=1))
    return Window(f"minute-{now:%Y%m%d%H%M}", now.replace(second=0, microsecond=0) + timedelta(minutes=1))


def month_key(month: str) -> str:
    """The key of the window of a month, `YYYYMM`."""
    return f"month-{month}"


def rolled(holding: Holding, kind: Kind, now: datetime) -> Holding:
    """The holding for the window of `now`. What was unspent lapses; what was overspent and not told is taken along."""
    if now < holding.window.ends_at:
        return holding
    debt = max(-holding.unspent, 0)
    return Holding(window=window_of(kind, now), spent=debt, unspent=-debt)


def changed(holding: Holding, more: int) -> Holding:
    """The holding where the limit has become greater, or smaller, by `more`."""
    return replace(holding, left=max(holding.left + more, 0))


def judge(holding: Holding, limit: int, ask: int, now: datetime) -> Verdict:
    """Whether a call may have `ask`. A call that asks for nothing is never refused."""
    if ask > limit:
        return Verdict.TOO_LARGE
    usable = now < holding.usable_until
    if ask <= 0 or (usable and ask <= holding.unspent):
        return Verdict.COVERED
    if usable and now - holding.seen_at < RECHECK and ask - holding.unspent > holding.left:
        return Verdict.REFUSED
    return Verdict.LEASE


def reserve(holding: Holding, ask: int) -> Holding:
    """A call was admitted."""
    return replace(holding, reserved=holding.reserved + ask, unspent=holding.unspent - ask, idle=False)


def settle(holding: Holding, reserved: int, used: int) -> Holding:
    """A call of this window that had `reserved` has ended and used `used`."""
    return replace(
        holding,
        reserved=holding.reserved - reserved,
        spent=holding.spent + used,
        unspent=holding.unspent + reserved - used,
    )


def wants_exchange(holding: Holding) -> bool:
    """Whether to go to the account before a call has to wait for it: little is unspent and more to be had, or too much."""
    if holding.unspent > 2 * holding.most:
        return True
    return holding.left > 0 and (holding.unspent < holding.share // 2 or holding.unspent < 0)


def trimmed(holding: Holding, *, leave: bool = False) -> Holding:
    """The holding without what it gives back: what is too much, or with `leave` all that is unspent.

    To be put in force before the account is written: what is given back must not be spent meanwhile.
    """
    keep = 0 if leave else holding.most if holding.unspent > 2 * holding.most else holding.unspent
    return replace(holding, unspent=min(holding.unspent, keep))


def recovered(holding: Holding, account: Account, instance: str) -> Holding:
    """The holding where the lease has ended without us: what was told is in the account, what was unspent is others'."""
    if account.has(instance):
        return holding
    return replace(holding, spent=holding.spent - holding.told, told=0, unspent=min(holding.unspent, 0))


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """A lease made or renewed: the account to write and, once it is written, what changes for the holder."""

    account: Account
    told: int
    gained: int
    """To be added to `unspent`: the slice granted, and the debt that the account now carries."""
    left: int
    share: int
    most: int
    at: datetime

    def applied(self, holding: Holding) -> Holding:
        """The holding, which may have changed since, once the account is written."""
        return replace(
            holding,
            usable_until=min(holding.window.ends_at, self.at + LEASE - CLOCK_SKEW),
            told=self.told,
            unspent=holding.unspent + self.gained,
            left=self.left,
            seen_at=self.at,
            share=self.share,
            most=self.most,
        )


def renew(
    account: Account, limit: int, instance: str, holding: Holding, *, demand: int, leave: bool = False, now: datetime
) -> Renewal:
    """An instance reports its holding and takes a slice: what `demand`, all waiting calls together, lacks, and at least
    enough to hold its share. With `leave` it takes none. Leases of others that ran out are closed."""
    ran_out = (now - LEASE - CLOCK_SKEW).timestamp()
    others = [lease for lease in account.leases if lease.instance != instance]
    live = tuple(lease for lease in others if lease.renewed_at >= ran_out)
    spent = account.spent + sum(lease.spent for lease in others if lease.renewed_at < ran_out)

    def with_held(held: int) -> Account:
        own = Lease(instance, holding.spent, held, int(now.timestamp()))
        return Account(spent=spent, proven=account.proven, leases=(*live, own))

    unspent = max(holding.unspent, 0)
    free = max(limit - with_held(holding.reserved + unspent).taken, 0)
    parts = _SHARES * (1 + sum(lease.held > 0 for lease in live))
    share = free // parts
    granted = 0 if leave else min(max(demand, share) - unspent, free)
    granted = max(granted, 0)
    return Renewal(
        account=with_held(holding.reserved + unspent + granted),
        told=holding.spent,
        gained=unspent - holding.unspent + granted,
        left=free - granted,
        share=share,
        most=max(limit // parts, 1),
        at=now,
    )


def refusal(kind: Kind, limit: int, ask: int, holding: Holding, now: datetime) -> GatewayError:
    """Why a call is refused: the error to raise."""
    left = remaining(holding)
    wait_s = max((holding.window.ends_at - now).total_seconds(), 0.0)
    if kind in BUDGETS:
        unit = "" if kind is Kind.MONEY_PER_MONTH else " tokens"
        shown = _money if kind is Kind.MONEY_PER_MONTH else str
        return BudgetExhausted(
            f"Of this month's budget of {shown(limit)}{unit}, {shown(left)} is left, and this call may take up to "
            f"{shown(ask)}. The budget renews at {holding.window.ends_at:%Y-%m-%d %H:%M} UTC.",
            retry_after_s=wait_s,
        )
    leaf, unit = (RateLimited, "requests") if kind is Kind.REQUESTS_PER_MINUTE else (TokenRateLimited, "tokens")
    if ask > limit:
        return leaf(
            f"Request too large: it may take up to {ask} {unit}, and your limit is {limit} {unit} per minute. "
            "Shorten the input or state a smaller maximum output."
        )
    return leaf(
        f"Rate limit reached: of {limit} {unit} per minute {left} are left, and this call may take up to {ask}. "
        f"Please try again in {duration(wait_s)}.",
        retry_after_s=wait_s,
    )


def remaining(holding: Holding) -> int:
    """What is left overall, as far as this instance knows."""
    return holding.left + max(holding.unspent, 0)


def limit_headers(kind: Kind, limit: int, holding: Holding, now: datetime) -> Headers:
    """OpenAI's headers (https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers); none for a budget."""
    if kind in BUDGETS:
        return ()
    unit = "requests" if kind is Kind.REQUESTS_PER_MINUTE else "tokens"
    left = limit if holding.seen_at == _NEVER else remaining(holding)
    return (
        (f"x-ratelimit-limit-{unit}", str(limit)),
        (f"x-ratelimit-remaining-{unit}", str(left)),
        (f"x-ratelimit-reset-{unit}", duration(max((holding.window.ends_at - now).total_seconds(), 0.0))),
    )


def duration(seconds: float) -> str:
    """Seconds as OpenAI writes them: `12ms`, `1.5s`, `6m0s`; never less than it is, to the millisecond."""
    ms = -int(-seconds * 1000 // 1)
    if ms < 1000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    text = f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{minutes}m{text}" if minutes else text


def _money(amount: int) -> str:
    text = f"{amount / _NANOS:.9f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"{whole}.{cents:0<2}"
