"""Metering: batches and background responses of a real simulator, into a real ledger."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from azure.data.tables.aio import TableServiceClient
from msgspec.structs import replace

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from shared.core.call_record import CallRecord, UsageSource
from shared.core.configuration import Configuration, parse
from shared.core.money.deferred import LateUsage
from shared.core.money.ledger import UsageEntry, entry_of
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.events import Closed, Record
from shared.core.usage import TokenUsage
from shared.credentials import Credentials
from shared.gateway.upstream import Upstreams
from shared.recording.recorder import Recorder
from shared.settings import read_settings
from shared.usage.deferred_table import DeferredUsage
from shared.usage.metering import Metering
from tests.emulator import Storage
from tests.examples import NOON, closed

LATER = NOON + timedelta(minutes=5)
SILENT: dict[str, Any] = {"usage": None, "usage_source": None, "upstream": "simulator"}
LINES = [
    {
        "custom_id": str(n),
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * n}]},
    }
    for n in (1, 2000, 5)
]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator.start(batch_ms=0, background_ms=0) as running:
        yield running


@pytest.fixture
async def metering(storage: Storage, azurite: Azurite, prefix: str) -> AsyncIterator[Metering]:
    upstreams = Upstreams(read_settings({}))
    async with TableServiceClient.from_connection_string(azurite.connection_string) as tables:
        deferred = DeferredUsage(tables.get_table_client(f"{prefix}Deferred"))
        await deferred.prepare()
        recorder = Recorder(
            archive=storage.archive,
            sinks=(storage.archive, storage.ledger, deferred),
            quarantine=storage.quarantine,
            shelf=storage.shelf,
        )
        yield Metering(
            upstreams=upstreams,
            credentials=Credentials(lambda: NOON),
            deferred=deferred,
            ledger=storage.ledger,
            recorder=recorder,
        )
    await upstreams.close()


def configuration(simulator: Simulator) -> Configuration:
    upstream = {"name": "simulator", "kind": "openai", "url": f"{simulator.url()}/v1", "key": "k"}
    return parse(json.dumps({"upstreams": [upstream]}), {})


async def run(metering: Metering, simulator: Simulator, now: datetime = LATER) -> int:
    return await metering.run(configuration(simulator), now)


RECORDED = {"batches", "fine_tuning", "evals"}


async def entries(storage: Storage) -> list[UsageEntry]:
    """All lines but those of calls."""
    hours = {f"{NOON:%Y%m%d%H}", *await storage.dirty()}
    return [
        entry for hour in sorted(hours) async for entry in storage.ledger.entries(hour) if entry.operation in RECORDED
    ]


def client(simulator: Simulator) -> httpx.Client:
    return httpx.Client(base_url=f"{simulator.url()}/v1/", headers={"authorization": "Bearer k"})


@pytest.fixture
def batch(simulator: Simulator) -> dict[str, Any]:
    """A batch that ends when it is looked at."""
    with client(simulator) as http:
        content = b"\n".join(json.dumps(line).encode() for line in LINES)
        file = http.post("files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"}).json()
        body = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        made: dict[str, Any] = http.post("batches", json=body).json()
    return made


def created(batch_id: str) -> Closed:
    return closed(1, operation="batches.create", model="", model_served=None, response_id=batch_id, **SILENT)


async def test_a_batch_is_charged_once_to_the_client_that_made_it(
    storage: Storage, metering: Metering, simulator: Simulator, batch: dict[str, Any]
) -> None:
    await metering.deferred.write([created(batch["id"])])
    assert await run(metering, simulator) == 1
    with client(simulator) as http:
        told = http.get(f"batches/{batch['id']}").json()["usage"]
    (entry,) = await entries(storage)
    assert (entry.input_tokens, entry.output_tokens) == (told["input_tokens"], told["output_tokens"])
    assert (entry.client_id, entry.tier, entry.usage_source) == ("team-blue", "batch", UsageSource.PROVIDER)
    await metering.deferred.write([created(batch["id"])])
    assert await run(metering, simulator) == 0, "a record that comes again opens nothing"
    assert await entries(storage) == [entry]


async def test_metering_that_is_killed_before_it_has_settled_charges_no_second_time(
    storage: Storage, metering: Metering, simulator: Simulator, batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object) -> None:
        raise ConnectionError

    await metering.deferred.write([created(batch["id"])])
    with monkeypatch.context() as patched:
        patched.setattr(DeferredUsage, "settle", killed)
        with pytest.raises(ConnectionError):
            await run(metering, simulator)
    before = await entries(storage)
    assert await run(metering, simulator) == 1
    assert await entries(storage) == before
    assert len(before) == 1


async def test_a_timer_that_comes_late_to_what_another_has_settled_changes_nothing(
    storage: Storage, metering: Metering, simulator: Simulator, batch: dict[str, Any]
) -> None:
    """Guards what is known: by then the object may be gone, and nothing is kept of it any more."""
    await metering.deferred.write([created(batch["id"])])
    [made] = await metering.deferred.unsettled()
    assert await run(metering, simulator) == 1
    before = await entries(storage)
    assert await metering.deferred.keep(made, made.kind.unknown(made)) is None
    assert (await run(metering, simulator), await entries(storage)) == (0, before)


async def test_a_tier_that_was_asked_for_and_not_had_is_not_charged(storage: Storage) -> None:
    call = closed(1, operation="responses", response_id="resp_1", tier="priority", **SILENT)
    await storage.ledger.write([call])
    for tier in ("priority/long", ""):
        late = LateUsage(usage_source=UsageSource.PROVIDER, usage=TokenUsage(input_tokens=7), tier=tier)
        assert await storage.ledger.add_usage(call.record.call_id, late)
        await storage.ledger.write([call])
        assert (await storage.entry(call)).tier == tier, "also where the record comes again"


@pytest.mark.parametrize("step", [(Recorder, "replay"), (DeferredUsage, "settle")], ids=["recording", "settling"])
async def test_what_was_told_is_charged_even_where_its_object_is_deleted_before_it_is_settled(
    storage: Storage,
    metering: Metering,
    simulator: Simulator,
    batch: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    step: tuple[type, str],
) -> None:
    """Guards that what is known is neither lost nor joined by unknown usage, whenever the process dies."""

    async def killed(*_: object) -> None:
        raise ConnectionError

    await metering.deferred.write([created(batch["id"])])
    with monkeypatch.context() as patched:
        patched.setattr(*step, killed)
        with pytest.raises(ConnectionError):
            await run(metering, simulator)
    with client(simulator) as http:
        told = http.get(f"batches/{batch['id']}").json()
        http.delete(f"files/{told['output_file_id']}").raise_for_status()
    assert await run(metering, simulator) == 1
    (entry,) = await entries(storage)
    assert (entry.input_tokens, entry.usage_source) == (told["usage"]["input_tokens"], UsageSource.PROVIDER)


async def test_fine_tuning_jobs_and_runs_are_charged_once_they_have_ended(
    storage: Storage, metering: Metering, simulator: Simulator
) -> None:
    """Guards that what others score as zero is counted, for the client that asked for it."""
    with client(simulator) as http:
        job = http.post("fine_tuning/jobs", json={"model": "gpt-4o-mini-2024-07-18", "training_file": "file-1"}).json()
        evaluation = http.post("evals", json={"data_source_config": {}, "testing_criteria": []}).json()
        evaluated = http.post(f"evals/{evaluation['id']}/runs", json={"data_source": {}}).json()
        thread = http.post("threads", json={}).json()
        ran = http.post(f"threads/{thread['id']}/runs", json={"assistant_id": "asst_1", "model": "gpt-4o"}).json()
        made = [
            closed(1, operation="fine_tuning.jobs.create", model="", response_id=job["id"], **SILENT),
            closed(
                2,
                operation="evals.runs.create",
                response_id=evaluated["id"],
                response_parent=evaluation["id"],
                **SILENT,
            ),
            closed(3, operation="threads.runs.create", response_id=ran["id"], response_parent=thread["id"], **SILENT),
        ]
        await storage.ledger.write(made)
        await metering.deferred.write(made)
        assert await run(metering, simulator) == 1, "the run of the thread"
        http.post(f"fine_tuning/jobs/{job['id']}", json={"status": "succeeded", "trained_tokens": 1234})
        usage = {"model_name": "o3", "prompt_tokens": 7, "completion_tokens": 2, "cached_tokens": 0}
        http.post(
            f"evals/{evaluation['id']}/runs/{evaluated['id']}", json={"status": "completed", "per_model_usage": [usage]}
        )
    assert await run(metering, simulator) == 2
    assert await run(metering, simulator) == 0
    told = {entry.operation: entry for entry in await entries(storage)}
    assert (told["fine_tuning"].tier, told["fine_tuning"].input_tokens) == ("training", 1234)
    assert (told["evals"].model_served, told["evals"].input_tokens, told["evals"].output_tokens) == ("o3", 7, 2)
    entry = await storage.entry(made[2])
    assert (entry.input_tokens, entry.output_tokens, entry.usage_source) == (20, 10, UsageSource.PROVIDER)


async def test_a_background_response_is_charged_to_the_call_that_made_it(
    storage: Storage, metering: Metering, simulator: Simulator
) -> None:
    with client(simulator) as http:
        made = http.post("responses", json={"model": "gpt-4o", "input": "hi", "background": True}).json()
    call = closed(1, operation="responses", response_id=made["id"], **SILENT)
    await metering.deferred.write([call])
    assert await run(metering, simulator) == 0, "the ledger does not know the call yet"
    await storage.ledger.write([call])
    assert (await storage.entry(call)).usage_source is None
    assert await run(metering, simulator) == 1
    with client(simulator) as http:
        told = http.get(f"responses/{made['id']}").json()["usage"]
    entry = await storage.entry(call)
    assert (entry.input_tokens, entry.output_tokens) == (told["input_tokens"], told["output_tokens"])
    assert entry.usage_source is UsageSource.PROVIDER
    await storage.ledger.write([call])
    assert await storage.entry(call) == entry, "the record that comes again says nothing else"
    assert await storage.dirty() == ["2026112112"]


class Seen:
    """A sink that remembers."""

    name = "seen"

    def __init__(self) -> None:
        self.records: list[CallRecord] = []

    async def write(self, events: Sequence[Record]) -> None:
        self.records += [event.record for event in events]


async def test_every_sink_is_told_what_was_learnt_late(
    storage: Storage, metering: Metering, simulator: Simulator, batch: dict[str, Any]
) -> None:
    """Guards that Data Explorer shows what batches and background responses used as the ledger does."""
    seen = Seen()
    sinks = (*metering.recorder.sinks, seen)
    metering = replace(metering, recorder=replace(metering.recorder, sinks=sinks))
    with client(simulator) as http:
        made = http.post("responses", json={"model": "gpt-4o", "input": "hi", "background": True}).json()
    call = closed(1, operation="responses", response_id=made["id"], **SILENT)
    await storage.archive.put(ArchivedCall(record=call.record, request=b"", response=b""))
    await storage.ledger.write([call])
    await metering.deferred.write([call, created(batch["id"])])
    assert await run(metering, simulator) == 2
    told = {record.operation: entry_of(record) for record in seen.records}
    assert told["batches"] == (await entries(storage))[0]
    kept = await storage.entry(call)
    assert kept.input_tokens
    assert (told["responses"].call_id, told["responses"].input_tokens) == (kept.call_id, kept.input_tokens)


async def test_what_is_gone_is_unknown_and_not_asked_again(
    storage: Storage, metering: Metering, simulator: Simulator
) -> None:
    call = closed(2, operation="responses", response_id="resp_000000000000", **SILENT)
    await storage.ledger.write([call])
    await metering.deferred.write([created("batch_0000000000"), call])
    assert await run(metering, simulator) == 2
    assert (await storage.entry(call)).usage_source is UsageSource.NONE
    assert [entry.usage_source for entry in await entries(storage)] == [UsageSource.NONE]
    assert await run(metering, simulator) == 0


async def test_an_upstream_that_is_away_is_asked_again_until_it_cannot_know_any_more(
    storage: Storage, metering: Metering, simulator: Simulator, batch: dict[str, Any]
) -> None:
    other = closed(3, operation="batches.create", response_id="batch_elsewhere1", **(SILENT | {"upstream": "gone"}))
    await metering.deferred.write([other, created(batch["id"])])
    assert await run(metering, simulator) == 1, "one that is away stops none of the others"
    assert await run(metering, simulator, NOON + timedelta(days=30)) == 0
    assert await run(metering, simulator, NOON + timedelta(days=32)) == 1
    assert sorted(str(entry.usage_source) for entry in await entries(storage)) == ["none", "provider"]


async def test_an_upstream_that_is_silent_is_asked_once_and_waited_for_a_moment(
    storage: Storage,
    metering: Metering,
    simulator: Simulator,
    batch: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards that the timer, which has usage to roll up, is not held up by it for as long as a stream may be silent."""
    monkeypatch.setattr("shared.usage.metering._ANSWER_S", 2.0)
    asked = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1")
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        upstreams = [
            {"name": "simulator", "kind": "openai", "url": f"{simulator.url()}/v1", "key": "k"},
            {"name": "silent", "kind": "openai", "url": url, "key": "k"},
        ]
        told = SILENT | {"upstream": "silent"}
        waiting = [closed(n, operation="batches.create", response_id=f"batch_0{n}", **told) for n in (4, 5)]
        await metering.deferred.write([*waiting, created(batch["id"])])
        assert await metering.run(parse(json.dumps({"upstreams": upstreams}), {}), LATER) == 1
    assert asked == 1
