"""The operating commands, on a Storage account."""

import asyncio
import json
from typing import Any

import pytest

from devtools import cli
from devtools.azurite import Azurite
from tests.examples import call_id
from tests.storage import Storage
from tests.test_verifying import chained


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
    await storage.archive.remove(call_id(2))
    assert await run("verify", *NOON) == 1
    printed = capsys.readouterr()
    assert f"missing  archive  2026-11-21  team-blue  {call_id(2)}" in printed.out
    assert "error: 1 of what is kept is not as it was recorded" in printed.err


async def test_days_that_are_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert await run("verify", "--from", "2026-11-22", "--to", "2026-11-21") == 1
    assert "--from 2026-11-22 is after --to 2026-11-21" in capsys.readouterr().err
