"""What every sink promises. A sink that is not in SINKS is not tested; tests/test_architecture.py finds it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

import pytest

from devtools.kusto import KustoServer
from shared.core.recording.events import Record
from shared.sinks import Sink
from shared.sinks.archive import Archive
from shared.sinks.data_explorer import DataExplorer
from shared.sinks.ledger import Ledger
from tests.cluster import cluster, explorer
from tests.emulator import Storage
from tests.examples import NOON, closed, opened

pytestmark = pytest.mark.filterwarnings(r"ignore:datetime\.datetime\.utcnow:DeprecationWarning:azure\.kusto")


@dataclass(frozen=True)
class Stores(Storage):
    """The parts that keep, Data Explorer among them."""

    explorer: DataExplorer
    kusto: KustoServer


@pytest.fixture(scope="module")
async def kusto(anyio_backend: str) -> AsyncIterator[KustoServer]:
    async with cluster() as server:
        yield server


@pytest.fixture
async def storage(storage: Storage, kusto: KustoServer) -> AsyncIterator[Stores]:
    kusto.clear("CallRecords")
    async with explorer(kusto.url) as sink:
        yield _stores(storage, sink, kusto)


@pytest.fixture
async def storage_away(storage_away: Storage, kusto: KustoServer) -> AsyncIterator[Stores]:
    kusto.faults.unavailable = True
    async with explorer(kusto.url) as sink:
        yield _stores(storage_away, sink, kusto)
    kusto.faults.unavailable = False


def _stores(storage: Storage, sink: DataExplorer, server: KustoServer) -> Stores:
    parts = {field.name: getattr(storage, field.name) for field in fields(storage)}
    return Stores(**parts, explorer=sink, kusto=server)


@dataclass(frozen=True)
class Kind:
    """A sink, and all that it has kept of some calls: equal where the same is kept."""

    of: Callable[[Stores], Sink]
    kept: Callable[[Stores, list[Record]], Awaitable[Any]]


async def _archived(storage: Stores, events: list[Record]) -> Any:
    return {event.record.call_id: await storage.archive.get(event.record.call_id) for event in events}


async def _entries(storage: Stores, events: list[Record]) -> Any:
    return {event.record.call_id: await storage.entry(event) for event in events}


async def _rows(storage: Stores, events: list[Record]) -> Any:
    rows = {row["CallId"]: row for row in storage.kusto.query("Calls")}
    return {event.record.call_id: rows.get(event.record.call_id) for event in events}


SINKS: dict[type[Any], Kind] = {
    Archive: Kind(lambda storage: storage.archive, _archived),
    Ledger: Kind(lambda storage: storage.ledger, _entries),
    DataExplorer: Kind(lambda storage: storage.explorer, _rows),
}

sinks = pytest.mark.parametrize("kind", SINKS.values(), ids=[sink.__name__ for sink in SINKS])

ORDERS: dict[str, list[list[Record]]] = {
    "once, in one batch": [[opened(), closed()]],
    "in two batches": [[opened()], [closed()]],
    "closed only": [[closed()]],
    "the same batch twice": [[opened(), closed()], [opened(), closed()]],
    "opened after closed": [[closed()], [opened()]],
    "opened after closed, in one batch": [[closed(), opened()]],
    "closed twice": [[opened()], [closed()], [closed()]],
    "closed twice, in one batch": [[closed(), closed(), opened(), closed()]],
    "everything again, the other way round": [[opened(), closed()], [closed(), opened()], [opened()]],
}


@sinks
async def test_an_empty_batch_keeps_nothing(kind: Kind, storage: Stores) -> None:
    await kind.of(storage).write([])
    assert await storage.dirty() == []


@sinks
@pytest.mark.parametrize("batches", ORDERS.values(), ids=ORDERS.keys())
async def test_no_order_and_no_repetition_changes_what_is_kept(
    kind: Kind, batches: list[list[Record]], storage: Stores
) -> None:
    """Guards that writing is idempotent by call id: replaying any part of the log changes nothing."""
    sink = kind.of(storage)
    for batch in batches:
        await sink.write(batch)
    kept = await kind.kept(storage, [closed()])
    await sink.write([closed()])
    assert kept == await kind.kept(storage, [closed()])
    assert kept[closed().record.call_id] is not None
    await sink.write([opened()])
    assert kept == await kind.kept(storage, [closed()])


@sinks
async def test_a_batch_may_span_hours_and_hold_any_number_of_calls(kind: Kind, storage: Stores) -> None:
    events: list[Record] = [closed(number) for number in range(120)]
    events += [closed(number, NOON + timedelta(hours=number)) for number in range(1, 4)]
    await kind.of(storage).write(events)
    some = [events[0], events[99], events[100], events[119], *events[-3:]]
    kept = await kind.kept(storage, some)
    assert len(kept) == len(some)
    assert None not in kept.values()


@sinks
async def test_a_store_that_is_away_raises_so_that_the_batch_comes_again(kind: Kind, storage_away: Stores) -> None:
    with pytest.raises((Exception, ExceptionGroup), match=r".+"):
        await kind.of(storage_away).write([closed()])


@sinks
async def test_preparing_again_changes_nothing(kind: Kind, storage: Stores) -> None:
    sink = kind.of(storage)
    await sink.write([opened(), closed()])
    before = await kind.kept(storage, [closed()])
    await sink.prepare()
    assert await kind.kept(storage, [closed()]) == before


def test_each_sink_has_a_name_of_its_own() -> None:
    assert len({sink.name for sink in SINKS}) == len(SINKS)
