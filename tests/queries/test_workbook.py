"""The workbook: its queries under Microsoft's parser, and run over what the Application Insights exporter really sends."""

import gzip
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from devtools.kusto.store import Store
from shared.core.call_record import Attempt, CallRecord
from shared.core.configuration import parse
from shared.core.trace_context import TraceContext
from shared.core.tracing import Kind
from shared.settings import read_settings
from shared.telemetry_export import OpenTelemetry
from tests.cluster import QUERIES
from tests.examples import NOON, closed_record
from tests.queries.test_check import check

COLUMNS = (
    "(timestamp: datetime, id: string, name: string, success: bool, duration: real, customDimensions: dynamic, "
    "operation_Id: string, operation_ParentId: string, itemCount: int)"
)
"""Those of Application Insights' tables that the workbook reads.
https://learn.microsoft.com/azure/azure-monitor/app/data-model-complete"""
OF_METRICS = "(timestamp: datetime, name: string, value: real, customDimensions: dynamic)"
TABLES = {
    "RequestData": ("requests", COLUMNS),
    "RemoteDependencyData": ("dependencies", COLUMNS),
    "MetricData": ("customMetrics", OF_METRICS),
}
CONFIGURATION = '[[upstreams]]\nname = "east"\nkind = "azure"\nurl = "https://east.example"\nkey = "k"\n'


def panels() -> dict[str, str]:
    workbook = json.loads((QUERIES / "workbook.json").read_text(encoding="utf-8"))
    return {item["content"]["title"]: item["content"]["query"] for item in workbook["items"] if item["type"] == 3}


class Ingestion(ThreadingHTTPServer):
    """Application Insights' ingestion: takes envelopes and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.envelopes: list[dict[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Ingestion

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        items = json.loads(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
        self.server.envelopes += items
        answer = json.dumps({"itemsReceived": len(items), "itemsAccepted": len(items), "errors": []}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture
def ingestion() -> Iterator[Ingestion]:
    with Ingestion() as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def failed_over() -> CallRecord:
    return closed_record(
        trace=TraceContext(trace_id="4bf92f3577b34da6a3ce929d0e0e4736", span_id="00f067aa0ba902b7"),
        attempts=(
            Attempt(deployment="a", upstream="east", status=429, error="rate limited", duration_ms=20, started_ms=5),
            Attempt(deployment="b", upstream="east", status=200, error=None, duration_ms=30, started_ms=26),
        ),
        deployment="b",
        upstream="east",
        closed_at=NOON + timedelta(milliseconds=90),
    )


def told(ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What the exporter sends of a call that failed over, of a failing step and of a backlog."""
    monkeypatch.setenv("APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL", "true")
    connection = f"InstrumentationKey={'0' * 8}-0000-0000-0000-{'0' * 12};IngestionEndpoint=http://127.0.0.1:{ingestion.server_port}/"
    settings = read_settings({"APPLICATIONINSIGHTS_CONNECTION_STRING": connection})
    telemetry = OpenTelemetry(
        settings, service={"service.name": "t"}, now=lambda: NOON, configuration=lambda: parse(CONFIGURATION, {})
    )
    telemetry.ended(failed_over())
    telemetry.backlog({"messages": 3, "shelved": 0, "quarantined": None})
    with pytest.raises(OSError, match="away"), telemetry.step("record", Kind.CONSUMER, failed_over().trace):
        raise OSError("away")
    telemetry.close()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def stored(envelopes: list[dict[str, Any]]) -> Store:
    """The envelopes as rows of Application Insights' tables."""
    store = Store()
    for table, columns in TABLES.values():
        store.manage(f".create-merge table {table} {columns}")
    for envelope in envelopes:
        data = envelope["data"]["baseData"]
        if (known := TABLES.get(envelope["data"]["baseType"])) is None:
            continue
        if "metrics" in data:
            (metric,) = data["metrics"]
            row = {
                "timestamp": envelope["time"],
                "name": metric["name"],
                "value": metric["value"],
                "customDimensions": data["properties"],
            }
            store.ingest(known[0], json.dumps(row).encode(), None)
            continue
        days, hours, minutes, seconds = re.split(r"[.:]", data["duration"], maxsplit=3)
        row = {
            "timestamp": envelope["time"], "id": data["id"], "name": data["name"], "success": data["success"],
            "duration": 1000 * (((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + float(seconds)),
            "customDimensions": data["properties"], "operation_Id": envelope["tags"]["ai.operation.id"],
            "operation_ParentId": envelope["tags"].get("ai.operation.parentId", ""), "itemCount": 1,
        }  # fmt: skip
        store.ingest(known[0], json.dumps(row).encode(), None)
    return store


def test_the_queries_are_right(tmp_path: Path) -> None:
    schema = tmp_path / "schema.kql"
    schema.write_text("\n\n".join(f".create-merge table {table} {columns}" for table, columns in TABLES.values()))
    files = []
    for number, query in enumerate(panels().values()):
        files.append(tmp_path / f"panel{number}.kql")
        files[-1].write_text(query)
    result = check(*files, schema=(schema,))
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


def test_the_queries_read_what_the_exporter_sends(
    ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told(ingestion, monkeypatch, caplog)
    store = stored(ingestion.envelopes)
    answers = [
        [dict(zip((column.name for column in result.columns), row, strict=True)) for row in result.rows]
        for result in map(store.query, panels().values())
    ]
    outcomes, latency, tokens, deployments, wrong, steps, backlog = answers
    assert [(row["Outcome"], row["Count"]) for row in outcomes] == [("completed", 1)]
    assert [(row["Model"], row["P95"], row["FirstTokenP95"]) for row in latency] == [("gpt-4o", 90.0, 0.04)]
    assert [(row["Client"], row["InputTokens"], row["OutputTokens"]) for row in tokens] == [("team-blue", 10, 5)]
    assert {row["Deployment"]: (row["Attempts"], row["Failed"], row["TooMany"]) for row in deployments} == {
        "a": (1, 1, 1), "b": (1, 0, 0),
    }  # fmt: skip
    assert [(row["Attempts"], row["Deployment"], row["operation_Id"]) for row in wrong] == [
        (2, "b", "4bf92f3577b34da6a3ce929d0e0e4736")
    ]
    assert [(row["name"], row["Count"], row["Failed"]) for row in steps] == [("record", 1, 1)]
    assert {row["What"]: row["Waiting"] for row in backlog} == {"messages": 3.0, "shelved": 0.0}
