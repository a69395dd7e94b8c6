"""The Data Explorer sink: what it sends, what it sends again, and what it does while the cluster is away."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from devtools.azurite import Azurite
from devtools.kusto import KustoServer
from shared import composition
from shared.core.call_record import UsageSource
from shared.core.money.deferred import LateUsage, told_late
from shared.core.recording.events import Body, Closed
from shared.core.usage import TokenUsage
from shared.settings import SettingsInvalid, read_settings
from shared.sinks.data_explorer import DataExplorer, NotIngested
from tests.cluster import cluster, explorer
from tests.emulator import Storage
from tests.examples import NOON, archived, call_id, closed, closed_record, opened

pytestmark = pytest.mark.filterwarnings(r"ignore:datetime\.datetime\.utcnow:DeprecationWarning:azure\.kusto")


@pytest.fixture
async def kusto(azurite: Azurite) -> AsyncIterator[KustoServer]:
    async with cluster(azurite.connection_string) as server:
        yield server


def ids(kusto: KustoServer, table: str = "Calls") -> list[str]:
    return [row["CallId"] for row in kusto.query(f"{table} | order by CallId asc")]


async def test_what_was_asked_and_answered_is_in_the_row(kusto: KustoServer) -> None:
    request = b'{"model":"gpt-4o","messages":[{"role":"user","content":"Gr\xc3\xbc\xc3\x9fe \xe2\x80\xa8\\u0000"}]}'
    event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
    response = event % b"Hi" + event % b"!"
    async with explorer(kusto.url) as sink:
        await sink.write([Closed(record=closed_record(), request=Body.of(request), response=Body.of(response))])
    (row,) = kusto.query(
        "Calls | project Asked = tostring(RequestMessages[0].content), Answered = ResponseMessages, InputTokens, Region"
    )
    assert row["Asked"] == "Grüße \u2028\u0000"
    assert row["Answered"] == '[{"role":"assistant","content":"Hi!"}]'
    assert (row["InputTokens"], row["Region"]) == (10, "East US")


async def test_a_call_whose_bodies_went_ahead_is_read_from_the_archive(kusto: KustoServer) -> None:
    call = archived(request=b'{"messages":[{"role":"user","content":"large"}]}')
    async with explorer(kusto.url, call) as sink:
        await sink.write([Closed(record=call.record)])
    (row,) = kusto.query("Calls | project Asked = tostring(RequestMessages[0].content)")
    assert row == {"Asked": "large"}


async def test_a_file_that_passed_through_is_not_read_for_the_words_that_it_does_not_have(kusto: KustoServer) -> None:
    async def unread(_: str) -> None:
        raise AssertionError("it may be of any size")

    sink = DataExplorer(kusto.url, "tollgate", unread, managed=True)
    await sink.write([Closed(record=closed_record(operation="files.content"))])
    await sink.close()
    (row,) = kusto.query("Calls | project OperationName")
    assert row == {"OperationName": "files.content"}


async def test_calls_that_are_forgotten_are_in_no_table_any_more(kusto: KustoServer) -> None:
    async with explorer(kusto.url) as sink:
        await sink.write([closed(1), closed(2), closed(3)])
        await sink.forget([call_id(1), call_id(3)])
    assert ids(kusto) == ids(kusto, "CallRecords") == [call_id(2)]


async def test_calls_that_are_open_are_not_sent(kusto: KustoServer) -> None:
    async with explorer("http://127.0.0.1:9") as sink:
        await sink.write([opened(1), opened(2)])


async def test_a_batch_that_is_queued_again_is_not_ingested_again(kusto: KustoServer) -> None:
    async with explorer(kusto.url, managed=False) as sink:
        await sink.write([closed(1), closed(2)])
        await asyncio.wait_for(kusto.stored("CallRecords", 2), 30)
        await sink.write([closed(2), closed(1)])
        await sink.write([closed(3)])
        await asyncio.wait_for(kusto.stored("CallRecords", 3), 30)
    assert ids(kusto, "CallRecords") == ids(kusto) == [call_id(1), call_id(2), call_id(3)]


async def test_a_call_that_comes_again_in_another_batch_is_once_in_the_view(kusto: KustoServer) -> None:
    async with explorer(kusto.url, managed=False) as sink:
        await sink.write([closed(1), closed(2)])
        await sink.write([closed(2), closed(3)])
        await asyncio.wait_for(kusto.stored("CallRecords", 4), 30)
    assert ids(kusto, "CallRecords") == [call_id(1), call_id(2), call_id(2), call_id(3)]
    assert ids(kusto) == [call_id(1), call_id(2), call_id(3)]


async def test_an_answer_that_was_lost_leaves_each_call_once_in_the_view(kusto: KustoServer) -> None:
    """Streaming has no tags: what was stored and not acknowledged is sent again, and stored again."""
    kusto.faults.lost_answers = 1
    async with explorer(kusto.url) as sink:
        await sink.write([closed(1)])
    assert len(ids(kusto, "CallRecords")) == 2
    assert ids(kusto) == [call_id(1)]


async def test_the_later_account_of_a_call_counts(kusto: KustoServer) -> None:
    async with explorer(kusto.url) as sink:
        first = closed(1)
        later = closed(1, status=503, closed_at=first.record.opened_at.replace(minute=30))
        await sink.write([later])
        await sink.write([first])
    assert [row["Status"] for row in kusto.query("Calls")] == [503]


async def test_what_a_call_told_late_is_in_its_row(kusto: KustoServer) -> None:
    """Guards that what a background response used is not held for what was ingested when it was asked for."""
    call = archived(1)
    late = LateUsage(usage_source=UsageSource.PROVIDER, usage=TokenUsage(input_tokens=77))
    async with explorer(kusto.url, call, managed=False) as sink:
        await sink.write([Closed.of(call)])
        await asyncio.wait_for(kusto.stored("CallRecords", 1), 30)
        await sink.write([Closed(record=told_late(call.record, late, NOON + timedelta(hours=1)))])
        await asyncio.wait_for(kusto.stored("CallRecords", 2), 30)
        await sink.write([Closed.of(call)])
    assert [row["InputTokens"] for row in kusto.query("Calls")] == [77]


async def test_of_two_accounts_in_one_batch_the_later_is_kept_in_whatever_order_they_came(kusto: KustoServer) -> None:
    """Guards what a call told late: its first account may come again, or wait longer in the outbox, and be written with it."""
    call = archived(1)
    late = LateUsage(usage_source=UsageSource.PROVIDER, usage=TokenUsage(input_tokens=77))
    async with explorer(kusto.url, call) as sink:
        await sink.write([Closed(record=told_late(call.record, late, NOON + timedelta(hours=1))), Closed.of(call)])
    assert [row["InputTokens"] for row in kusto.query("Calls")] == [77]


FAULTS = {"streamed": True, "queued": False}


@pytest.mark.parametrize("managed", FAULTS.values(), ids=FAULTS)
async def test_a_cluster_that_is_away_or_lacks_the_table_is_an_outage(azurite: Azurite, *, managed: bool) -> None:
    """An outage, not the rows' fault, whatever the client calls it: so they wait and are not set aside."""
    async with explorer("http://127.0.0.1:9", managed=managed) as sink:
        with pytest.raises(NotIngested):
            await sink.write([closed()])
    assert issubclass(NotIngested, OSError)


async def test_a_missing_table_is_an_outage() -> None:
    async with KustoServer() as bare, explorer(bare.url) as sink:
        with pytest.raises(NotIngested, match="CallRecords"):
            await sink.write([closed()])


WRONG_URIS = ("kusto.example", "http://kusto.example", "ftp://127.0.0.1:1")


@pytest.mark.parametrize("uri", WRONG_URIS)
def test_an_address_that_would_send_calls_in_the_clear_is_refused(uri: str) -> None:
    with pytest.raises(SettingsInvalid, match="TOLLGATE_KUSTO_URI must begin with https://"):
        read_settings({"TOLLGATE_KUSTO_URI": uri})


async def test_the_sink_is_there_where_it_is_set(storage: Storage) -> None:
    settings = read_settings({"TOLLGATE_KUSTO_URI": "https://kusto.example/"})
    assert [sink.name for sink in composition._explorer(settings, storage.archive)] == ["data_explorer"]
    assert composition._explorer(read_settings({}), storage.archive) == ()


def test_the_kusto_packages_are_imported_only_where_the_sink_is_on() -> None:
    """They take longer than all the rest of a cold start's imports."""
    program = "import sys, function_app, shared.composition; print([name for name in sys.modules if 'kusto' in name])"
    imported = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert imported.stdout == "[]\n"


async def test_writing_works_again_once_the_cluster_is_back(kusto: KustoServer) -> None:
    async with explorer(kusto.url, managed=False) as sink:
        kusto.faults.unavailable = True
        with pytest.raises(NotIngested):
            await sink.write([closed(1)])
        kusto.faults.unavailable = False
        await asyncio.gather(sink.write([closed(1)]), sink.write([closed(2)]))
        await asyncio.wait_for(kusto.stored("CallRecords", 2), 30)
    assert ids(kusto) == [call_id(1), call_id(2)]
