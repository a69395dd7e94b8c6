"""Searching the ledger."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from shared.core.call_record import Outcome
from shared.core.errors import BadRequest
from shared.core.parameters import Parameters
from shared.core.reports.call_query import CallPage, CallQuery, parse_call_query
from shared.usage import call_search
from shared.usage.call_search import CallSearch
from tests.emulator import Storage
from tests.examples import NOON, call_id, closed, opened

NOW = NOON + timedelta(hours=1)


def query(owner: str | None = None, **parameters: object) -> CallQuery:
    return parse_call_query(Parameters.of(urlencode(parameters)), NOW, owner)


async def found(storage: Storage, owner: str | None = None, **parameters: object) -> list[str]:
    page = await CallSearch(storage.ledger._table).newest(query(owner, **parameters))
    return [entry.call_id for entry in page.data]


ANN = closed(1, NOON - timedelta(days=3), end_user="ann", caller_ip="203.0.113.8")
O_HARA = closed(2, NOON - timedelta(minutes=90), end_user="o'hara", model="gpt-5", model_served="gpt-5-2026")
RED = closed(3, NOON - timedelta(minutes=1), client_id="team-red", cost_center="cc-2", deployment="west")
FAILED = closed(4, NOON, outcome=Outcome.UPSTREAM_ERROR, operation="responses", upstream="fabrikam")
UNDER_WAY = opened(5, NOON + timedelta(milliseconds=1))
ALL = [each.record.call_id for each in (UNDER_WAY, FAILED, RED, O_HARA, ANN)]

FILTERS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "everything, newest first": ({}, [UNDER_WAY, FAILED, RED, O_HARA, ANN]),
    "a client": ({"client_id": "team-red"}, [RED]),
    "a cost center": ({"cost_center": "cc-2"}, [RED]),
    "a person": ({"end_user": "ann"}, [ANN]),
    "a person with a quote": ({"end_user": "o'hara"}, [O_HARA]),
    "an address": ({"caller_ip": "203.0.113.8"}, [ANN]),
    "the model that was asked for": ({"model": "gpt-5"}, [O_HARA]),
    "the model that served": ({"model": "gpt-5-2026"}, [O_HARA]),
    "a deployment": ({"deployment": "west"}, [RED]),
    "an upstream": ({"upstream": "fabrikam"}, [FAILED]),
    "an operation": ({"operation": "responses"}, [FAILED]),
    "an outcome": ({"outcome": "upstream_error"}, [FAILED]),
    "calls under way": ({"outcome": "open"}, [UNDER_WAY]),
    "several at once": ({"outcome": "completed", "client_id": "team-blue", "model": "gpt-4o"}, [ANN]),
    "a start": ({"start": NOON.isoformat()}, [UNDER_WAY, FAILED]),
    "an end that is not in it": ({"end": NOON.isoformat()}, [RED, O_HARA, ANN]),
    "nothing in a span that ends before it starts": ({"start": NOON.isoformat(), "end": "2026-01-01"}, []),
    "nobody": ({"client_id": "open"}, []),
    "for ever": ({"start": "0001-01-01", "end": "9999-12-31", "end_user": "ann"}, [ANN]),
}


@pytest.mark.parametrize(("parameters", "expected"), FILTERS.values(), ids=FILTERS.keys())
async def test_calls_are_found_by_what_is_known_of_them(
    storage: Storage, parameters: dict[str, Any], expected: list[Any]
) -> None:
    await storage.ledger.write([ANN, O_HARA, RED, FAILED, UNDER_WAY])
    assert await found(storage, **parameters) == [event.record.call_id for event in expected]


async def test_a_client_finds_its_own_calls_whatever_it_asks_for(storage: Storage) -> None:
    await storage.ledger.write([ANN, RED])
    assert await found(storage, "team-red") == [RED.record.call_id]
    assert await found(storage, "team-red", client_id="team-blue") == []
    assert await found(storage, "' or ClientId ne '", end_user="ann") == []


async def pages(storage: Storage, limit: int, **parameters: object) -> list[CallPage]:
    """Every page, one after another."""
    search, all_pages = CallSearch(storage.ledger._table), []
    after: dict[str, object] = {}
    while not all_pages or all_pages[-1].has_more:
        all_pages.append(await search.newest(query(limit=limit, **parameters, **after)))
        after = {"after": all_pages[-1].last_id}
    return all_pages


@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
async def test_pages_hold_every_call_once(storage: Storage, limit: int) -> None:
    await storage.ledger.write([ANN, O_HARA, RED, FAILED, UNDER_WAY])
    read = await pages(storage, limit)
    assert [entry.call_id for page in read for entry in page.data] == ALL
    assert all(len(page.data) <= limit for page in read)


async def test_calls_of_one_millisecond_are_not_lost_between_pages(storage: Storage) -> None:
    await storage.ledger.write([closed(number) for number in range(7)])
    read = await pages(storage, 3)
    assert [entry.call_id for page in read for entry in page.data] == [call_id(number) for number in reversed(range(7))]


async def test_a_crowded_hour_is_read_in_part_only(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards that a page costs what it holds, not what its hour holds."""
    monkeypatch.setattr(call_search, "_MOST", 20)
    await storage.ledger.write([closed(number, NOON + timedelta(seconds=number)) for number in range(400)])
    with counted_reads(storage) as reads:
        newest = await found(storage, limit=5)
    assert newest == [call_id(number, NOON + timedelta(seconds=number)) for number in range(399, 394, -1)]
    assert max(reads) <= 21
    assert sum(reads) < 200
    everything = await pages(storage, 50)
    assert sum(len(page.data) for page in everything) == 400


async def test_empty_months_are_passed_over_in_a_few_steps(storage: Storage) -> None:
    old = closed(1, NOON - timedelta(days=500))
    await storage.ledger.write([old])
    with counted_reads(storage) as reads:
        assert await found(storage, start="2020-01-01") == [old.record.call_id]
    assert len(reads) < 20


@contextmanager
def counted_reads(storage: Storage) -> Iterator[list[int]]:
    """How many entities each query was given."""
    table, reads = storage.ledger._table, list[int]()
    query_entities = table.query_entities

    async def counting(*arguments: Any, **options: Any) -> Any:
        reads.append(0)
        async for entity in query_entities(*arguments, **options):
            reads[-1] += 1
            yield entity

    table.query_entities = counting  # type: ignore[method-assign, assignment]
    try:
        yield reads
    finally:
        table.query_entities = query_entities  # type: ignore[method-assign]


async def test_the_oldest_come_first_in_an_export(storage: Storage) -> None:
    await storage.ledger.write([ANN, O_HARA, RED, FAILED, UNDER_WAY])
    entries = CallSearch(storage.ledger._table).oldest(query(limit=1, outcome="completed"))
    assert [entry.call_id async for entry in entries] == [each.record.call_id for each in (ANN, O_HARA, RED)]


BAD = {
    "a page after no id": ("after", "yesterday"),
    "no outcome": ("outcome", "finished"),
    "a limit of none": ("limit", "0"),
    "a limit of too many": ("limit", "1001"),
    "no instant": ("start", "monday"),
}


@pytest.mark.parametrize(("name", "value"), BAD.values(), ids=BAD.keys())
def test_a_search_that_cannot_be_understood_names_its_parameter(name: str, value: str) -> None:
    with pytest.raises(BadRequest) as caught:
        query(**{name: value})
    assert caught.value.param == name


def test_a_search_without_a_span_is_of_the_last_31_days() -> None:
    asked = query()
    assert (asked.start, asked.end) == (NOW - timedelta(days=31), NOW)
    assert query(end="1970-01-05").start == datetime(1970, 1, 1, tzinfo=NOW.tzinfo)
