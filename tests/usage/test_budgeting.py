"""Budgets: what is settled with instances, and what is told to people, each once."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from azure.data.tables.aio import TableServiceClient

from devtools.azurite import Azurite
from shared.clients.limits import Limits
from shared.clients.limits_table import LimitsTable, Place
from shared.core.clients.limits import Kind
from shared.core.configuration import Configuration, parse
from shared.core.money.ledger import UsageHour, UsageKey
from shared.gateway.upstream import Upstreams
from shared.settings import read_settings
from shared.usage.budgeting import Budgeting
from tests.emulator import Storage
from tests.examples import NOON

KEY = UsageKey(client_id="team/a", cost_center="", operation="o", model="m", model_served="", deployment="")


@dataclass
class Webhook:
    """Takes alerts, or does not."""

    status: int | None = 200
    """None: it never answers."""
    taken: list[dict[str, Any]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        self.taken.append(json.loads(await reader.readexactly(length)))
        if self.status is None:
            await reader.read()
        else:
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.status)
            await writer.drain()
        writer.close()

    @property
    def percents(self) -> list[tuple[str, int]]:
        return sorted((alert["budget"]["measure"], alert["percent"]) for alert in self.taken)


@asynccontextmanager
async def listening(webhook: Webhook) -> AsyncIterator[str]:
    server = await asyncio.start_server(webhook.serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/alerts?code=secret"


class Timer:
    """One instance's timer, at a time that tests set."""

    def __init__(self, storage: Storage, table: LimitsTable, alerts: Any, upstreams: Upstreams) -> None:
        self.now = NOON
        self.limits_table = table
        limits = Limits(table, instance="i", now=lambda: self.now)
        self.budgeting = Budgeting(
            usage=storage.usage, limits=limits, alerts=alerts, upstreams=upstreams, now=lambda: self.now
        )


@pytest.fixture
async def timers(storage: Storage, azurite: Azurite, prefix: str) -> AsyncIterator[tuple[Timer, Timer]]:
    upstreams = Upstreams(read_settings({}))
    async with TableServiceClient.from_connection_string(azurite.connection_string) as tables:
        alerts = tables.get_table_client(f"{prefix}Limits")
        table = LimitsTable(alerts)
        await table.prepare()
        yield Timer(storage, table, alerts, upstreams), Timer(storage, table, alerts, upstreams)
    await upstreams.close()


def configured(webhook: str, **limits: float) -> Configuration:
    clients = [{"id": "team/a", "limits": limits or {"tokens_per_month": 1000, "money_per_month": 10}}, {"id": "free"}]
    return parse(json.dumps({"clients": clients, "alerts": {"webhook": webhook}}), {})


async def use(storage: Storage, tokens: int, cost: str = "0", day: str = "20261121") -> None:
    row = UsageHour(hour=day, key=KEY, calls=1, completed=1, provider=1, input_tokens=tokens - 1, output_tokens=1)
    await storage.count(day, [msgspec.structs.replace(row, cost=msgspec.convert(cost, type(row.cost)))])


async def test_each_threshold_is_told_once_a_month_whoever_comes_to_it(
    storage: Storage, timers: tuple[Timer, Timer]
) -> None:
    webhook = Webhook()
    async with listening(webhook) as url:
        one, other = timers
        configuration = configured(url)
        await use(storage, 499, "4.99")
        assert await one.budgeting.run(configuration) == 0
        await use(storage, 800, "5")
        told = await asyncio.gather(one.budgeting.run(configuration), other.budgeting.run(configuration))
        assert sum(told) == 3
        assert webhook.percents == [("money_per_month", 50), ("tokens_per_month", 50), ("tokens_per_month", 80)]
        await use(storage, 2000, "10")
        await other.budgeting.run(configuration)
        await one.budgeting.run(configuration)
        assert len(webhook.percents) == len(set(webhook.percents)) == 6
        one.now = NOON + timedelta(days=10)
        await use(storage, 600, day="20261201")
        assert await one.budgeting.run(configuration) == 1
        assert webhook.taken[-1]["month"] == "2026-12"


async def test_an_alert_says_whose_budget_it_is_and_how_much_is_used(
    storage: Storage, timers: tuple[Timer, Timer]
) -> None:
    webhook = Webhook()
    async with listening(webhook) as url:
        await use(storage, 1, "8.5")
        await timers[0].budgeting.run(configured(url, money_per_month=10))
    told = {alert["percent"]: alert for alert in webhook.taken}
    assert told.keys() == {50, 80}
    budget = told[80]["budget"]
    assert (budget["client_id"], budget["used_share"], told[80]["currency"]) == ("team/a", 0.85, "USD")
    assert told[50]["id"] != told[80]["id"]


async def test_an_alert_that_is_not_taken_is_told_again_after_a_while(
    storage: Storage, timers: tuple[Timer, Timer]
) -> None:
    webhook = Webhook(status=503)
    async with listening(webhook) as url:
        one, other = timers
        configuration = configured(url, tokens_per_month=1000)
        await use(storage, 500)
        assert await one.budgeting.run(configuration) == 0
        webhook.status = 204
        assert await other.budgeting.run(configuration) == 0, "it is one's to tell, for now"
        other.now = NOON + timedelta(minutes=3)
        assert await other.budgeting.run(configuration) == 1
        assert await other.budgeting.run(configuration) == 0
        assert [alert["id"] for alert in webhook.taken] == [webhook.taken[0]["id"]] * 2


async def test_a_webhook_that_is_silent_does_not_hold_up_the_timer(
    storage: Storage, timers: tuple[Timer, Timer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for a moment and once a run, however many alerts are due; the next run begins with another."""
    monkeypatch.setattr("shared.usage.budgeting._ANSWER_S", 1.0)
    webhook = Webhook(status=None)
    async with listening(webhook) as url:
        await use(storage, 900)
        for _ in range(2):
            assert await timers[0].budgeting.run(configured(url, tokens_per_month=1000)) == 0
    assert [percent for _, percent in webhook.percents] == [50, 80]


async def test_without_a_webhook_a_threshold_is_logged_once(
    storage: Storage, timers: tuple[Timer, Timer], caplog: pytest.LogCaptureFixture
) -> None:
    await use(storage, 500)
    for timer in timers:
        await timer.budgeting.run(configured("", tokens_per_month=1000))
    said = [record for record in caplog.records if record.message == "budget threshold reached"]
    assert [(record.__dict__["client_id"], record.__dict__["percent"]) for record in said] == [("team/a", 50)]


async def test_what_the_ledger_shows_is_settled_with_the_instances(
    storage: Storage, timers: tuple[Timer, Timer]
) -> None:
    """A batch, say, is no call that any instance could count."""
    await use(storage, 700, "1.5")
    await timers[0].budgeting.run(configured(""))
    month = "month-202611"
    tokens = await timers[0].limits_table.read(Place(month, Kind.TOKENS_PER_MONTH, "team/a"))
    money = await timers[0].limits_table.read(Place(month, Kind.MONEY_PER_MONTH, "team/a"))
    assert (tokens.account.proven, money.account.proven) == (700, 1_500_000_000)


def test_the_webhook_may_be_a_setting_and_must_be_an_address() -> None:
    document = json.dumps({"alerts": {"webhook": "$HOOK"}})
    assert parse(document, {"HOOK": "https://example.com/x?code=s"}).alerts.webhook == "https://example.com/x?code=s"
    for settings, why in (({}, "HOOK"), ({"HOOK": "example"}, "no address")):
        with pytest.raises(Exception, match=why):
            parse(document, settings)
