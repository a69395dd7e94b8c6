"""What finance and auditors read, through the running app: usage in every shape, and exports."""

import asyncio
import csv
import io
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import httpx
import openai
import pytest
from azure.storage.blob.aio import ContainerClient

from devtools import cli
from devtools.azurite import Azurite
from devtools.simulator import Simulator
from shared.core.reports import focus_columns
from tests.stack import ADMIN_KEY, Stack, running

CALLS = {"team-a": 3, "team-b": 2}
QUESTION = "=HYPERLINK(0) or a question?"


@dataclass(frozen=True)
class Reported:
    """An app that has served CALLS, and rolled them up."""

    stack: Stack
    total: dict[str, Any]

    async def get(self, path: str, key: str = ADMIN_KEY, accept: str = "*/*", **parameters: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}", "accept": accept}
        async with httpx.AsyncClient(base_url=self.stack.host.base_url) as http:
            return await http.get(path, params=parameters, headers=headers)


@pytest.fixture(scope="module")
async def reported(anyio_backend: str, azurite: Azurite, simulator: Simulator) -> AsyncIterator[Reported]:
    async with running(azurite, simulator, "reports") as stack:
        for client_id, calls in CALLS.items():
            base_url = f"{stack.host.base_url}/v1"
            async with openai.AsyncOpenAI(api_key=stack.key(client_id), base_url=base_url) as client:
                for number in range(calls):
                    messages: Any = [
                        {"role": "system", "content": "Be brief."},
                        {"role": "user", "content": f"{QUESTION} {number}"},
                    ]
                    await client.chat.completions.create(model="gpt-4o", messages=messages, user="ann")
        report = await stack.usage_when(
            lambda report: report["total"]["completed"] == sum(CALLS.values()), granularity="day"
        )
        yield Reported(stack, report["total"])


async def test_every_granularity_has_the_same_figures(reported: Reported) -> None:
    """Guards that rows of days and months are the sums of their hours."""
    for granularity in ("hour", "day", "month"):
        report = (await reported.get("/usage", granularity=granularity)).json()
        assert report["total"] == reported.total
    month = f"{datetime.now(UTC):%Y-%m}"
    whole = (await reported.get("/usage", start=f"{month}-01", end="9999-01-01")).json()
    assert whole["total"] == reported.total
    assert (whole["total"]["provider"], whole["total"]["closed"]) == (5, 5)
    assert whole["total"]["duration_ms"]["p50"] >= 0


async def test_usage_as_a_table_has_the_figures_of_the_report(reported: Reported) -> None:
    table = await reported.get("/usage", accept="text/csv", group_by="client_id")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
    report = (await reported.get("/usage", group_by="client_id")).json()
    assert [(row["client_id"], int(row["calls"])) for row in rows] == list(CALLS.items())
    assert [int(row["input_tokens"]) for row in rows] == [line["input_tokens"] for line in report["data"]]
    assert [row["currency"] for row in rows] == [report["currency"]] * 2


async def test_a_client_sees_its_own_usage_only(reported: Reported) -> None:
    key = reported.stack.key("team-b")
    assert (await reported.get("/usage", key)).json()["total"]["calls"] == CALLS["team-b"]
    assert (await reported.get("/usage", key, client_id="team-a")).json()["total"]["calls"] == 0
    assert "team-a" not in (await reported.get("/usage", key, accept="text/csv")).text


async def test_a_filter_that_is_misspelt_is_refused(reported: Reported) -> None:
    answer = await reported.get("/usage", cliend_id="team-a")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "cliend_id")


async def test_the_openai_sdk_reads_usage_and_costs_here_as_it_does_from_openai(reported: Reported) -> None:
    """Guards that tools which read OpenAI's organisation API read ours."""
    start = int(datetime.now(UTC).timestamp()) - 86_400
    for path in ("v1", "openai/v1"):
        base_url = f"{reported.stack.host.base_url}/{path}"
        async with openai.AsyncOpenAI(api_key="none", admin_api_key=ADMIN_KEY, base_url=base_url) as client:
            usage = client.admin.organization.usage
            page = await usage.completions(start_time=start, group_by=["project_id", "model"], models=["gpt-4o"])
            hours = await usage.completions(start_time=start, bucket_width="1h", limit=100, project_ids=["team-b"])
            costs = await usage.costs(start_time=start, group_by=["project_id", "line_item"])
            empty = await usage.vector_stores(start_time=start)
        results: Any = [result for bucket in page.data for result in bucket.results]
        by_hour: Any = [result for bucket in hours.data for result in bucket.results]
        assert sum(result.input_tokens for result in results) == reported.total["input_tokens"]
        assert sum(result.output_tokens for result in results) == reported.total["output_tokens"]
        assert {result.project_id for result in results} == set(CALLS)
        assert sum(result.num_model_requests for result in by_hour) == CALLS["team-b"]
        assert {result.project_id for bucket in costs.data for result in bucket.results} == set(CALLS)  # type: ignore[union-attr]
        assert [bucket.results for bucket in empty.data] == [[], []]


async def test_the_sdk_for_node_reads_an_organisations_usage_too(reported: Reported) -> None:
    program = Path(__file__).parent / "node" / "organization.mjs"
    start = int(datetime.now(UTC).timestamp()) - 86_400
    command = ["node", str(program), reported.stack.host.base_url, str(start)]
    done = await anyio.run_process(command, env=os.environ | {"ADMIN_KEY": ADMIN_KEY}, check=False)
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    used, paid = (
        [each for bucket in told[name]["data"] for each in bucket["results"]] for name in ("completions", "costs")
    )
    assert sum(each["input_tokens"] for each in used) == reported.total["input_tokens"]
    assert {each["project_id"] for each in used} == {each["project_id"] for each in paid} == set(CALLS)


async def test_nothing_of_an_organisation_is_forwarded(reported: Reported) -> None:
    """Guards that no caller gets at the upstream's organisation with the upstream's key."""
    forwarded = len(reported.stack.simulator.calls())
    paths = ("v1/organization/users", "V1/Organization/usage", "openai/v1/organization", "openai/organization/projects")
    for path in (*paths, "v1/organization/usage/%63ompletions", "v1/%6Frganization/users"):
        answer = await reported.get(f"/{path}")
        assert answer.status_code in {401, 404}, path
        assert answer.json()["error"]["type"] == "invalid_request_error"
    assert (await reported.get("/v1/organization/costs", "no key", start_time=0)).status_code == 401
    assert len(reported.stack.simulator.calls()) == forwarded


async def test_an_evaluation_dataset_is_what_was_said_and_a_clients_own(reported: Reported) -> None:
    lines = (await reported.get("/exports/evaluation")).content.splitlines()  # bytes: a text may hold U+2028
    rows = [json.loads(line) for line in lines]
    assert sorted(row["query"] for row in rows) == sorted(
        f"{QUESTION} {number}" for calls in CALLS.values() for number in range(calls)
    )
    assert {row["context"] for row in rows} == {"Be brief."}
    assert all(row["response"] for row in rows)
    own = await reported.get("/exports/evaluation", reported.stack.key("team-b"), format="csv")
    table = list(csv.DictReader(io.StringIO(own.text, newline="")))
    assert [row["query"] for row in table] == [f"'{QUESTION} {number}" for number in range(CALLS["team-b"])]


async def test_the_ledger_is_exported_by_the_command_line(reported: Reported, tmp_path: Path) -> None:
    connection = ["--url", reported.stack.host.base_url, "--admin-key", ADMIN_KEY]
    file = tmp_path / "ledger.csv"
    command = ["export", "ledger", "--client-id", "team-a", "-o", str(file)]
    assert await asyncio.to_thread(cli.main, [*connection, *command]) == 0
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))
    assert [(row["client_id"], row["outcome"]) for row in rows] == [("team-a", "completed")] * CALLS["team-a"]
    assert not list(tmp_path.glob("*.part"))  # noqa: ASYNC240 - local


async def test_an_export_to_a_blob_is_the_admins_and_says_where_it_is(
    reported: Reported, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = ["--url", reported.stack.host.base_url, "--json"]
    command = ["export", "ledger", "--end", "2100-01-01", "--start", "2026-01-01", "--to-blob"]
    assert await asyncio.to_thread(cli.main, [*command, *connection, "--admin-key", ADMIN_KEY]) == 0
    written = json.loads(capsys.readouterr().out)
    container, _, name = written["blob"].partition("/")
    connected = ContainerClient.from_connection_string(reported.stack.azurite.connection_string, container)
    async with connected:
        content = await (await connected.download_blob(name)).readall()
    assert (len(content), content.count(b"\r\n")) == (written["bytes"], written["lines"]) == (len(content), 6)
    assert await asyncio.to_thread(cli.main, [*command, *connection, "--admin-key", reported.stack.key()]) == 1
    assert "admin key" in capsys.readouterr().err


async def test_an_export_that_there_is_not_is_told(reported: Reported) -> None:
    assert (await reported.get("/exports/everything")).status_code == 404
    assert (await reported.get("/exports/ledger", outcome="lost")).json()["error"]["param"] == "outcome"
    assert (await reported.get("/exports/ledger", "no key")).status_code == 401


async def test_a_focus_file_keeps_the_published_rules_and_has_the_reports_figures(
    reported: Reported, tmp_path: Path
) -> None:
    file = tmp_path / "focus.csv"
    command = ["export", "focus", "--month", f"{datetime.now(UTC):%Y-%m}", "-o", str(file)]
    connection = ["--url", reported.stack.host.base_url, "--admin-key", ADMIN_KEY]
    assert await asyncio.to_thread(cli.main, [*command, *connection]) == 0
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"), newline=""), strict=True))
    assert [problem for row in rows for problem in focus_columns.problems(row)] == []
    assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal(reported.total["cost"]) > 0
    consumed = {
        name: sum(int(row["ConsumedQuantity"]) for row in rows if row["x_TokenClass"] in classes)
        for name, classes in (("input_tokens", {"input", "cached_input"}), ("output_tokens", {"output", "reasoning"}))
    }
    assert consumed == {name: reported.total[name] for name in consumed}
    assert {row["SubAccountId"] for row in rows} == set(CALLS)
    assert {(row["ResourceId"], row["PublisherName"]) for row in rows} == {("gpt-4o", "OpenAI")}
    own = await reported.get("/exports/focus", reported.stack.key("team-b"))
    assert {row["SubAccountId"] for row in csv.DictReader(io.StringIO(own.text))} == {"team-b"}
    assert (await reported.get("/exports/focus", month="2026-13")).status_code == 400


async def test_reconciling_ends_by_the_tolerance(
    reported: Reported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day, tokens = f"{datetime.now(UTC):%Y-%m-%d}", reported.total["input_tokens"]
    export = tmp_path / "costs.csv"
    export.write_text(
        "Date,ResourceId,MeterName,Quantity,UnitOfMeasure\n"
        f"{day},/providers/Microsoft.CognitiveServices/accounts/127,gpt-4o Inp Tokens,{tokens + 1},1\n",
        encoding="utf-8",
    )
    connection = ["--url", reported.stack.host.base_url, "--admin-key", ADMIN_KEY, "--json"]
    command = ["reconcile", str(export), *connection, "--tolerance"]
    assert await asyncio.to_thread(cli.main, [*command, "50"]) == 0
    [drift] = json.loads(capsys.readouterr().out)["data"]
    assert (drift["ours"], drift["theirs"], drift["difference"]) == (tokens, tokens + 1, -1)
    assert await asyncio.to_thread(cli.main, [*command, "0.001"]) == 1
    assert "1 of 1 differ" in capsys.readouterr().err
