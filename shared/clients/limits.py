"""Limits and budgets: what a client may still use, decided without I/O as long as this instance's slice lasts.

Rule: a call reserves the most it may take before it is forwarded and is settled by what it took. Storage is asked only
when a slice is short, once for all calls that wait for it, and ahead of need in the background.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal

import msgspec
from azure.core.exceptions import AzureError

from shared.clients.limits_table import LimitsTable, Place, Row
from shared.core.clients import limits as rules
from shared.core.clients.limits import BUDGETS, RECHECK, RENEW_S, Amounts, Holding, Kind, Verdict
from shared.core.configuration import Client
from shared.core.configuration import Limits as ClientLimits
from shared.core.errors import NotReady
from shared.core.headers import Headers

_log = logging.getLogger(__name__)

_STORAGE_TIMEOUT_S = 3.0
"""How long a call may wait for storage before it counts as away."""
_UNLIMITED = ClientLimits()
_NOTHING = Decimal(0)


class _Meter:
    """One allowance of one client, as this instance has it."""

    def __init__(self, client_id: str, kind: Kind, limit: int, now: datetime) -> None:
        self.client_id = client_id
        self.kind = kind
        self.limit = limit
        self.holding = Holding(window=rules.window_of(kind, now))
        self.row: Row | None = None
        """The account as last written here; None: it has to be read."""
        self.waiting = 0
        """What the calls that wait for a slice ask for."""
        self.exchange: asyncio.Task[bool] | None = None

    def change(self, limit: int) -> None:
        """The configuration has another limit. What was used stays used."""
        self.holding = rules.changed(self.holding, limit - self.limit)
        self.limit = limit

    def roll(self, now: datetime) -> Holding:
        """The holding of the window of `now`."""
        if (holding := rules.rolled(self.holding, self.kind, now)) is not self.holding:
            self.holding, self.row = holding, None
        return holding


class _Share(msgspec.Struct, frozen=True):
    """What one call has reserved of one allowance."""

    meter: _Meter
    window: str
    amount: int


class Admission:
    """A call's reservation, to be handed to `settle` once, whatever becomes of the call. Settling again does nothing."""

    __slots__ = ("shares",)

    def __init__(self, shares: tuple[_Share, ...]) -> None:
        self.shares = shares


_FREE = Admission(())


class Limits:
    """One per process; used from one event loop."""

    def __init__(
        self,
        table: LimitsTable,
        *,
        instance: str,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        allow_when_down: bool = False,
    ) -> None:
        """`instance` names this process among all that share the table, and no process that was before it."""
        self._table = table
        self._instance = instance
        self._now = now
        self._sleep = sleep
        self._allow_when_down = allow_when_down
        self._meters: dict[str, tuple[ClientLimits, tuple[_Meter, ...]]] = {}
        self._down_since: datetime | None = None
        self._timer: asyncio.Task[None] | None = None

    async def admit(
        self, client: Client, *, requests: int = 1, tokens: int = 0, money: Decimal = _NOTHING
    ) -> Admission:
        """Reserves the most that a call may take; all of it or nothing.

        Raises RateLimited, TokenRateLimited, BudgetExhausted; NotReady where storage is away and the slice is spent.
        """
        meters = self._meters_of(client)
        if not meters:
            return _FREE
        most = Amounts(requests=requests, tokens=tokens, nanos=rules.nanos(money))
        while lacking := self._lacking(meters, most):
            if not await self._lease(lacking, most):
                if not self._allow_when_down:
                    raise NotReady(
                        "Your limits cannot be checked, because the gateway's storage account is away; try again later.",
                        retry_after_s=RECHECK.total_seconds(),
                    )
                break
        shares = []
        for meter in meters:
            amount = most.of(meter.kind)
            meter.holding = rules.reserve(meter.holding, amount)
            shares.append(_Share(meter, meter.holding.window.key, amount))
            self._exchange_ahead(meter)
        return Admission(tuple(shares))

    def settle(self, admission: Admission, *, tokens: int | None, money: Decimal | None) -> None:
        """The call has ended and took this; None: unknown, so what it reserved counts as taken."""
        shares, admission.shares = admission.shares, ()
        if not shares:
            return
        now = self._now()
        for share in shares:
            meter = share.meter
            used = _used(share, tokens, money)
            if meter.roll(now).window.key == share.window:
                meter.holding = rules.settle(meter.holding, share.amount, used)
            elif used > share.amount:  # its window is over: only what it took beyond its reservation is still owed
                meter.holding = rules.settle(meter.holding, 0, used - share.amount)
            self._exchange_ahead(meter)

    def headers(self, client: Client) -> Headers:
        """`x-ratelimit-*` of the client's own limits, as far as this instance knows; none for a limit that is not set."""
        now = self._now()
        return tuple(
            header
            for meter in self._meters_of(client)
            for header in rules.limit_headers(meter.kind, meter.limit, meter.roll(now), now)
        )

    async def reconcile(self, client: Client, month: str, *, tokens: int, money: Decimal) -> None:
        """Tells the accounts of a month, `YYYYMM`, what the ledger shows to be used in it: from then on they count no less.

        May be repeated. Raises AzureError.
        """
        proven = Amounts(requests=0, tokens=tokens, nanos=rules.nanos(money))
        for kind, _ in rules.allowances(client.limits):
            if kind in BUDGETS:
                await self._prove(Place(rules.month_key(month), kind, client.id), proven.of(kind))

    async def renew(self) -> None:
        """Reports what is held of months' budgets; gives back what nobody used since the last time."""
        now = self._now()
        for meter in self._all_meters():
            holding = meter.roll(now)
            if meter.kind in BUDGETS and _has_news(holding):
                leave = holding.idle
                meter.holding = msgspec.structs.replace(holding, idle=True)
                await self._start(meter, leave=leave)

    async def close(self) -> None:
        """Gives everything back, as far as storage can be reached."""
        now = self._now()
        for meter in self._all_meters():
            if meter.exchange:
                await meter.exchange
            if _has_news(meter.roll(now)):
                await self._start(meter, leave=True)
        if self._timer:
            self._timer.cancel()

    def _all_meters(self) -> tuple[_Meter, ...]:
        return tuple(meter for _, meters in self._meters.values() for meter in meters)

    def _meters_of(self, client: Client) -> tuple[_Meter, ...]:
        limits = client.limits
        if limits == _UNLIMITED:
            return ()
        known = self._meters.get(client.id)
        if known is not None and known[0] == limits:
            return known[1]
        now = self._now()
        before = {meter.kind: meter for meter in known[1]} if known else {}
        meters = []
        for kind, limit in rules.allowances(limits):
            meter = before.get(kind) or _Meter(client.id, kind, limit, now)
            meter.change(limit)
            meters.append(meter)
        self._meters[client.id] = limits, tuple(meters)
        return self._meters[client.id][1]

    def _lacking(self, meters: tuple[_Meter, ...], most: Amounts) -> list[_Meter]:
        """The allowances that have to be leased first. Raises where one is known not to suffice."""
        now = self._now()
        lacking = []
        for meter in meters:
            ask = most.of(meter.kind)
            holding = meter.roll(now)
            verdict = rules.judge(holding, meter.limit, ask, now)
            if verdict in (Verdict.REFUSED, Verdict.TOO_LARGE):
                raise rules.refusal(meter.kind, meter.limit, ask, holding, now)
            if verdict is Verdict.LEASE:
                lacking.append(meter)
        return lacking

    async def _lease(self, meters: list[_Meter], most: Amounts) -> bool:
        """Waits for an exchange of each, joining one that is under way. False where storage is away."""
        for meter in meters:
            meter.waiting += most.of(meter.kind)
        try:
            return all(await asyncio.gather(*(asyncio.shield(self._start(meter)) for meter in meters)))
        finally:
            for meter in meters:
                meter.waiting -= most.of(meter.kind)

    def _exchange_ahead(self, meter: _Meter) -> None:
        if rules.wants_exchange(meter.holding) and not self._is_down():
            self._start(meter)

    def _is_down(self) -> bool:
        return self._down_since is not None and self._now() - self._down_since < RECHECK

    def _start(self, meter: _Meter, *, leave: bool = False) -> asyncio.Task[bool]:
        if meter.exchange is None or meter.exchange.done():
            meter.exchange = asyncio.create_task(self._exchange(meter, leave=leave))
        return meter.exchange

    async def _exchange(self, meter: _Meter, *, leave: bool) -> bool:
        """Reports the holding and leases a slice. False where storage is away."""
        if self._is_down():
            return False
        try:
            async with asyncio.timeout(_STORAGE_TIMEOUT_S):
                await self._swap(meter, leave=leave)
        except (AzureError, TimeoutError) as error:
            self._down_since = self._now()
            _log.warning("limits not leased", extra={"client_id": meter.client_id, "reason": repr(error)})
            return False
        self._down_since = None
        if meter.kind in BUDGETS and (self._timer is None or self._timer.done()):
            self._timer = asyncio.create_task(self._renew_while_held())
        return True

    async def _swap(self, meter: _Meter, *, leave: bool) -> None:
        while True:
            window = meter.holding.window
            place = Place(window.key, meter.kind, meter.client_id)
            row, meter.row = meter.row or await self._table.read(place), None
            if meter.holding.window is not window:
                continue
            meter.holding = rules.recovered(meter.holding, row.account, self._instance)
            leave = leave and not meter.waiting
            if not meter.waiting:  # else what is too much is about to be reserved
                meter.holding = rules.trimmed(meter.holding, leave=leave)
            renewal = rules.renew(
                row.account,
                meter.limit,
                self._instance,
                meter.holding,
                demand=meter.waiting,
                leave=leave,
                now=self._now(),
            )
            written = await self._table.write(place, renewal.account, row.etag)
            if meter.holding.window is not window:
                continue  # what was written is of a window that is over
            if written:
                meter.row, meter.holding = written, renewal.applied(meter.holding)
                return

    async def _prove(self, place: Place, proven: int) -> None:
        while True:
            row = await self._table.read(place)
            account = msgspec.structs.replace(row.account, proven=proven)
            if row.account.proven == proven or await self._table.write(place, account, row.etag):
                return

    async def _renew_while_held(self) -> None:
        while any(meter.kind in BUDGETS and _has_news(meter.holding) for meter in self._all_meters()):
            await self._sleep(RENEW_S)
            await self.renew()


def _has_news(holding: Holding) -> bool:
    return holding.spent != holding.told or holding.reserved != 0 or holding.unspent != 0


def _used(share: _Share, tokens: int | None, money: Decimal | None) -> int:
    kind = share.meter.kind
    if kind is Kind.REQUESTS_PER_MINUTE:
        return share.amount
    if kind is Kind.MONEY_PER_MONTH:
        return share.amount if money is None else rules.nanos(money)
    return share.amount if tokens is None else tokens
