"""Readiness: what keeps calls from being served, what is only to be seen to, and that asking often asks the storage seldom."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from azure.core.exceptions import HttpResponseError

from shared.clients.clients_table import DirectoryStatus
from shared.configuration_source import SourceStatus
from shared.core.configuration import parse
from shared.gateway.health_board import HealthBoard
from shared.readiness import Backlog, Deployments, Readiness, Status
from shared.transports import TransportDown

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CONFIGURATION = """
[[upstreams]]
name = "east"
kind = "openai"
url = "https://east.example/v1"
key = "k"

[[deployments]]
name = "a"
model = "m"
upstream = "east"

[[deployments]]
name = "b"
model = "n"
upstream = "east"
"""


@dataclass
class State:
    """How things stand; an exception is raised where it is asked for."""

    messages: int | Exception | None = 0
    shelved: int | Exception = 0
    quarantined: int | Exception = 0
    counted_at: datetime | Exception | None = NOW - timedelta(seconds=30)
    problems: tuple[str, ...] = ()
    has_configuration: bool = True
    unreadable: int = 0
    out: str = ""
    """A deployment that is cooling down."""
    asked: list[str] = field(default_factory=list)

    def tell(self, name: str) -> Any:
        self.asked.append(name)
        if isinstance(found := getattr(self, name), Exception):
            raise found
        return found


class Part:
    """One of the parts that are looked at."""

    def __init__(self, state: State, name: str) -> None:
        self._state, self._name = state, name

    async def backlog(self) -> Any:
        return self._state.tell(self._name)

    count = watermark = backlog


def readiness(state: State) -> Readiness:
    """Over parts in that state."""
    loaded_at = NOW if state.has_configuration else None
    directory: Any = SimpleNamespace(
        current=parse(CONFIGURATION, {}) if state.has_configuration else None,
        source=SimpleNamespace(status=SourceStatus(source="file", loaded_at=loaded_at, problems=state.problems)),
        status=lambda: DirectoryStatus(refreshed_at=NOW, age_s=0, problem=None, unreadable=state.unreadable),
    )
    board = HealthBoard(now=lambda: 0.0, random=lambda: 0.0)
    if state.out:
        board.change(state.out, lambda health, now: msgspec.structs.replace(health, cool_until=now + 1))
    parts: Any = {
        "transport": Part(state, "messages"),
        "shelf": Part(state, "shelved"),
        "quarantine": Part(state, "quarantined"),
        "usage": Part(state, "counted_at"),
    }
    return Readiness(directory=directory, board=board, now=lambda: NOW, **parts)


async def test_all_well_is_told_in_numbers() -> None:
    report = await readiness(State(messages=7)).report()
    assert (report.status, report.problems, report.warnings) == (Status.READY, (), ())
    assert report.configuration == "the version of 2026-11-21T12:00:00Z"
    assert report.deployments == Deployments(all=2, available=2)
    assert report.backlog == Backlog(messages=7, shelved=0, quarantined=0)
    assert report.rollup_age_s == 30.0


AWAY = HttpResponseError("https://account.example/?sig=secret")
STATES: dict[str, tuple[State, Status, str]] = {
    "no configuration": (
        State(has_configuration=False, problems=("line 3: wrong",)), Status.NOT_READY, "line 3: wrong"
    ),
    "Blob is away": (State(shelved=AWAY), Status.NOT_READY, "account's Blob service cannot be reached"),
    "Table is away": (State(counted_at=AWAY), Status.NOT_READY, "account's Table service cannot be reached"),
    "Table is slow": (State(counted_at=TimeoutError()), Status.NOT_READY, "account's Table service cannot be reached"),
    "a new configuration is broken": (State(problems=("line 3: wrong",)), Status.DEGRADED, "line 3: wrong"),
    "the transport is away": (State(messages=TransportDown("x")), Status.DEGRADED, "records go to the shelf"),
    "the recorder is behind": (State(messages=10_001), Status.DEGRADED, "10001 messages wait to be recorded"),
    "something is on the shelf": (State(shelved=2), Status.DEGRADED, "2 blobs wait on the shelf"),
    "something is in quarantine": (State(quarantined=3), Status.DEGRADED, "3 messages are in quarantine"),
    "no rollup for long": (State(counted_at=NOW - timedelta(hours=2)), Status.DEGRADED, "rolled up 7200 s ago"),
    "clients cannot be read": (State(unreadable=2), Status.DEGRADED, "2 clients are refused"),
    "a model is out": (State(out="b"), Status.DEGRADED, "Every deployment of the model 'n' is out for now."),
}  # fmt: skip


@pytest.mark.parametrize(("state", "status", "told"), STATES.values(), ids=STATES.keys())
async def test_what_is_wrong_is_told_and_only_what_calls_fail_of_takes_an_instance_out(
    state: State, status: Status, told: str
) -> None:
    report = await readiness(state).report()
    (text,) = report.problems + report.warnings
    assert (report.status, told in text) == (status, True), text
    assert bool(report.problems) == (status is Status.NOT_READY)
    assert b"secret" not in msgspec.json.encode(report)


async def test_an_account_that_nothing_was_counted_in_yet_is_ready() -> None:
    report = await readiness(State(counted_at=None, messages=None)).report()
    assert (report.status, report.rollup_age_s, report.backlog.messages) == (Status.READY, None, None)


async def test_many_who_ask_cost_one_look() -> None:
    state = State()
    looking = readiness(state)
    reports = await asyncio.gather(*(looking.report() for _ in range(50)))
    assert {report.status for report in reports} == {Status.READY}
    assert sorted(state.asked) == ["counted_at", "messages", "quarantined", "shelved"]


async def test_who_goes_away_takes_the_look_from_nobody() -> None:
    looking = readiness(State())
    gone = asyncio.create_task(looking.report())
    other = asyncio.create_task(looking.report())
    await asyncio.sleep(0)
    gone.cancel()
    assert (await other).status is Status.READY


async def test_a_later_look_sees_what_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.readiness._KEPT_S", 0)
    state = State()
    looking = readiness(state)
    assert (await looking.report()).status is Status.READY
    state.shelved = 1
    await asyncio.sleep(0.001)
    assert (await looking.report()).status is Status.DEGRADED
