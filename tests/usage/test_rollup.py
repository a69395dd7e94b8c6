"""The rollup: whatever comes between its steps, no call is lost and none is counted twice."""

import contextlib
import copy
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, override

import pytest
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient

from shared.core.call_record import Outcome
from shared.core.money.ledger import Span, UsageEntry, UsageHour
from shared.core.money.prices import NO_PRICES, Price, PriceSheet, sheet_of
from shared.core.recording.events import Event
from shared.recording.recorder import Recorder
from shared.sinks.ledger import Dirty, Ledger
from shared.usage import rollup
from shared.usage.table import Stored, UsageTable
from tests.emulator import Storage
from tests.examples import NOON, archived, closed, opened

HOUR, NEXT = "2026112112", "2026112113"
SHEET = sheet_of([Price(model="gpt-4o", input=Decimal(2), output=Decimal(10))], NO_PRICES, "USD")
GRACE = timedelta(minutes=35)
SOON, LATE = NOON + timedelta(minutes=1), NOON + timedelta(minutes=36)


async def run(
    storage: Storage,
    now: datetime = SOON,
    *,
    ledger: Ledger | None = None,
    usage: UsageTable | None = None,
    prices: PriceSheet = SHEET,
) -> int:
    recorder = Recorder(
        archive=storage.archive,
        sinks=(storage.archive, storage.ledger),
        quarantine=storage.quarantine,
        shelf=storage.shelf,
    )
    return await rollup.run(
        ledger or storage.ledger,
        usage or storage.usage,
        recorder.recover,
        prices,
        now=now,
        incomplete_after=GRACE,
    )


async def usage(storage: Storage) -> list[UsageHour]:
    return sorted([row async for row in storage.usage.hours("0", "9", None)], key=lambda row: (row.hour, row.key))


async def calls(storage: Storage) -> dict[str, int]:
    """Calls by hour."""
    hours: dict[str, int] = {}
    for row in await usage(storage):
        hours[row.hour] = hours.get(row.hour, 0) + row.calls
    return hours


class Interrupted(Ledger):
    """A ledger into which something comes at the worst moment: once, before a mark is cleared or after entries were read."""

    def __init__(self, storage: Storage, event: Event, *, after_reading: bool) -> None:
        super().__init__(storage.ledger._table)
        self._storage, self._event, self._after_reading = storage, event, after_reading
        self._is_due = True

    async def _comes(self) -> None:
        if self._is_due:
            self._is_due = False
            await self._storage.ledger.write([self._event])

    @override
    async def lines(self, hour: str) -> AsyncIterator[UsageEntry]:
        async for entry in super().lines(hour):
            yield entry
        if self._after_reading:
            await self._comes()

    @override
    async def clear_dirty(self, dirty: Dirty) -> bool:
        await self._comes()
        return await super().clear_dirty(dirty)


async def test_every_marked_hour_is_counted_and_its_mark_goes(storage: Storage) -> None:
    await storage.ledger.write([closed(1), closed(2), closed(3, NOON + timedelta(hours=1))])
    assert await run(storage) == 2
    assert await calls(storage) == {HOUR: 2, NEXT: 1}
    assert await storage.dirty() == []


async def test_without_marks_there_is_nothing_to_do(storage: Storage) -> None:
    assert await run(storage) == 0
    assert await usage(storage) == []


async def test_counting_again_changes_nothing(storage: Storage) -> None:
    """Guards that a rollup may stop anywhere and start again."""
    await storage.ledger.write([opened(1), closed(1), closed(2, client_id="team-red")])
    await run(storage)
    before = await usage(storage)
    await storage.ledger.mark_dirty(HOUR)
    await run(storage)
    assert await usage(storage) == before


async def test_a_call_that_is_told_again_is_counted_once(storage: Storage) -> None:
    await storage.ledger.write([opened(1), closed(1)])
    await run(storage)
    before = await usage(storage)
    await storage.ledger.write([closed(1), opened(1), closed(1)])
    await run(storage)
    assert await usage(storage) == before


async def test_a_late_entry_opens_only_its_own_hour_again(storage: Storage) -> None:
    await storage.ledger.write([closed(1), closed(2, NOON + timedelta(hours=1))])
    await run(storage)
    await storage.ledger.write([closed(3)])
    assert await storage.dirty() == [HOUR]
    assert await run(storage) == 1
    assert await calls(storage) == {HOUR: 2, NEXT: 1}


async def test_an_open_call_keeps_its_hour_marked_until_it_ends(storage: Storage) -> None:
    await storage.ledger.write([opened(1), closed(2)])
    await run(storage)
    assert sum(row.open for row in await usage(storage)) == 1
    assert await storage.dirty() == [HOUR]
    await storage.ledger.write([closed(1)])
    await run(storage)
    assert [(row.calls, row.open, row.completed) for row in await usage(storage)] == [(2, 0, 2)]
    assert await storage.dirty() == []


async def test_a_call_that_stays_open_too_long_is_incomplete(storage: Storage) -> None:
    """Guards that every call that was forwarded ends as one entry."""
    await storage.ledger.write([opened(1)])
    await run(storage, NOON + GRACE)
    assert (await storage.entry(opened(1))).outcome is None
    await run(storage, LATE)
    assert (await storage.entry(opened(1))).outcome is Outcome.INCOMPLETE
    assert [(row.incomplete, row.open, row.usage_unknown) for row in await usage(storage)] == [(1, 0, 1)]
    assert await storage.dirty() == []


async def test_a_call_whose_end_got_no_further_than_the_archive_ends_as_it_says(storage: Storage) -> None:
    """A large call is archived ahead of its event, and the gateway may be killed in between."""
    await storage.ledger.write([opened(1), opened(2)])
    await storage.archive.put(archived(1))
    await run(storage)
    assert (await storage.entry(opened(1))).outcome is None, "it may not have ended yet"
    await run(storage, LATE)
    assert [(row.completed, row.incomplete, row.input_tokens) for row in await usage(storage)] == [
        (0, 1, 0),
        (1, 0, 10),
    ]
    await run(storage, LATE)
    assert await storage.dirty() == []


async def test_an_end_that_turns_up_replaces_incomplete(storage: Storage) -> None:
    await storage.ledger.write([opened(1)])
    await run(storage, LATE)
    await storage.ledger.write([closed(1)])
    assert await run(storage, LATE) == 1
    assert [(row.completed, row.incomplete, row.input_tokens) for row in await usage(storage)] == [(1, 0, 10)]


async def test_rows_of_keys_that_no_call_has_any_more_go(storage: Storage) -> None:
    """An open call has no deployment yet; once it has, its row is another one."""
    await storage.ledger.write([opened(1)])
    await run(storage)
    assert [row.key.deployment for row in await usage(storage)] == [""]
    await storage.ledger.write([closed(1)])
    await run(storage)
    assert [row.key.deployment for row in await usage(storage)] == ["east"]


@pytest.mark.parametrize("after_reading", [True, False])
async def test_an_entry_that_comes_while_its_hour_is_counted_keeps_the_mark(
    storage: Storage, *, after_reading: bool
) -> None:
    """Guards that an hour without a mark is counted whole."""
    await storage.ledger.write([closed(1)])
    ledger = Interrupted(storage, closed(2), after_reading=after_reading)
    await run(storage, ledger=ledger)
    assert await storage.dirty() == [HOUR]
    await run(storage)
    assert await calls(storage) == {HOUR: 2}
    assert await storage.dirty() == []


class Overtaken(Ledger):
    """A ledger whose hour another rollup counts, with one entry more, after this one has read it."""

    def __init__(self, storage: Storage, event: Event) -> None:
        super().__init__(storage.ledger._table)
        self._storage, self._event = storage, event

    @override
    async def lines(self, hour: str) -> AsyncIterator[UsageEntry]:
        async for entry in super().lines(hour):
            yield entry
        await self._storage.ledger.write([self._event])
        await run(self._storage)
        assert await self._storage.dirty() == []


async def test_a_rollup_that_another_one_overtook_writes_nothing(storage: Storage) -> None:
    """What it would write is older than what the other one did; and it may be killed before it could mend that."""
    await storage.ledger.write([closed(1)])
    await run(storage, ledger=Overtaken(storage, closed(2)))
    assert await calls(storage) == {HOUR: 2}
    assert await storage.dirty() == []


class _OvertakenTable(UsageTable):
    """A table into which another rollup writes whatever this one wants to replace."""

    @override
    async def replace(self, stored: Stored, rows: Sequence[UsageHour]) -> bool:
        assert await UsageTable(self._table).replace(stored, rows)
        return await super().replace(stored, rows)


async def test_a_rollup_that_another_one_overtook_does_not_say_up_to_when_it_is_counted(storage: Storage) -> None:
    """The other one may have read the ledger before this one began."""
    await storage.ledger.write([closed(1)])
    await run(storage, usage=_OvertakenTable(storage.usage._table))
    assert await storage.usage.watermark() is None
    await run(storage)
    assert await storage.usage.watermark() == SOON


async def test_an_hour_that_cannot_be_counted_stops_no_other(storage: Storage) -> None:
    """Guards that one line which this version cannot read does not end all usage. The watermark says that something is left."""
    await storage.ledger.write([closed(1), closed(2, NOON + timedelta(hours=1))])
    line = {"PartitionKey": HOUR, "RowKey": closed(1).record.call_id}
    await storage.ledger._table.upsert_entity(line | {"Outcome": "of tomorrow"}, UpdateMode.MERGE)
    with pytest.raises(ExceptionGroup, match="left for the next run"):
        await run(storage)
    assert await calls(storage) == {NEXT: 1}
    assert await sums(storage, Span.MONTH) == {"202611": (1, 10)}
    assert await storage.dirty() == [HOUR]
    assert await storage.usage.watermark() is None


async def sums(storage: Storage, span: Span) -> dict[str, tuple[int, int]]:
    """Calls and input tokens by period."""
    rows = [row async for row in storage.usage.rows(span, "0", "9", None)]
    periods = sorted({row.hour for row in rows})
    return {
        period: (
            sum(row.calls for row in rows if row.hour == period),
            sum(row.input_tokens for row in rows if row.hour == period),
        )
        for period in periods
    }


async def test_days_and_months_are_the_sums_of_their_hours(storage: Storage) -> None:
    day, month = timedelta(days=1), timedelta(days=30)
    times = [NOON, NOON + timedelta(hours=1), NOON + day, NOON + month]
    await storage.ledger.write([closed(number, at) for number, at in enumerate(times)])
    await run(storage)
    assert await sums(storage, Span.DAY) == {"20261121": (2, 20), "20261122": (1, 10), "20261221": (1, 10)}
    assert await sums(storage, Span.MONTH) == {"202611": (3, 30), "202612": (1, 10)}
    assert await storage.usage.watermark() == SOON


async def test_a_late_entry_reaches_the_day_and_the_month_of_its_hour(storage: Storage) -> None:
    await storage.ledger.write([closed(1), closed(2, NOON + timedelta(days=1))])
    await run(storage)
    await storage.ledger.write([closed(3)])
    await run(storage, LATE)
    assert await sums(storage, Span.DAY) == {"20261121": (2, 20), "20261122": (1, 10)}
    assert await sums(storage, Span.MONTH) == {"202611": (3, 30)}
    watermarks = {row.hour: row.watermark async for row in storage.usage.rows(Span.DAY, "0", "9", None)}
    assert watermarks == {"20261121": LATE, "20261122": SOON}


class _KilledError(Exception):
    """The process ends here."""


def _mortal(table: TableClient, lives: Iterator[int]) -> TableClient:
    """A client of the same table that dies of a write when there are no lives left."""
    twin = copy.copy(table)
    for name in ("submit_transaction", "upsert_entity"):
        write = getattr(table, name)

        async def dying(*args: Any, write: Any = write, **kwargs: Any) -> Any:
            if next(lives, None) is None:
                raise _KilledError
            return await write(*args, **kwargs)

        setattr(twin, name, dying)
    return twin


@pytest.mark.parametrize("step", range(12))
async def test_a_rollup_that_is_killed_at_any_step_loses_nothing(storage: Storage, step: int) -> None:
    """Guards that stopping anywhere and starting again is safe: each write is one step, and the last is that all is done."""
    await storage.ledger.write([closed(1), closed(2, NOON + timedelta(hours=1))])
    lives = iter(range(step))
    ledger, table = Ledger(_mortal(storage.ledger._table, lives)), _mortal(storage.usage._table, lives)
    with contextlib.suppress(_KilledError):
        await run(storage, ledger=ledger, usage=UsageTable(table))
    await run(storage)
    assert await calls(storage) == {HOUR: 1, NEXT: 1}
    assert await sums(storage, Span.MONTH) == {"202611": (2, 20)}
    assert [await storage.ledger.dirty(span) for span in Span] == [[], [], []]


async def test_a_rollup_that_fails_leaves_the_mark(storage: Storage, storage_away: Storage) -> None:
    await storage.ledger.write([closed(1)])
    with pytest.raises(Exception, match=r".+"):
        await run(storage, usage=storage_away.usage)
    assert await storage.dirty() == [HOUR]


async def test_money_is_counted_with_the_hour_and_added_up_with_it(storage: Storage) -> None:
    """A call of the examples has 10 input tokens and 5 output tokens."""
    await storage.ledger.write(
        [closed(1), closed(2, NOON + timedelta(hours=1)), closed(3, model="x", model_served="y")]
    )
    await run(storage)
    for span in Span:
        rows = [row async for row in storage.usage.rows(span, "0", "9", None)]
        assert sum(row.cost for row in rows) == 2 * Decimal("0.00007")
        assert sum(row.unpriced_calls for row in rows) == 1
        assert {row.price_version for row in rows} == {SHEET.version}


async def test_hours_of_provisioned_throughput_are_counted_whether_they_are_used_or_not(storage: Storage) -> None:
    month = Price(deployment="east", provisioned_month=Decimal(7200))  # 10 an hour
    prices = sheet_of([month], NO_PRICES, "USD")
    await storage.ledger.write([closed(1), closed(2, client_id="team-red")])
    await run(storage, prices=prices)
    await run(storage, NOON + timedelta(hours=2), prices=prices)
    paid = {(row.hour, row.key.client_id): row.cost for row in await usage(storage)}
    assert paid == {(HOUR, "team-blue"): 5, (HOUR, "team-red"): 5, (NEXT, ""): 10, ("2026112114", ""): 10}
    await storage.ledger.write([closed(3, NOON + timedelta(hours=1))])
    await run(storage, NOON + timedelta(hours=2), prices=prices)
    (used,) = [row for row in await usage(storage) if row.hour == NEXT]
    assert (used.key.client_id, used.cost) == ("team-blue", 10), "who used it has it, and nobody has it too"
