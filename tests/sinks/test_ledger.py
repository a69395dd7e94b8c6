"""The ledger table: its lines, and the marks on hours to roll up."""

import asyncio
from datetime import timedelta

import pytest
from azure.data.tables import UpdateMode

from shared.core.call_record import Outcome
from shared.core.money.ledger import Span, entry_of
from shared.core.recording.events import Event
from shared.sinks.ledger import Dirty
from tests.emulator import Storage
from tests.examples import NOON, call_id, closed, opened

HOUR = "2026112112"


async def test_an_entry_comes_back_as_the_record_said(storage: Storage) -> None:
    await storage.ledger.write([opened(1), closed(2, end_user="ann's \u2028 grün", response_bytes=2**40)])
    assert await storage.entry(opened(1)) == entry_of(opened(1).record)
    assert await storage.entry(closed(2)) == entry_of(
        closed(2, end_user="ann's \u2028 grün", response_bytes=2**40).record
    )


async def test_whole_numbers_and_instants_have_their_type_in_the_table(storage: Storage) -> None:
    await storage.ledger.write([closed()])
    entity = await storage.ledger._table.get_entity(HOUR, closed().record.call_id)
    assert entity["InputTokens"].edm_type == "Edm.Int64"
    assert entity["OpenedAt"] == NOON
    assert "ReasoningTokens" not in entity  # unknown is no property, so that no merge erases what is known


async def test_a_batch_keeps_every_call_in_its_hour(storage: Storage) -> None:
    events: list[Event] = [opened(number) for number in range(250)]
    await storage.ledger.write([*events, *(closed(number) for number in range(120))])
    entries = await storage.entries(events[0])
    assert len({entry.call_id for entry in entries}) == len(entries) == 250
    assert sum(entry.outcome is Outcome.COMPLETED for entry in entries) == 120


async def test_every_hour_of_a_batch_is_marked_once_it_is_in(storage: Storage) -> None:
    hours: list[Event] = [closed(number, NOON + timedelta(hours=number)) for number in range(3)]
    await storage.ledger.write([*hours, *hours])
    assert await storage.dirty() == ["2026112112", "2026112113", "2026112114"]


async def test_a_mark_that_was_set_again_is_not_taken_away(storage: Storage) -> None:
    """Guards that an entry that comes while its hour is rolled up is counted."""
    await storage.ledger.mark_dirty(HOUR)
    (read,) = await storage.ledger.dirty(Span.HOUR)
    await storage.ledger.mark_dirty(HOUR)
    assert not await storage.ledger.clear_dirty(read)
    (again,) = await storage.ledger.dirty(Span.HOUR)
    assert await storage.ledger.clear_dirty(again)
    assert await storage.dirty() == []
    assert not await storage.ledger.clear_dirty(again)
    assert not await storage.ledger.clear_dirty(Dirty("2000010100", again.etag))


async def test_an_open_call_can_be_ended_as_incomplete_once(storage: Storage) -> None:
    await storage.ledger.write([opened()])
    entry = await storage.entry(opened())
    assert await storage.ledger.mark_incomplete(entry)
    assert not await storage.ledger.mark_incomplete(entry)
    ended = await storage.entry(opened())
    assert (ended.outcome, ended.usage_source, ended.input_tokens) == (Outcome.INCOMPLETE, None, None)
    assert ended.client_id == "team-blue"


async def test_a_call_that_has_ended_is_not_made_incomplete(storage: Storage) -> None:
    await storage.ledger.write([opened()])
    entry = await storage.entry(opened())
    await storage.ledger.write([closed()])
    assert not await storage.ledger.mark_incomplete(entry)
    assert await storage.entry(closed()) == entry_of(closed().record)


async def test_a_late_end_replaces_incomplete(storage: Storage) -> None:
    """Guards that a call whose end turns up is counted by it."""
    await storage.ledger.write([opened()])
    await storage.ledger.mark_incomplete(await storage.entry(opened()))
    await storage.ledger.write([opened()])
    assert (await storage.entry(opened())).outcome is Outcome.INCOMPLETE
    await storage.ledger.write([closed()])
    assert await storage.entry(closed()) == entry_of(closed().record)


async def test_a_late_end_without_usage_leaves_nothing_unknown(storage: Storage) -> None:
    """Guards that a call that has none to tell, or tells it later, is not counted as unknown because its end was late."""
    silent = closed(usage=None, usage_source=None)
    await storage.ledger.write([opened()])
    await storage.ledger.mark_incomplete(await storage.entry(opened()))
    await storage.ledger.write([silent])
    assert await storage.entry(silent) == entry_of(silent.record)


async def test_an_end_that_comes_between_reading_and_marking_wins(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.ledger.write([opened()])
    entry = await storage.entry(opened())
    table, update = storage.ledger._table, storage.ledger._table.update_entity

    async def update_after_the_end(*args: object, **kwargs: object) -> object:
        await storage.ledger.write([closed()])
        return await update(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(table, "update_entity", update_after_the_end)
    assert not await storage.ledger.mark_incomplete(entry)
    assert await storage.entry(closed()) == entry_of(closed().record)


async def test_writers_of_one_hour_do_not_harm_each_other(storage: Storage) -> None:
    await asyncio.gather(*(storage.ledger.write([opened(number), closed(number)]) for number in range(12)))
    assert {entry.outcome for entry in await storage.entries(opened())} == {Outcome.COMPLETED}
    assert len(await storage.entries(opened())) == 12


async def test_properties_that_a_later_version_adds_are_no_matter(storage: Storage) -> None:
    await storage.ledger.write([closed()])
    addition = {"PartitionKey": HOUR, "RowKey": closed().record.call_id, "NewProperty": "x"}
    await storage.ledger._table.upsert_entity(addition, UpdateMode.MERGE)
    assert await storage.entry(closed()) == entry_of(closed().record)


async def test_a_digest_makes_no_line_of_a_call_that_has_none(storage: Storage) -> None:
    """Guards that an hour can be read: a line of a digest alone would be no entry."""
    await storage.ledger.write([closed(1)])
    assert await storage.ledger.set_digest(call_id(1), "ab" * 32)
    assert not await storage.ledger.set_digest(call_id(2), "ab" * 32)
    assert [each.archive_sha256 for each in await storage.entries(closed(1))] == ["ab" * 32]
