"""KQL over the archive: what is there is answered, each call is read once, and Kusto clients can ask."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from azure.kusto.data import KustoClient
from azure.storage.blob.aio import ContainerClient

from devtools import processes
from devtools.azurite import ROOT, Azurite
from devtools.kql import Analysis, as_json, printed
from shared.core.recording import archive
from tests.cluster import QUERIES
from tests.emulator import AWAY, Storage
from tests.examples import archived, call_id

CHAT = b'{"model":"gpt-4o","messages":[{"role":"user","content":"one\\ntwo"}]}'


def container(storage: Storage) -> ContainerClient:
    return storage.archive._container


async def keep(storage: Storage, *numbers: int) -> None:
    for number in numbers:
        await storage.archive.put(archived(number, CHAT))


def ids(analysis: Analysis) -> list[str]:
    return [row[0] for row in analysis.store.query("Calls | order by CallId asc | project CallId").rows]


def halve(folder: Path) -> None:
    """As if the process had been killed while it wrote."""
    for file in folder.rglob("*.jsonl"):
        file.rename(file.with_suffix(".half"))


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "devtools.kql", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


async def test_a_call_is_read_once_and_asked_for_ever_after(storage: Storage, tmp_path: Path) -> None:
    await keep(storage, 1, 2)
    assert await Analysis(tmp_path).refresh(container(storage)) == 2
    await keep(storage, 3)
    again = Analysis(tmp_path)
    assert ids(again) == [call_id(1), call_id(2)]
    assert await again.refresh(container(storage)) == 1
    assert await again.refresh(container(storage)) == 0
    assert ids(again) == [call_id(1), call_id(2), call_id(3)]


async def test_rows_are_as_data_explorer_has_them(storage: Storage, tmp_path: Path) -> None:
    """Guards the way past the ingestion mapping: text that is missing is empty, and a count that is missing is null."""
    await keep(storage, 1)
    analysis = Analysis(tmp_path)
    await analysis.refresh(container(storage))
    columns = "OpenedAt, InputTokens, ReasoningTokens, EndUser, IsSpilledOver, Asked = RequestMessages[0].content"
    (line,) = as_json(analysis.store.query(f"Calls | project {columns}"))
    assert json.loads(line) == {
        "OpenedAt": "2026-11-21 12:00:00.250000",
        "InputTokens": 10,
        "ReasoningTokens": None,
        "EndUser": "",
        "IsSpilledOver": False,
        "Asked": "one\ntwo",
    }


async def test_what_is_no_longer_in_the_archive_is_no_longer_answered(storage: Storage, tmp_path: Path) -> None:
    await keep(storage, 1, 2)
    analysis = Analysis(tmp_path)
    await analysis.refresh(container(storage))
    await container(storage).delete_blob(archive.blob_name(call_id(1)))
    await analysis.refresh(container(storage))
    assert ids(analysis) == [call_id(2)]


async def test_a_file_that_was_not_written_to_its_end_is_read_again(storage: Storage, tmp_path: Path) -> None:
    await keep(storage, 1)
    await Analysis(tmp_path).refresh(container(storage))
    halve(tmp_path)
    assert await Analysis(tmp_path).refresh(container(storage)) == 1


async def test_what_is_not_a_call_is_passed_over(storage: Storage, tmp_path: Path) -> None:
    await container(storage).upload_blob("chain/team-blue/2026-11-21", b"{}")
    assert await Analysis(tmp_path).refresh(container(storage)) == 0


async def test_a_query_runs_from_the_command_line(
    storage: Storage, azurite: Azurite, prefix: str, tmp_path: Path
) -> None:
    await keep(storage, 1, 2)
    options = ("--connection", azurite.connection_string, "--prefix", prefix, "--cache", tmp_path)
    result = run(*options, "--json", "--query", "Calls | summarize Tokens = sum(TotalTokens)")
    assert (result.stdout, result.returncode) == ('{"Tokens": 30}\n', 0)
    assert "2 calls, 2 of them new" in result.stderr
    file = run(*options, QUERIES / "examples" / "apim-prompt-text.kql")
    assert file.stdout.count("one two") == 2
    assert file.stdout.endswith("(2 rows)\n")
    wrong = run(*options, "--query", "Calls | wher true")
    assert wrong.returncode == 1
    assert "could not parse KQL" in wrong.stderr


def test_without_storage_what_was_read_before_is_answered(tmp_path: Path) -> None:
    result = run("--connection", AWAY, "--cache", tmp_path, "--query", "Calls | count")
    assert "the storage cannot be read" in result.stderr
    assert result.stdout.splitlines()[2] == "0"


async def test_kusto_clients_can_ask(storage: Storage, azurite: Azurite, prefix: str, tmp_path: Path) -> None:
    await keep(storage, 1)
    options = ("--connection", azurite.connection_string, "--prefix", prefix, "--cache", str(tmp_path))
    command = [sys.executable, "-m", "devtools.kql", *options, "--serve", "0"]
    child = processes.start("kql", command, log=tmp_path / "log", env=os.environ, cwd=ROOT)
    try:
        ready = await asyncio.to_thread(
            processes.wait_until, child, lambda: re.search(r"ready (\S+)", child.output()), 30
        )
        with KustoClient(ready[1]) as client:
            answer = await asyncio.to_thread(
                client.execute, "tollgate", "ApiManagementGatewayLogs | project OperationId"
            )
        assert [row["OperationId"] for row in answer.primary_results[0]] == ["chatcompletions_create"]
    finally:
        processes.stop([child])


def test_a_table_has_its_cells_under_their_names(tmp_path: Path) -> None:
    result = Analysis(tmp_path).store.query(
        "print Name = 'a long\\ntext', Number = 7, When = datetime(2026-01-02 03:04:05.678)"
    )
    assert list(printed(result, 8)) == [
        "Name      Number  When",
        "--------  ------  -----------------------",
        "a long …  7       2026-01-02 03:04:05.678",
        "(1 row)",
    ]
