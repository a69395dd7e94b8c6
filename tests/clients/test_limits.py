"""Limits over a real table: several instances, one allowance."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import override

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.data.tables.aio import TableServiceClient

from devtools.azurite import Azurite
from shared.clients.limits import Limits
from shared.clients.limits_table import LimitsTable, Place, Row
from shared.core.clients import limits as rules
from shared.core.clients.limits import CLOCK_SKEW, LEASE, Account, Kind
from shared.core.configuration import Client
from shared.core.configuration import Limits as ClientLimits
from shared.core.errors import BudgetExhausted, GatewayError, NotReady, RateLimited, TokenRateLimited

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 21, 10, 12, 48, tzinfo=UTC)
MINUTE, MONTH = "minute-202611211012", "month-202611"


class Clock:
    """The time, when the test says so. Sleepers wake when it is told that they should."""

    def __init__(self) -> None:
        self.time = NOW
        self._asleep: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    def now(self) -> datetime:
        return self.time

    def forward(self, by: timedelta) -> None:
        self.time += by

    async def sleep(self, seconds: float) -> None:
        assert seconds == rules.RENEW_S
        alarm = asyncio.Event()
        self._asleep.put_nowait(alarm)
        await alarm.wait()

    async def wake(self) -> None:
        """Wakes the next sleeper, or the first that comes."""
        (await self._asleep.get()).set()


class Watched(LimitsTable):
    """The table, which counts how often it is asked, and can be away."""

    asked = 0
    away = False
    wrote: asyncio.Queue[asyncio.Event] | None = None
    """Where a test wants to hold answers to writes: each waits for the event that it puts here."""

    def _ask(self) -> None:
        self.asked += 1
        if self.away:
            raise ServiceRequestError("the account is away")

    @override
    async def read(self, place: Place) -> Row:
        self._ask()
        return await super().read(place)

    @override
    async def write(self, place: Place, account: Account, etag: str | None) -> Row | None:
        self._ask()
        row = await super().write(place, account, etag)
        if self.wrote is not None:
            self.wrote.put_nowait(answer := asyncio.Event())
            await answer.wait()
        return row


class Site:
    """One table, and as many instances as a test wants."""

    def __init__(self, service: TableServiceClient, name: str) -> None:
        self.table = Watched(service.get_table_client(name))
        self.clock = Clock()
        self.instances: list[Limits] = []

    def instance(self, *, allow_when_down: bool = False) -> Limits:
        made = Limits(
            self.table,
            instance=f"i{len(self.instances)}",
            now=self.clock.now,
            sleep=self.clock.sleep,
            allow_when_down=allow_when_down,
        )
        self.instances.append(made)
        return made

    async def taken(self, client: Client, kind: Kind, window: str) -> int:
        return (await self.table.read(Place(window, kind, client.id))).account.taken


@asynccontextmanager
async def site_at(azurite: Azurite, prefix: str) -> AsyncIterator[Site]:
    async with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        site = Site(service, f"{prefix}Limits")
        await site.table.prepare()
        yield site
        site.table.away = False
        for instance in site.instances:
            await instance.close()


@pytest.fixture
async def site(azurite: Azurite, prefix: str) -> AsyncIterator[Site]:
    async with site_at(azurite, prefix) as made:
        yield made


def limited(**limits: int | Decimal) -> Client:
    return Client(id="team/a#1", limits=ClientLimits(**limits))  # type: ignore[arg-type] # the tests say which


async def settled(instance: Limits) -> None:
    """Waits for what goes on in the background."""
    for meter in instance._all_meters():
        if meter.exchange:
            await meter.exchange


async def spend(instance: Limits, client: Client, tokens: int) -> None:
    """A call from beginning to end, which uses all that it asked for."""
    instance.settle(await instance.admit(client, tokens=tokens), tokens=tokens, money=None)


async def hammer(instance: Limits, client: Client, ask: int, used: int) -> int:
    """Calls one after another until one is refused. Returns what was used."""
    total = 0
    while True:
        try:
            admission = await instance.admit(client, tokens=ask)
        except GatewayError:
            return total
        await asyncio.sleep(0)
        instance.settle(admission, tokens=used, money=None)
        total += used


async def test_a_client_without_limits_costs_nothing(site: Site) -> None:
    instance, client = site.instance(), Client(id="free")
    assert await instance.admit(client, tokens=10**9) is await instance.admit(client, tokens=1)
    instance.settle(await instance.admit(client), tokens=5, money=None)
    assert (instance.headers(client), site.table.asked) == ((), 0)


async def test_calls_are_admitted_without_io_while_the_slice_lasts(site: Site) -> None:
    instance, client = site.instance(), limited(tokens_per_minute=8000)
    await spend(instance, client, 100)
    asked = site.table.asked
    for _ in range(4):
        step = instance.admit(client, tokens=100)
        with pytest.raises(StopIteration) as done:
            step.send(None)
        instance.settle(done.value.value, tokens=100, money=None)
    assert site.table.asked == asked


async def test_calls_that_wait_share_one_lease(site: Site) -> None:
    instance, client = site.instance(), limited(tokens_per_minute=8000)
    await asyncio.gather(*(spend(instance, client, 200) for _ in range(40)))
    await settled(instance)
    assert await site.taken(client, Kind.TOKENS_PER_MINUTE, MINUTE) == 8000
    assert site.table.asked <= 4


async def test_a_call_that_stopped_waiting_takes_nothing_and_stops_nobody(site: Site) -> None:
    instance, client = site.instance(), limited(requests_per_minute=2)
    gone, there = (asyncio.create_task(instance.admit(client)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    await there
    await instance.admit(client)
    with pytest.raises(RateLimited):
        await instance.admit(client)


HAMMERED = {"all that was asked for": (100, 100), "a tenth": (1000, 100), "nothing but large ones": (4000, 3900)}


@pytest.mark.parametrize(("ask", "used"), HAMMERED.values(), ids=HAMMERED)
async def test_instances_that_are_hammered_never_pass_the_limit(site: Site, ask: int, used: int) -> None:
    client = limited(tokens_per_minute=10_000)
    instances = [site.instance() for _ in range(2)]
    totals = await asyncio.gather(*(hammer(each, client, ask, used) for each in instances for _ in range(10)))
    assert 10_000 - 2 * max(ask, 1250) <= sum(totals) <= 10_000
    assert await site.taken(client, Kind.TOKENS_PER_MINUTE, MINUTE) <= 10_000


PROGRAM = """
import asyncio, json, sys
from datetime import datetime, UTC
from azure.data.tables.aio import TableServiceClient
from shared.core.configuration import Client, Limits as ClientLimits
from shared.core.errors import GatewayError
from shared.clients.limits import Limits
from shared.clients.limits_table import LimitsTable

async def main(connection, table, instance):
    client = Client(id="team", limits=ClientLimits(tokens_per_minute=10_000, tokens_per_month=9_000))
    used = 0
    async with TableServiceClient.from_connection_string(connection) as service:
        limits = Limits(LimitsTable(service.get_table_client(table)), instance=instance,
                        now=lambda: datetime(2026, 11, 21, 10, 12, 48, tzinfo=UTC))
        print("ready", flush=True)
        sys.stdin.readline()
        async def calls():
            nonlocal used
            try:
                while True:
                    admission = await limits.admit(client, tokens=60)
                    used += 50
                    limits.settle(admission, tokens=50, money=None)
                    await asyncio.sleep(0)
            except GatewayError as error:
                assert error.status in (403, 429), error
        await asyncio.gather(*(calls() for _ in range(5)))
        await limits.close()
    print(json.dumps(used))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_that_are_hammered_never_pass_the_limit(site: Site, azurite: Azurite, prefix: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, azurite.connection_string, f"{prefix}Limits", name),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for name in ("x", "y", "z")
    ]
    for process in processes:
        assert process.stdout
        assert await process.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    used = [json.loads(output) for output, _ in outputs]
    assert 6_000 <= sum(used) <= 9_000
    client = Client(id="team")
    assert await site.taken(client, Kind.TOKENS_PER_MONTH, MONTH) == sum(used)
    assert await site.taken(client, Kind.TOKENS_PER_MINUTE, MINUTE) == sum(used)


async def test_where_calls_use_more_than_they_reserved_the_overshoot_is_that_of_the_calls_under_way(site: Site) -> None:
    client = limited(tokens_per_month=10_000)
    instances = [site.instance() for _ in range(2)]
    under_way, ask, used = 5, 100, 300
    totals = await asyncio.gather(*(hammer(each, client, ask, used) for each in instances for _ in range(under_way)))
    assert 10_000 - 2 * 1250 <= sum(totals) <= 10_000 + len(instances) * under_way * (used - ask)


async def test_refused_calls_are_refused_without_io(site: Site) -> None:
    instance, client = site.instance(), limited(requests_per_minute=3)
    for _ in range(3):
        await instance.admit(client)
    await settled(instance)
    asked = site.table.asked
    for _ in range(50):
        with pytest.raises(RateLimited, match="try again in 12s"):
            await instance.admit(client)
    assert site.table.asked - asked <= 2


async def test_a_refused_call_takes_nothing_of_its_other_limits(site: Site) -> None:
    instance, client = site.instance(), limited(requests_per_minute=2, tokens_per_minute=100)
    for _ in range(5):
        with pytest.raises(TokenRateLimited):
            await instance.admit(client, tokens=101)
    await instance.admit(client, tokens=50)
    await instance.admit(client, tokens=50)
    with pytest.raises(RateLimited):
        await instance.admit(client, tokens=0)


async def test_headers_follow_what_is_used_and_the_next_minute_starts_afresh(site: Site) -> None:
    instance, client = site.instance(), limited(requests_per_minute=10, tokens_per_minute=1000, tokens_per_month=10**6)
    await spend(instance, client, 300)
    assert instance.headers(client) == (
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "9"),
        ("x-ratelimit-reset-requests", "12s"),
        ("x-ratelimit-limit-tokens", "1000"),
        ("x-ratelimit-remaining-tokens", "700"),
        ("x-ratelimit-reset-tokens", "12s"),
    )
    site.clock.forward(timedelta(seconds=13))
    assert ("x-ratelimit-remaining-tokens", "1000") in instance.headers(client)
    await spend(instance, client, 1000)
    assert ("x-ratelimit-remaining-tokens", "0") in instance.headers(client)


async def test_a_slice_that_arrives_after_its_minute_is_not_spent_in_the_next(site: Site) -> None:
    late, other, client = site.instance(), site.instance(), limited(tokens_per_minute=1000)
    site.table.wrote = asyncio.Queue()
    call = asyncio.create_task(late.admit(client, tokens=600))
    answer = await site.table.wrote.get()
    site.table.wrote = None
    site.clock.forward(timedelta(seconds=13))
    assert ("x-ratelimit-remaining-tokens", "1000") in late.headers(client)
    await spend(other, client, 1000)
    answer.set()
    with pytest.raises(TokenRateLimited):
        await call


async def test_a_call_that_ends_in_a_later_minute_owes_only_what_it_took_beyond_its_reservation(site: Site) -> None:
    instance, client = site.instance(), limited(tokens_per_minute=1000)
    cheap, dear = await instance.admit(client, tokens=400), await instance.admit(client, tokens=400)
    site.clock.forward(timedelta(seconds=13))
    instance.settle(cheap, tokens=10, money=None)
    instance.settle(dear, tokens=700, money=None)
    with pytest.raises(TokenRateLimited):
        await instance.admit(client, tokens=701)
    await instance.admit(client, tokens=700)


async def test_unknown_usage_keeps_the_reservation_and_settling_twice_changes_nothing(site: Site) -> None:
    instance, client = site.instance(), limited(tokens_per_minute=1000, money_per_month=Decimal(1))
    unknown = await instance.admit(client, tokens=600, money=Decimal("0.6"))
    known = await instance.admit(client, tokens=400, money=Decimal("0.4"))
    instance.settle(unknown, tokens=None, money=None)
    instance.settle(known, tokens=100, money=Decimal("0.1"))
    instance.settle(known, tokens=0, money=Decimal(0))
    with pytest.raises(TokenRateLimited):
        await instance.admit(client, tokens=301, money=Decimal("0.3"))
    with pytest.raises(BudgetExhausted):
        await instance.admit(client, tokens=300, money=Decimal("0.300000001"))
    await instance.admit(client, tokens=300, money=Decimal("0.3"))


async def test_an_instance_that_starts_again_goes_on_from_the_table(site: Site) -> None:
    client = limited(tokens_per_minute=1000, tokens_per_month=2000)
    await spend(site.instance(), client, 900)
    await site.instances[0].close()
    with pytest.raises(TokenRateLimited):
        await site.instance().admit(client, tokens=101)
    site.clock.forward(timedelta(minutes=1))
    await spend(site.instances[1], client, 1000)
    site.clock.forward(timedelta(minutes=1))
    with pytest.raises(BudgetExhausted):
        await site.instance().admit(client, tokens=101)


async def test_an_idle_instance_gives_its_part_of_a_budget_back(site: Site) -> None:
    client = limited(tokens_per_month=1000)
    idle, busy = site.instance(), site.instance()
    await spend(idle, client, 10)
    await idle.renew()
    assert await site.taken(client, Kind.TOKENS_PER_MONTH, MONTH) > 10
    await idle.renew()
    assert await site.taken(client, Kind.TOKENS_PER_MONTH, MONTH) == 10
    await spend(busy, client, 990)


async def test_what_is_held_is_reported_on_a_timer_that_ends_when_nothing_is_held(site: Site) -> None:
    instance, client = site.instance(), limited(tokens_per_month=1000)
    admission = await instance.admit(client, tokens=10)
    await site.clock.wake()
    await site.clock.wake()  # it came back, for the call is still under way
    instance.settle(admission, tokens=10, money=None)
    timer = instance._timer
    assert timer is not None
    while not timer.done():
        waking = asyncio.create_task(site.clock.wake())
        await asyncio.wait({timer, waking}, return_when=asyncio.FIRST_COMPLETED)
        waking.cancel()
    assert await site.taken(client, Kind.TOKENS_PER_MONTH, MONTH) == 10


async def test_what_an_instance_that_died_held_is_back_after_its_lease(site: Site) -> None:
    client = limited(tokens_per_month=1000)
    await spend(site.instance(), client, 10)
    await site.instances[0].renew()
    await site.instances[0].admit(client, tokens=50)
    survivor = site.instance()
    with pytest.raises(BudgetExhausted):
        await survivor.admit(client, tokens=990)
    site.clock.forward(LEASE + CLOCK_SKEW + timedelta(seconds=1))
    await spend(survivor, client, 990)


async def test_an_instance_that_was_held_up_past_its_lease_spends_nothing_that_others_may_have(site: Site) -> None:
    client = limited(tokens_per_month=1000)
    paused, other = site.instance(), site.instance()
    await spend(paused, client, 10)
    await paused.renew()
    site.clock.forward(LEASE + CLOCK_SKEW + timedelta(seconds=1))
    await spend(other, client, 985)
    with pytest.raises(BudgetExhausted):
        await paused.admit(client, tokens=6)
    await spend(paused, client, 5)
    await paused.renew()
    assert await site.taken(client, Kind.TOKENS_PER_MONTH, MONTH) == 1000


async def test_while_storage_is_away_the_slice_is_spent_and_then_calls_are_refused(site: Site) -> None:
    instance, client = site.instance(), limited(tokens_per_month=8000)
    await spend(instance, client, 1)
    await settled(instance)
    site.table.away = True
    used = await hammer(instance, client, 100, 100)
    assert used == 900
    asked = site.table.asked
    with pytest.raises(NotReady, match="limits cannot be checked") as refused:
        await instance.admit(client, tokens=100)
    assert (refused.value.retry_after_s, site.table.asked) == (1, asked)
    site.table.away = False
    site.clock.forward(rules.RECHECK)
    await spend(instance, client, 100)


async def test_where_it_is_allowed_calls_pass_while_storage_is_away_and_are_counted_later(site: Site) -> None:
    instance, client = site.instance(allow_when_down=True), limited(tokens_per_month=8000)
    site.table.away = True
    for _ in range(90):
        await spend(instance, client, 100)
    site.table.away = False
    site.clock.forward(rules.RECHECK)
    with pytest.raises(BudgetExhausted):
        await instance.admit(client, tokens=100)
    assert await site.taken(client, Kind.TOKENS_PER_MONTH, MONTH) == 9000


async def test_the_ledgers_sums_count_where_they_are_more(site: Site) -> None:
    client = limited(tokens_per_month=1000, money_per_month=Decimal(2), tokens_per_minute=10**6)
    lost, other = site.instance(), site.instance()
    await spend(lost, client, 100)
    await lost.close()
    for _ in range(2):
        await other.reconcile(client, "202611", tokens=400, money=Decimal("1.5"))
    assert await site.taken(client, Kind.TOKENS_PER_MONTH, MONTH) == 400
    assert await site.taken(client, Kind.MONEY_PER_MONTH, MONTH) == 1_500_000_000
    await other.reconcile(client, "202611", tokens=50, money=Decimal(0))
    assert await site.taken(client, Kind.TOKENS_PER_MONTH, MONTH) == 100
    await other.reconcile(client, "202611", tokens=400, money=Decimal("1.5"))
    with pytest.raises(BudgetExhausted):
        await other.admit(client, tokens=601)
    await other.admit(client, tokens=600)


async def test_a_limit_that_changes_keeps_what_was_used(site: Site) -> None:
    instance = site.instance()
    await spend(instance, limited(tokens_per_minute=1000), 600)
    await spend(instance, limited(tokens_per_minute=2000, requests_per_minute=5), 1400)
    with pytest.raises(TokenRateLimited):
        await instance.admit(limited(tokens_per_minute=1500), tokens=1)


async def test_accounts_of_minutes_long_past_are_deleted_and_those_of_months_stay(site: Site) -> None:
    instance, client = site.instance(), limited(requests_per_minute=5, tokens_per_month=1000)
    await spend(instance, client, 10)
    site.clock.forward(timedelta(minutes=1))
    await spend(instance, client, 10)
    assert await site.table.sweep(NOW + timedelta(minutes=60)) == 0
    assert await site.table.sweep(NOW + timedelta(minutes=61)) == 1
    assert await site.taken(client, Kind.REQUESTS_PER_MINUTE, MINUTE) == 0
    assert await site.taken(client, Kind.REQUESTS_PER_MINUTE, "minute-202611211013") >= 1
    assert await site.taken(client, Kind.TOKENS_PER_MONTH, MONTH) >= 20
