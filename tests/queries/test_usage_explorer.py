"""Usage read from Data Explorer: the same rows as the rollup's, from the same calls, by the shipped functions."""

from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from devtools.kusto import KustoServer
from shared.core.call_record import CallRecord, Outcome, UsageSource
from shared.core.errors import NotReady
from shared.core.money.deferred import BatchUsage, Deferred, parse_batch
from shared.core.money.ledger import Span, UsageHour, add_up, entry_of, hours_since, roll_up
from shared.core.money.prices import NO_PRICES, Price, PriceSheet, sheet_of
from shared.core.money.pricing import rated
from shared.core.recording.events import Closed
from shared.core.usage import TokenUsage
from shared.usage.explorer import UsageExplorer
from tests.cluster import cluster, explorer
from tests.examples import NOON, call_id, closed
from tests.queries.conftest import CALLS, attempt

PRICES = sheet_of(
    (
        Price(model="gpt-4o", input=Decimal("2.5"), cached_input=Decimal("1.25"), output=Decimal(10)),
        Price(model="ptu", deployment="west", provisioned_month=Decimal(7200)),
    ),
    NO_PRICES,
    "USD",
)


def a_batch() -> list[CallRecord]:
    """What the timer records of a batch."""
    made = Deferred(
        object_id="batch_1", call_id=call_id(300), client_id="team-blue", cost_center="cc", operation="batches.create",
        upstream="simulator",
    )  # fmt: skip
    batch = parse_batch(b'{"status":"completed"}')
    usage = BatchUsage(batch)
    usage.add(
        b'{"response":{"status_code":200,"body":{"model":"gpt-4o","usage":{"prompt_tokens":9,"completion_tokens":1}}}}'
    )
    usage.add(b"not told")
    return usage.records(made, batch)


EDGES = (0, 1, 31, 32, 33, 63, 64, 65, 999, 1023, 1024, 60_000, 1_799_999, 2**31 - 1, 2**31)
"""Milliseconds at which buckets begin and end."""
MORE = [
    *(closed(number, NOON, duration_ms=ms, first_byte_ms=None) for number, ms in enumerate(EDGES, 100)),
    closed(200, NOON + timedelta(days=1), usage_source=UsageSource.DRAINED, outcome=Outcome.CLIENT_CLOSED),
    closed(201, NOON + timedelta(days=20), attempts=(attempt("east", 503), attempt("west", 503), attempt("east", 200))),
    closed(202, NOON + timedelta(hours=3), tier="batch", region=None, model_served=None, deployment=None),
    closed(203, NOON, operation="images.generate", usage=TokenUsage(images=3, image_output_tokens=7), tier="hd/1x1"),
    *(Closed(record=record) for record in a_batch()),
]
EVENTS: tuple[Closed, ...] = (*CALLS, *MORE)
NOW = NOON + timedelta(days=22)
"""The last call was two days ago: an hour of provisioned throughput costs money all the same."""


@pytest.fixture(scope="module")
async def server(anyio_backend: str) -> AsyncIterator[KustoServer]:
    async with cluster() as started, explorer(started.url) as sink:
        await sink.write(EVENTS)
        await sink.write(EVENTS[:3])
        yield started


def rolled_up(sheet: PriceSheet = PRICES) -> list[UsageHour]:
    """What the rollup makes of the same calls."""
    entries = [entry_of(event.record) for event in EVENTS]
    first = datetime.strptime(min(entry.hour for entry in entries), "%Y%m%d%H").replace(tzinfo=UTC)
    hours: dict[str, list[Any]] = {hour: [] for hour in hours_since(first - timedelta(hours=1), NOW)}
    for entry in entries:
        hours[entry.hour].append(entry)
    return [row for hour in sorted(hours) for row in rated(sheet, hour, roll_up(hour, hours[hour]))]


def summed(span: Span) -> list[UsageHour]:
    periods: dict[str, list[UsageHour]] = defaultdict(list)
    for row in rolled_up():
        periods[row.hour[: span.value]].append(row)
    return [row for period in sorted(periods) for row in add_up(period, periods[period])]


async def read(server: KustoServer, span: Span, start: str, end: str, client_id: str | None = None) -> list[UsageHour]:
    source = UsageExplorer(server.url, server.database, lambda: PRICES, lambda: NOW)
    return [row async for row in source.rows(span, start, end, client_id)]


@pytest.mark.parametrize("span", list(Span))
async def test_the_same_calls_give_the_same_rows_as_the_rollup(server: KustoServer, span: Span) -> None:
    """Guards that it does not matter where usage is read from."""
    start, end = "2026010100"[: span.value], "9999010100"[: span.value]
    assert await read(server, span, start, end) == summed(span)


async def test_a_span_and_a_client_are_all_that_is_given(server: KustoServer) -> None:
    expected = [row for row in rolled_up() if row.hour < "2026112115" and row.key.client_id == "team-blue"]
    noon = [row for row in expected if row.hour >= "2026112112"]
    assert noon
    assert await read(server, Span.HOUR, "2026112112", "2026112115", "team-blue") == noon
    assert await read(server, Span.HOUR, "2020010100", "2020010200") == []
    assert await read(server, Span.DAY, "20200101", "20200201") == []


async def test_a_cluster_that_is_away_or_lacks_the_functions_is_told_as_such(server: KustoServer) -> None:
    server.faults.unavailable = True
    try:
        with pytest.raises(NotReady, match="Data Explorer"):
            await read(server, Span.DAY, "20260101", "20270101")
    finally:
        server.faults.unavailable = False
    source = UsageExplorer(server.url, "another", lambda: PRICES, lambda: NOW)
    with pytest.raises(NotReady, match="lacks queries"):
        await anext(source.rows(Span.DAY, "20260101", "20270101", None))
