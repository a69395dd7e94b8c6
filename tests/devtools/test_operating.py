"""The operating commands, on a Storage account."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from azure.data.tables.aio import TableServiceClient

from devtools import cli
from devtools.azurite import Azurite
from shared.clients.clients_table import ClientTable
from shared.core.clients.directory import StoredKey
from shared.core.configuration import Client
from tests.emulator import Storage
from tests.examples import NOON as NOON_AT
from tests.examples import call_id
from tests.recording.test_verifying import chained


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, azurite: Azurite, prefix: str) -> None:
    monkeypatch.setenv("AzureWebJobsStorage", azurite.connection_string)
    monkeypatch.setenv("TOLLGATE_PREFIX", prefix)


async def run(*arguments: str) -> int:
    """A command's exit code."""
    return await asyncio.to_thread(cli.main, arguments)


NOON = ("--from", "2026-11-21", "--to", "2026-11-21")


async def test_verify_tells_what_is_wrong_and_fails(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    await chained(storage)
    assert await run("verify", "--json", *NOON) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (report["calls"], report["findings"], len(report["chains"])) == (5, [], 2)
    await storage.archive.remove(call_id(2), "*")
    assert await run("verify", *NOON) == 1
    printed = capsys.readouterr()
    assert f"missing  archive  2026-11-21  team-blue  {call_id(2)}" in printed.out
    assert "error: 1 of what is kept is not as it was recorded" in printed.err


async def test_days_that_are_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert await run("verify", "--from", "2026-11-22", "--to", "2026-11-21") == 1
    assert "--from 2026-11-22 is after --to 2026-11-21" in capsys.readouterr().err


async def test_what_is_quarantined_or_archived_is_replayed(
    storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    await chained(storage)
    assert await run("replay", "archive", "--client", "team-blue", "--json", *NOON) == 0
    assert json.loads(capsys.readouterr().out) == {"taken": 3, "left": 0}
    await storage.quarantine.put(b"{broken", "no event")
    assert await run("replay", "quarantine") == 1
    assert "error: 1 could not be recorded, and are where they were" in capsys.readouterr().err


async def test_a_person_is_purged_only_by_saying_so(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run("purge", "--person", "ann") == 1
    assert "say --yes" in capsys.readouterr().err
    assert await run("purge", "--person", "ann", "--yes", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"calls": 0, "quarantined": 0, "unfinished": []}


async def test_clients_and_keys_come_back_from_a_backup(azurite: Azurite, prefix: str, tmp_path: Path) -> None:
    file = tmp_path / "clients.json"
    async with TableServiceClient.from_connection_string(azurite.connection_string) as tables:
        table = ClientTable(tables.get_table_client(f"{prefix}Clients"))
        await table.prepare()
        await table.put_client(Client(id="a", name="grün"))
        for number in ("1", "2"):
            await table.put_key(
                StoredKey(id=number * 8, client_id="a", salt="00" * 16, hash="00" * 32, created_at=NOON_AT)
            )
        before = await table.read()
        assert await run("backup", str(file)) == 0
        assert file.stat().st_mode & 0o077 == 0
        await table.delete_client("a", ["1" * 8])
        await table.put_key(msgspec.structs.replace(before.keys["2" * 8], revoked_at=NOON_AT))
        for _ in range(2):
            assert await run("restore", str(file)) == 0
            after = await table.read()
            assert after.clients["a"].client == before.clients["a"].client
            assert after.keys["1" * 8] == before.keys["1" * 8]
            assert after.keys["2" * 8].revoked_at == NOON_AT  # a backup brings no revoked key back


@pytest.mark.parametrize("document", ["{", "[]", '{"v":2,"at":"2026-11-21T12:00:00Z","clients":[],"keys":[]}'])
async def test_what_is_no_backup_is_refused(document: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text(document)
    assert await run("restore", str(tmp_path / "file")) == 1
    assert re.search("error: (not a backup|version 2)", capsys.readouterr().err)
