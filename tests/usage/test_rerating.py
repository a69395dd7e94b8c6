"""Rerating: money changes, and nothing else."""

import json
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from devtools.azurite import Azurite
from shared.core.money.ledger import Span, UsageHour
from shared.core.money.prices import NO_PRICES, Price, sheet_of
from shared.core.usage import TokenUsage
from shared.usage.rerating import Rerated, rerate
from tests.devtools.test_operating import run as cli
from tests.emulator import Storage
from tests.examples import NOON, closed
from tests.usage.test_rollup import LATE, run

MONTH = timedelta(days=31)
BEFORE = sheet_of([Price(model="gpt-4o", input=Decimal(2), output=Decimal(10))], NO_PRICES, "USD")
AFTER = sheet_of(
    [
        Price(model="gpt-4o", input=Decimal(2), output=Decimal(10)),
        Price(model="gpt-4o", since=date(2026, 11, 22), input=Decimal(1), cached_input=Decimal(0), output=Decimal(10)),
        Price(model="o3", input=Decimal(3), output=Decimal(3)),
    ],
    NO_PRICES,
    "USD",
)


@pytest.fixture
async def month(storage: Storage) -> None:
    """Calls on two days, one of them of a model that has no price."""
    await storage.ledger.write(
        [
            closed(1),
            closed(2, NOON + timedelta(days=1)),
            closed(3, NOON + timedelta(days=1), model="o3", model_served="o3-2025-04-16"),
            closed(
                4, NOON + timedelta(days=1, hours=1), model="dall-e-3", model_served=None, usage=TokenUsage(images=1)
            ),
        ]
    )
    await run(storage, LATE, prices=BEFORE)


async def rows(storage: Storage, span: Span) -> list[UsageHour]:
    return [row async for row in storage.usage.rows(span, "0", "9", None)]


def without_money(rows: list[UsageHour]) -> list[UsageHour]:
    return [replace(row, cost=Decimal(0), unpriced_calls=0, price_version="") for row in rows]


async def money(storage: Storage) -> list[tuple[Decimal, int]]:
    """Cost and calls without a price, of hours, days and months."""
    found = [await rows(storage, span) for span in Span]
    return [(sum((row.cost for row in each), Decimal(0)), sum(row.unpriced_calls for row in each)) for each in found]


async def rerated(storage: Storage, first: date, days: int | None = None) -> list[Rerated]:
    done = []
    async for day in rerate(storage.ledger, storage.usage, AFTER, first=first, now=NOON + timedelta(days=2)):
        done.append(day)
        if len(done) == days:
            break
    return done


# A call of the examples has 10 input tokens, 4 of them cached, and 5 output tokens.
A_CALL = Decimal("0.00007")
CHEAPER = Decimal("0.000056")
O3 = Decimal("0.000045")


@pytest.mark.usefixtures("month")
async def test_after_a_change_of_prices_tokens_are_the_same_and_money_is_right(storage: Storage) -> None:
    before = {span: await rows(storage, span) for span in Span}
    assert await money(storage) == [(2 * A_CALL, 2)] * 3
    days = await rerated(storage, date(2026, 11, 1))
    assert await money(storage) == [(A_CALL + CHEAPER + O3, 1)] * 3, "and the image has no price still"
    for span in Span:
        after = await rows(storage, span)
        assert without_money(after) == without_money(before[span])
        assert {row.price_version for row in after} == {AFTER.version}
    assert [
        (day.day.day, day.calls, day.before.unpriced_calls, day.after.unpriced_calls) for day in days if day.calls
    ] == [
        (21, 1, 0, 0),
        (22, 3, 2, 1),
    ]


@pytest.mark.usefixtures("month")
async def test_what_was_before_the_day_keeps_its_money(storage: Storage) -> None:
    await rerated(storage, date(2026, 11, 22))
    versions = {row.hour[:8]: row.price_version for row in await rows(storage, Span.HOUR)}
    assert versions == {"20261121": BEFORE.version, "20261122": AFTER.version}
    assert {row.price_version for row in await rows(storage, Span.MONTH) if row.key.model == "gpt-4o"} == {
        ",".join(sorted([BEFORE.version, AFTER.version]))
    }


@pytest.mark.usefixtures("month")
async def test_rerating_that_is_stopped_is_finished_by_the_next_one_or_by_the_rollup(storage: Storage) -> None:
    await rerated(storage, date(2026, 11, 21), days=2)
    await run(storage, LATE, prices=AFTER)
    assert await money(storage) == [(A_CALL + CHEAPER + O3, 1)] * 3


@pytest.mark.usefixtures("month")
async def test_the_command_says_what_became_of_each_day(
    storage: Storage, azurite: Azurite, prefix: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    document = {"prices": [{"model": "gpt-4o", "input": 4, "output": 20}], "shipped_prices": False}
    for name, value in {
        "AzureWebJobsStorage": azurite.connection_string,
        "TOLLGATE_PREFIX": prefix,
        "TOLLGATE_CONFIG": json.dumps(document),
    }.items():
        monkeypatch.setenv(name, value)
    assert await cli("rerate", "--from", "2026-11-21", "--json") == 0
    (first, *_) = json.loads(capsys.readouterr().out)
    assert (first["day"], first["tokens"]) == ("2026-11-21", 15)
    assert [Decimal(first[when]["cost"]) for when in ("before", "after")] == [A_CALL, 2 * A_CALL]
    assert (await money(storage))[2] == (4 * A_CALL, 2)


async def test_prices_of_other_tools_are_printed_for_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prices.json"
    file.write_text(
        '{"azure/gpt-4o": {"litellm_provider": "azure", "input_cost_per_token": 2.5e-06},'
        ' "azure/x": {"litellm_provider": "azure"}}'
    )
    assert await cli("prices", "import", str(file), "--since", "2026-07-01") == 0
    printed = capsys.readouterr()
    assert printed.out == '[[prices]]\nmodel = "gpt-4o"\nsince = 2026-07-01\ninput = 2.5\n'
    assert "left out: azure/x" in printed.err
    assert await cli("prices", "import", str(file), "--provider", "openai") == 1
    assert "no price of openai" in capsys.readouterr().err
    file.write_text("[[prices]]")
    assert await cli("prices", "import", str(file)) == 1
