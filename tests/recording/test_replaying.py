"""What was recorded is recorded once more: what was lost comes back, and what is right is not changed."""

from shared.core.recording.events import encode
from shared.recording.replaying import Replayed, replay_archive, replay_quarantine
from tests.emulator import Storage
from tests.examples import NOON, closed
from tests.recording.test_recording import ListSink, recorder

DAY = NOON.date()


async def test_the_ledger_and_data_explorer_come_back_from_the_archive(storage: Storage) -> None:
    clients = {1: "team-blue", 2: "team-red", 3: "team-blue"}
    await recorder(storage).record([encode(closed(number, client_id=who)) for number, who in clients.items()])
    before = await storage.entries(closed())
    for entry in before:
        await storage.ledger._table.delete_entity(entry.hour, entry.call_id)
    explorer = ListSink()
    again = recorder(storage, storage.archive, storage.ledger, explorer)
    assert await replay_archive(storage.archive, again, DAY, DAY, client_id="team-blue") == Replayed(taken=2, left=0)
    assert [each.client_id for each in await storage.entries(closed())] == ["team-blue", "team-blue"]
    await replay_archive(storage.archive, again, DAY, DAY, client_id=None)
    await replay_archive(storage.archive, again, DAY, DAY, client_id=None)
    assert await storage.entries(closed()) == before
    assert {event.record.call_id for event in explorer.events} == {entry.call_id for entry in before}


async def test_what_cannot_be_read_is_counted_and_stops_nothing(storage: Storage) -> None:
    await recorder(storage).record([encode(closed(1))])
    await storage.archive.put_content(closed(2).record.call_id, b"{broken")
    again = recorder(storage, storage.archive, storage.ledger)
    assert await replay_archive(storage.archive, again, DAY, DAY, client_id=None) == Replayed(taken=1, left=1)


async def test_what_is_still_not_understood_stays_quarantined(storage: Storage) -> None:
    await recorder(storage).record([b"{broken"])
    await storage.quarantine.put(encode(closed(1)), "a defect that is mended")
    assert await replay_quarantine(storage.quarantine, recorder(storage)) == Replayed(taken=1, left=1)
    assert (await storage.quarantined()).keys() == {b"{broken"}
    assert await storage.entry(closed(1))
