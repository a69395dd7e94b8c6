"""The doctor: a set-up that is well, and one that is broken in each way, which it has to find.

Storage, Event Hubs, Data Explorer and the upstream are the local stand-ins; what is broken about them is really broken.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob.aio import BlobServiceClient

from devtools import cli
from devtools.azurite import Azurite
from devtools.cli import stores
from devtools.eventhubs import EventHubsServer
from devtools.kusto import KustoServer
from devtools.simulator import Fault, Simulator
from shared.doctor import CHECKS, Level, Told, examine
from tests.cluster import cluster
from tests.emulator import AWAY

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # the Event Hubs SDK leaves broken sockets behind


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator.start() as started:
        yield started


def document(simulator: Simulator, **changes: Any) -> dict[str, Any]:
    """A configuration that is well."""
    usual: dict[str, Any] = {
        "upstreams": [
            {"name": name, "kind": "openai", "url": f"{simulator.url(name)}/v1", "key": "$UPSTREAM_KEY"}
            for name in ("east", "west")
        ],
        "deployments": [
            {"name": f"{model}-{name}", "model": model, "upstream": name}
            for model in ("gpt-4o", "text-embedding-3-small", "whisper-1")
            for name in ("east", "west")
        ],
        "prices": [
            {"model": model, "input": 1, "output": 2} for model in ("gpt-4o", "text-embedding-3-small", "whisper-1")
        ],
        "clients": [{"id": "team-a", "roles": ["Caller"], "models": ["gpt-4o"], "limits": {"money_per_month": 5}}],
    }
    return usual | changes


@pytest.fixture
def well(azurite: Azurite, simulator: Simulator) -> dict[str, str]:
    """The settings of a set-up that is well."""
    simulator.clear_faults()
    return {
        "AzureWebJobsStorage": azurite.connection_string,
        "TOLLGATE_CONFIG": json.dumps(document(simulator)),
        "TOLLGATE_ADMIN_KEY": "an-admin-key-of-some-length",
        "UPSTREAM_KEY": "k",
    }


def wrong(told: list[Told]) -> list[Told]:
    return [each for each in told if each.level is not Level.OK]


async def only(environ: Mapping[str, str], check: str, *, calls: bool = False) -> list[Told]:
    return list(await examine(environ, now, calls=calls, only=[check]))


async def test_a_set_up_that_is_well_is_said_to_be(well: dict[str, str], azurite: Azurite) -> None:
    told = list(await examine(well, now, calls=True))
    async with EventHubsServer({"calls": 2}) as hubs:
        named = {"TOLLGATE_TRANSPORT": "event-hubs", "TOLLGATE_EVENT_HUB": hubs.connection_string}
        told += await only(well | named, "transport")
    async with cluster() as explorer:
        told += await only(well | {"TOLLGATE_KUSTO_URI": explorer.url}, "data-explorer")
    assert wrong(told) == []
    assert {each.check for each in told} == {*CHECKS}, "each has something to say"
    async with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        assert not [each.name async for each in blobs.list_containers() if "doctor" in each.name], (
            "nothing is left behind"
        )


SETTINGS: dict[str, tuple[dict[str, str], Level, str, str]] = {
    "a value that is none": (
        {"TOLLGATE_CONNECT_TIMEOUT_S": "soon"}, Level.ERROR, "TOLLGATE_CONNECT_TIMEOUT_S", "Mend the setting"
    ),
    "a name that is none": ({"TOLLGATE_PREFX": "x"}, Level.WARNING, "TOLLGATE_PREFX is no setting", "TOLLGATE_PREFIX"),
    "no storage": ({"AzureWebJobsStorage": ""}, Level.ERROR, "No Storage account is named", "AzureWebJobsStorage"),
    "no namespace": ({"TOLLGATE_TRANSPORT": "event-hubs"}, Level.ERROR, "no namespace is named", "TOLLGATE_EVENT_HUB"),
    "a namespace that is not used": (
        {"TOLLGATE_EVENT_HUB": "Endpoint=sb://x"}, Level.WARNING, "is named and not used", "TOLLGATE_TRANSPORT"
    ),
    "no configuration": ({"TOLLGATE_CONFIG": ""}, Level.ERROR, "TOLLGATE_CONFIG is not set", "devtools.cli init"),
    "nobody manages": ({"TOLLGATE_ADMIN_KEY": ""}, Level.WARNING, "Nobody may manage", "TOLLGATE_ADMIN_KEY"),
    "an admin key to be guessed": ({"TOLLGATE_ADMIN_KEY": "admin"}, Level.WARNING, "short enough", "openssl"),
    "a secret that was not resolved": (
        {"UPSTREAM_KEY": "@Microsoft.KeyVault(SecretUri=x)"}, Level.ERROR, "UPSTREAM_KEY", "Key Vault Secrets User"
    ),
    "calls outlive the process": (
        {"TOLLGATE_DEADLINE_S": "1800"}, Level.ERROR, "the host ends the whole process", "TOLLGATE_DEADLINE_S"
    ),
    "calls outlive their grace": (
        {"TOLLGATE_INCOMPLETE_AFTER_S": "60"}, Level.ERROR, "count as incomplete after 60 s", "TOLLGATE_DEADLINE_S"
    ),
    "the platform cuts first": (
        {"TOLLGATE_FIRST_BYTE_TIMEOUT_S": "240"}, Level.WARNING, "may take 240 s", "TOLLGATE_FIRST_BYTE_TIMEOUT_S"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "level", "message", "remedy"), SETTINGS.values(), ids=SETTINGS.keys())
async def test_a_wrong_setting_is_found(
    well: dict[str, str], changes: dict[str, str], level: Level, message: str, remedy: str
) -> None:
    (found,) = wrong(await only(well | changes, "settings"))
    assert (found.level, message in found.message, remedy in found.remedy) == (level, True, True), found


CLIENT: dict[str, Any] = {"id": "team-a", "roles": ["Caller"]}
DOCUMENTS: dict[str, tuple[str, dict[str, Any], Level, str]] = {
    "broken": ("configuration", {"deploymnets": []}, Level.ERROR, "did you mean `deployments`?"),
    "a reference to a setting that is not there": (
        "configuration",
        {"upstreams": [{"name": n, "kind": "openai", "url": "https://x.example", "key": "$NO_KEY"} for n in ("east", "west")]},
        Level.ERROR, "NO_KEY",
    ),
    "no deployment": (
        "configuration", {"deployments": [], "upstreams": [], "clients": []}, Level.ERROR, "No deployment is configured"
    ),
    "a model that nothing serves": (
        "configuration", {"clients": [CLIENT | {"models": ["gpt-9"]}]}, Level.WARNING, "may use gpt-9, which nothing serves"
    ),
    "a client that cannot show anything": (
        "configuration", {"clients": [{"id": "team-a"}]}, Level.WARNING, "'team-a' has no key in the document"
    ),
    "no price": ("prices", {"shipped_prices": False, "prices": [], "clients": [], "deployments": [
        {"name": "gpt-4o", "model": "gpt-4o", "upstream": "east"}]}, Level.WARNING, "'gpt-4o' has no price today"),
    "a price that is not in force yet": ("prices", {"shipped_prices": False,
        "prices": [{"model": "gpt-4o", "since": "2999-01-01"}], "clients": [],
        "deployments": [{"name": "gpt-4o", "model": "gpt-4o", "upstream": "east"}]}, Level.WARNING, "has no price today"),
}  # fmt: skip


@pytest.mark.parametrize(("check", "changes", "level", "message"), DOCUMENTS.values(), ids=DOCUMENTS.keys())
async def test_a_wrong_configuration_is_found(
    well: dict[str, str], simulator: Simulator, check: str, changes: dict[str, Any], level: Level, message: str
) -> None:
    text = json.dumps(document(simulator, **changes))
    found = wrong(await only(well | {"TOLLGATE_CONFIG": text}, check))
    assert [each.level for each in found if message in each.message] >= [level], found
    assert all(each.remedy for each in found)


async def test_a_deployment_alone_and_an_idle_upstream_are_found(well: dict[str, str], simulator: Simulator) -> None:
    alone = [{"name": "gpt-4o", "model": "gpt-4o", "upstream": "east"}]
    text = json.dumps(document(simulator, deployments=alone))
    told = [each.message for each in wrong(await only(well | {"TOLLGATE_CONFIG": text}, "configuration"))]
    assert told == [
        "The upstream 'west' has no deployment.",
        "The model 'gpt-4o' has one deployment: there is nothing to fail over to.",
    ]


async def test_a_budget_that_cannot_be_kept_is_found(well: dict[str, str], simulator: Simulator) -> None:
    text = json.dumps(document(simulator, prices=[], shipped_prices=False))
    found = wrong(await only(well | {"TOLLGATE_CONFIG": text}, "prices"))
    assert [each.level for each in found] == [Level.WARNING] * 3 + [Level.ERROR]
    assert "'team-a' has a budget in money and is refused gpt-4o" in found[-1].message


@pytest.mark.filterwarnings("ignore:Testing an element's truth value:DeprecationWarning")  # azure-storage-queue's
async def test_storage_that_refuses_is_found(well: dict[str, str]) -> None:
    key = well["AzureWebJobsStorage"].partition("AccountKey=")[2].partition(";")[0]
    refused = wrong(
        await only(well | {"AzureWebJobsStorage": well["AzureWebJobsStorage"].replace(key, "d3Jvbmc=")}, "storage")
    )
    assert [each.message.partition(":")[0] for each in refused] == ["Blob", "Queue", "Table"]
    assert all("refuses the app" in each.message and "role Storage " in each.remedy for each in refused)
    assert key not in str(refused)


async def test_storage_that_is_away_is_found(well: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.doctor.of_stores._PATIENCE_S", 1.0)
    away = wrong(await only(well | {"AzureWebJobsStorage": AWAY}, "storage"))
    assert len(away) == 3
    assert all("cannot be reached" in each.message and "private endpoint" in each.remedy for each in away)


@pytest.mark.parametrize(("minutes", "told"), [(10, "ahead of"), (-10, "behind")])
async def test_a_clock_that_is_wrong_is_found(well: dict[str, str], minutes: int, told: str) -> None:
    (found,) = await examine(well, lambda: now() + timedelta(minutes=minutes), only=["clock"])
    assert (found.level, told in found.message) == (Level.ERROR, True), found


async def test_a_hub_that_is_missing_or_small_is_found(well: dict[str, str]) -> None:
    async with EventHubsServer({"calls": 1}) as hubs:
        named = well | {"TOLLGATE_TRANSPORT": "event-hubs", "TOLLGATE_EVENT_HUB": hubs.connection_string}
        missing = wrong(await only(named | {"TOLLGATE_EVENT_HUB_NAME": "none"}, "transport"))
        small = wrong(await only(named | {"TOLLGATE_EVENT_HUB_MESSAGE_BYTES": "2000000"}, "transport"))
    assert [(each.level, "does not take events" in each.message) for each in missing] == [(Level.ERROR, True)]
    assert "Data Sender" in missing[0].remedy
    assert [each.level for each in small] == [Level.ERROR, Level.WARNING]
    assert "TOLLGATE_EVENT_HUB_MESSAGE_BYTES is 2000000" in small[0].message
    assert "one partition" in small[1].message


@pytest.fixture
async def bare() -> AsyncIterator[KustoServer]:
    async with KustoServer() as server:
        yield server


async def test_a_database_without_what_is_needed_is_found(well: dict[str, str], bare: KustoServer) -> None:
    environ = well | {"TOLLGATE_KUSTO_URI": bare.url}
    nothing = wrong(await only(environ, "data-explorer"))
    assert len(nothing) == 4
    assert all(each.level is Level.ERROR and "queries/tables.kql" in each.remedy for each in nothing)
    bare.manage(".create-merge table CallRecords (CallId: string)")
    columns, mapping, _, functions = wrong(await only(environ, "data-explorer"))
    assert columns.message.startswith("The table CallRecords lacks RecordVersion, ")
    assert mapping.message == "The set of ingestion mappings lacks CallRecords_v1."
    assert functions.message.startswith("The set of functions lacks UsageHourly, ")


async def test_a_cluster_that_is_away_is_found(well: dict[str, str]) -> None:
    (found,) = await only(well | {"TOLLGATE_KUSTO_URI": "http://127.0.0.1:9"}, "data-explorer")
    assert (found.level, "does not answer" in found.message) == (Level.ERROR, True)
    assert "Viewer" in found.remedy


async def test_an_upstream_that_is_away_is_found(well: dict[str, str], simulator: Simulator) -> None:
    away = document(simulator)
    away["upstreams"][0]["url"] = "http://127.0.0.1:9/v1"
    (found,) = wrong(await only(well | {"TOLLGATE_CONFIG": json.dumps(away)}, "upstreams"))
    assert (found.level, found.message) == (Level.ERROR, "The upstream 'east' cannot be reached: ConnectError.")
    assert "`url` of 'east'" in found.remedy


async def test_that_there_is_no_identity_to_show_is_found(
    well: dict[str, str], simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")  # which says nothing here
    of_identity = document(simulator)
    of_identity["upstreams"][0] = {"name": "east", "kind": "azure", "url": "https://east.example", "auth": "identity"}
    (found,) = wrong(await only(well | {"TOLLGATE_CONFIG": json.dumps(of_identity)}, "upstreams"))
    assert (found.level, "there is none here" in found.message) == (Level.ERROR, True), found
    assert "`az login`" in found.remedy


def test_where_nothing_is_set_up_that_of_make_run_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (*stores.STORAGE, "TOLLGATE_CONFIG", "TOLLGATE_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(stores, "RUN_INFO", tmp_path / "run.json")
    assert cli.main(["doctor", "--only", "settings"]) == 1
    assert "No Storage account is named." in capsys.readouterr().out
    run = {"storage_connection_string": AWAY, "admin_key": "tga-1234567890123456789012"}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert cli.main(["doctor", "--only", "settings"]) == 0, capsys.readouterr().out


FAULTS: dict[str, tuple[Fault, Level, str, str]] = {
    "its key is refused": (Fault(status=401), Level.ERROR, "refuses our credential with 401", "the key of 'east'"),
    "it is missing": (Fault(missing_deployment=True), Level.ERROR, "knows no 'gpt-4o'", "`deployment`"),
    "it is at its limit": (Fault(status=429), Level.WARNING, "at its limit", "quota"),
    "it is broken": (Fault(status=500), Level.WARNING, "answers 500", "Call it yourself"),
    "it breaks off": (Fault(drop=True), Level.ERROR, "cannot be reached", "network"),
}


@pytest.mark.parametrize(("fault", "level", "message", "remedy"), FAULTS.values(), ids=FAULTS.keys())
async def test_a_deployment_that_does_not_answer_is_found(
    well: dict[str, str], simulator: Simulator, fault: Fault, level: Level, message: str, remedy: str
) -> None:
    simulator.set_fault("east:gpt-4o", fault)
    (found,) = wrong(await only(well, "deployments", calls=True))
    assert found.message.startswith("The deployment 'gpt-4o-east' ")
    assert (found.level, message in found.message, remedy in found.remedy) == (level, True, True), found


async def test_nothing_is_billed_unless_it_is_asked_for(well: dict[str, str], simulator: Simulator) -> None:
    simulator.clear_account()
    assert await only(well, "deployments") == []
    await only(well, "upstreams")
    assert not simulator.summary()
    await only(well, "deployments", calls=True)
    assert {(entry.deployment, (entry.usage or {}).get("completion_tokens", 0)) for entry in simulator.calls()
            if entry.usage} == {("gpt-4o", 1), ("text-embedding-3-small", 0)}  # fmt: skip


def run(settings: Path, *arguments: str) -> int:
    return cli.main(["doctor", "--settings", str(settings), *arguments])


@pytest.fixture
def printed(well: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `az functionapp config appsettings list` prints of the set-up."""
    monkeypatch.delenv("TOLLGATE_URL", raising=False)
    file = tmp_path / "settings.json"
    file.write_text(json.dumps([{"name": name, "slotSetting": False, "value": each} for name, each in well.items()]))
    return file


def test_the_command_ends_by_what_it_found(printed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(printed, "--only", "settings,prices") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ok       prices    All 3 models have a price."
    assert run(printed, "--only", "settings", "--url", "http://127.0.0.1:9") == 0, "only what was asked for"
    assert run(printed, "--only", "nothing") == 1
    assert "--only nothing: there are settings, " in capsys.readouterr().err


def test_the_command_prints_json_and_fails_where_something_is_wrong(
    printed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLGATE_DEADLINE_S", "1800")
    assert run(printed, "--json", "--url", "http://127.0.0.1:9") == 1
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert {each["check"] for each in told if each["level"] == "error"} == {"settings", "gateway"}
    assert err == "error: 2 things to mend\n"


def test_settings_that_are_none_are_one_line(printed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed.write_text("[1]")
    assert run(printed) == 1
    assert capsys.readouterr().err.startswith(f"error: {printed} holds no settings: ")
