"""The usage table."""

from typing import Any

import msgspec
import pytest

from shared.core.money.ledger import UsageHour, UsageKey
from tests.emulator import Storage

KEY = UsageKey(
    client_id="team-blue", cost_center="cc", operation="chat.completions", model="m", model_served="", deployment=""
)
HOUR = "2026112112"


def row(hour: str = HOUR, calls: int = 1, **key: str) -> UsageHour:
    return UsageHour(hour=hour, key=msgspec.structs.replace(KEY, **key), calls=calls, input_tokens=2**40)


async def stored(storage: Storage, *span: Any) -> list[UsageHour]:
    rows = [each async for each in storage.usage.hours(*(span or ("0", "9", None)))]
    return sorted(rows, key=lambda each: (each.hour, each.key))


async def test_rows_come_back_as_they_were(storage: Storage) -> None:
    rows = sorted([row(), row(client_id="o'hara & söhne"), row(model="x" * 200)], key=lambda each: each.key)
    await storage.count(HOUR, rows)
    assert await stored(storage) == rows


async def test_an_hour_that_is_written_again_is_what_was_written_last(storage: Storage) -> None:
    await storage.count(HOUR, [row(calls=1), row(calls=2, model="gone")])
    await storage.count(HOUR, [row(calls=3), row(calls=4, model="new")])
    await storage.count(HOUR, [row(calls=3), row(calls=4, model="new")])
    assert await stored(storage) == [row(calls=3), row(calls=4, model="new")]
    await storage.count(HOUR, [])
    assert await stored(storage) == []


async def test_an_hour_may_have_more_rows_than_a_transaction(storage: Storage) -> None:
    rows = [row(client_id=f"client-{number:03}") for number in range(230)]
    await storage.count(HOUR, rows)
    assert await stored(storage) == rows
    await storage.count(HOUR, rows[:3])
    assert await stored(storage) == rows[:3]


async def test_replacing_an_hour_leaves_the_others(storage: Storage) -> None:
    await storage.count("2026112111", [row("2026112111")])
    await storage.count(HOUR, [row()])
    await storage.count(HOUR, [])
    assert await stored(storage) == [row("2026112111")]


SPANS = {
    "up to but not including the end": (("2026112110", "2026112112", None), ["2026112110", "2026112111"]),
    "nothing": (("2026112112", "2026112112", None), []),
    "across months": (("2026103123", "2026112111", None), ["2026103123", "2026112110"]),
    "of one client": (("0", "9", "team-red"), ["2026112111"]),
    "of a client with a quote": (("0", "9", "o'hara' or 1 eq 1 or '"), []),
}


@pytest.mark.parametrize(("span", "hours"), SPANS.values(), ids=SPANS.keys())
async def test_usage_is_found_by_hours_and_client(
    storage: Storage, span: tuple[str, str, str | None], hours: list[str]
) -> None:
    for hour in ("2026103123", "2026112110", "2026112112"):
        await storage.count(hour, [row(hour)])
    await storage.count("2026112111", [row("2026112111", client_id="team-red")])
    assert [each.hour for each in await stored(storage, *span)] == hours
