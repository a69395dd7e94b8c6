"""The fake Data Explorer under the official clients: what they ingest can be asked for in KQL."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.kusto.data import ClientRequestProperties, KustoClient
from azure.kusto.data.data_format import DataFormat
from azure.kusto.data.exceptions import KustoApiError, KustoServiceError, KustoThrottlingError
from azure.kusto.ingest import (
    IngestionProperties,
    KustoStreamingIngestClient,
    ManagedStreamingIngestClient,
    QueuedIngestClient,
)
from azure.kusto.ingest.status import KustoIngestStatusQueues

from devtools.azurite import Azurite
from devtools.kusto import KustoServer

pytestmark = pytest.mark.filterwarnings(r"ignore:datetime\.datetime\.utcnow:DeprecationWarning:azure\.kusto")

SCHEMA = """.execute database script <|
// what a deployment runs
.create-merge table Calls (CallId:string, OpenedAt:datetime, Tokens:long, Body:dynamic, Cost:real, Streamed:bool)

.create-or-alter table Calls ingestion json mapping 'calls_v1' ```[
  {"column": "CallId", "Properties": {"Path": "$.call_id"}},
  {"column": "OpenedAt", "Properties": {"Path": "$.opened_at"}},
  {"column": "Tokens", "path": "$.usage['total tokens']"},
  {"column": "Body", "Properties": {"Path": "$.body"}},
  {"column": "Cost", "Properties": {"Path": "$.costs[0]"}},
  {"column": "Streamed", "Properties": {"Path": "$.streamed"}}
]```

.create-merge table Models (Model:string, CallId:string)

.create-or-alter function with (folder = 'calls', docstring = 'Dear calls') Dear(low:long) {
    Calls
    | where Tokens > low
}

.alter table Models policy update
@'[{"Source": "Calls", "Query": "Calls | project Model = tostring(Body.model), CallId"}]'

.create-or-alter materialized-view with (backfill = true) Totals on table Calls {
    Calls | summarize Tokens = sum(Tokens) by Streamed
}

.alter-merge table Calls policy retention softdelete = 30d
"""


def call(number: int, **fields: object) -> dict[str, object]:
    return {
        "call_id": f"c{number}",
        "opened_at": "2026-01-02T03:04:05.678Z",
        "usage": {"total tokens": number * 100},
        "body": {"model": "gpt", "n": [number]},
        "costs": [number / 4],
        "streamed": number % 2 == 0,
    } | fields


def lines(*records: dict[str, object]) -> io.BytesIO:
    return io.BytesIO(b"\n".join(json.dumps(record).encode() for record in records))


def properties(**options: Any) -> IngestionProperties:
    chosen = {"table": "Calls", "ingestion_mapping_reference": "calls_v1"} | options
    return IngestionProperties(database="tollgate", data_format=DataFormat.MULTIJSON, **chosen)


def ask(kusto: KustoServer, query: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    options = ClientRequestProperties()  # type: ignore[no-untyped-call]
    for name, value in (parameters or {}).items():
        options.set_parameter(name, value)
    with KustoClient(kusto.url) as client:
        return [row.to_dict() for row in client.execute("tollgate", query, options).primary_results[0]]


@pytest.fixture
async def kusto(azurite: Azurite) -> AsyncIterator[KustoServer]:
    async with KustoServer(storage_connection_string=azurite.connection_string) as server:
        with KustoClient(server.url) as client:
            await asyncio.to_thread(client.execute_mgmt, "tollgate", SCHEMA)
        yield server


async def stream(kusto: KustoServer, *records: dict[str, object], **options: Any) -> None:
    with KustoStreamingIngestClient(kusto.url) as client:
        await asyncio.to_thread(client.ingest_from_stream, lines(*records), properties(**options))


async def queue(kusto: KustoServer, *records: dict[str, object], **options: Any) -> None:
    with QueuedIngestClient(kusto.url) as client:
        await asyncio.to_thread(client.ingest_from_stream, lines(*records), properties(**options))


async def test_streamed_records_follow_the_mapping(kusto: KustoServer) -> None:
    await stream(kusto, call(1), call(2, usage=None, body="text", call_id=None))
    first, second = await asyncio.to_thread(ask, kusto, "Calls | order by Cost asc")
    assert (first["CallId"], first["Tokens"], first["Cost"], first["Streamed"]) == ("c1", 100, 0.25, False)
    assert first["OpenedAt"].isoformat() == "2026-01-02T03:04:05.678000+00:00"
    assert first["Body"] == {"model": "gpt", "n": [1]}
    assert (second["CallId"], second["Tokens"], second["Body"]) == ("", None, "text")


async def test_functions_views_policies_and_parameters_work_on_what_was_ingested(kusto: KustoServer) -> None:
    await stream(kusto, call(1), call(2))
    await stream(kusto, call(3, body={"model": "other"}))
    query = (
        "declare query_parameters(floor:long); Dear(floor) | join kind=inner Models on CallId | project CallId, Model"
    )
    joined = await asyncio.to_thread(ask, kusto, query + " | order by CallId asc", {"floor": 150})
    assert joined == [{"CallId": "c2", "Model": "gpt"}, {"CallId": "c3", "Model": "other"}]
    assert await asyncio.to_thread(ask, kusto, "Totals | where Streamed") == [{"Streamed": True, "Tokens": 200}]
    assert len(kusto.rows("Models")) == 3


async def test_queued_records_pass_through_storage(kusto: KustoServer) -> None:
    await queue(kusto, call(1), call(2))
    assert [row["CallId"] for row in await asyncio.wait_for(kusto.stored("Calls", 2), 30)] == ["c1", "c2"]


async def test_a_batch_queued_twice_under_one_tag_is_stored_once(kusto: KustoServer) -> None:
    tags = {"ingest_by_tags": ["batch-1"], "ingest_if_not_exists": ["batch-1"]}
    await queue(kusto, call(1), **tags)
    await asyncio.wait_for(kusto.stored("Calls", 1), 30)
    await queue(kusto, call(1), **tags)
    await queue(kusto, call(2), ingest_by_tags=["batch-2"], ingest_if_not_exists=["batch-2"])
    assert [row["CallId"] for row in await asyncio.wait_for(kusto.stored("Calls", 2), 30)] == ["c1", "c2"]


async def test_a_queued_failure_is_reported_where_the_client_looks(kusto: KustoServer) -> None:
    await queue(kusto, call(1), ingestion_mapping_reference="nowhere")
    with QueuedIngestClient(kusto.url) as client:
        queues: Any = KustoIngestStatusQueues(client)  # type: ignore[no-untyped-call]

        def first_failure() -> Any:
            for _ in range(600):
                if found := queues.failure.pop():
                    return found[0]
                time.sleep(0.05)  # the queue is in Azurite: there is nothing to wait on
            return None

        assert "nowhere" in (await asyncio.to_thread(first_failure)).Details
    assert kusto.rows("Calls") == []


async def test_the_managed_client_falls_back_to_the_queue(kusto: KustoServer) -> None:
    kusto.faults.throttled = 3
    with ManagedStreamingIngestClient(kusto.url, kusto.url) as client:
        await asyncio.to_thread(client.ingest_from_stream, lines(call(1)), properties())
    assert len(await asyncio.wait_for(kusto.stored("Calls", 1), 30)) == 1


async def test_a_lost_answer_leaves_the_rows_behind(kusto: KustoServer) -> None:
    kusto.faults.lost_answers = 1
    with pytest.raises(KustoApiError, match="503"):
        await stream(kusto, call(1))
    await stream(kusto, call(1))
    assert [row["CallId"] for row in kusto.rows("Calls")] == ["c1", "c1"]


async def test_an_unavailable_cluster_answers_503_and_a_throttling_one_429(kusto: KustoServer) -> None:
    kusto.faults.unavailable = True
    with pytest.raises(KustoApiError) as caught:
        await asyncio.to_thread(ask, kusto, "Calls")
    assert "503" in str(caught.value.http_response)
    assert not caught.value.get_api_error().permanent
    kusto.faults.unavailable, kusto.faults.throttled = False, 1
    with pytest.raises(KustoThrottlingError):
        await asyncio.to_thread(ask, kusto, "Calls")
    assert await asyncio.to_thread(ask, kusto, "Calls") == []


REFUSED = {
    "an unknown table": ("Nothing", "Nothing"),
    "an unknown column": ("Calls | where Nothing == 1", "Nothing"),
    "a function it does not know": ("Calls | extend x = hll(CallId)", "hll"),
    "a typing error": ("Calls | wher true", "could not parse"),
}


@pytest.mark.parametrize(("query", "named"), REFUSED.values(), ids=REFUSED)
async def test_a_query_that_cannot_be_answered_is_refused(kusto: KustoServer, query: str, named: str) -> None:
    with pytest.raises(KustoServiceError, match=named) as caught:
        await asyncio.to_thread(ask, kusto, query)
    assert isinstance(caught.value, KustoApiError)
    assert caught.value.get_api_error().permanent


async def test_streaming_to_a_missing_table_or_mapping_is_a_permanent_error(kusto: KustoServer) -> None:
    for options in ({"table": "Nothing"}, {"ingestion_mapping_reference": "nothing"}):
        with pytest.raises(KustoApiError) as caught:
            await stream(kusto, call(1), **options)
        assert caught.value.get_api_error().code == "BadRequest_EntityNotFound"
        assert caught.value.get_api_error().permanent
