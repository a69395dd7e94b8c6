"""Event Hub triggers, on the stand-in for Event Hubs and with checkpoints in Azurite."""

import os
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from azure.eventhub import EventData
from azure.eventhub.aio import EventHubProducerClient

from devtools.azurite import Azurite
from devtools.devhost.client import DevHost
from devtools.eventhubs import EventHubsServer
from tests.devhost.conftest import APPS, Notes

pytestmark = pytest.mark.skipif(
    os.environ.get("TOLLGATE_HOST") == "func", reason="func would need the Event Hubs emulator of Docker"
)


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A hub of two partitions."""

    connection: str
    name: str
    storage: str

    def settings(self, notes: Notes, **more: str) -> Mapping[str, str]:
        own = {"AzureWebJobsStorage": self.storage, "HUBS": self.connection, "HUB": self.name}
        return {**own, "NOTES": str(notes.path), **more}

    async def send(self, events: Sequence[EventData], *, partition: str = "0") -> None:
        producer = EventHubProducerClient.from_connection_string(self.connection, eventhub_name=self.name)
        async with producer:
            await producer.send_batch(list(events), partition_id=partition)


@pytest.fixture
async def hub(azurite: Azurite) -> AsyncIterator[Hub]:
    name = f"hub-{uuid.uuid4().hex}"  # checkpoints are named after it
    async with EventHubsServer({name: 2}) as server:
        yield Hub(connection=server.connection_string, name=name, storage=azurite.connection_string)


def bodies(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [event["body"] for run in runs for event in run["events"]]


async def succeeded(notes: Notes, name: str, count: int) -> list[dict[str, Any]]:
    """Wait until that many events have passed successful runs."""

    def enough(notes: Notes) -> list[dict[str, Any]]:
        runs = notes.read(name=name, failed=False)
        return runs if len(bodies(runs)) >= count else []

    return await notes.wait_for(enough)


async def test_a_batch_is_as_in_azure(hub: Hub, notes: Notes) -> None:
    first, second = EventData(b"\xff\x00a"), EventData("plain")
    first.properties = {"kind": "binary", "number": 7}
    await hub.send([first, second], partition="1")
    async with DevHost.start(APPS / "hub", hub.settings(notes)):
        runs = await succeeded(notes, "many", 2)
    events = [event for run in runs for event in run["events"]]
    assert bodies(runs) == ["\xff\x00a", "plain"]
    assert [event["sequence"] for event in events] == [0, 1]
    assert all(isinstance(event["offset"], int) for event in events)
    assert all(event["enqueued"].startswith("20") for event in events)
    assert runs[0]["properties"][0] == {"kind": "binary", "number": 7}
    assert runs[0]["partition"]["PartitionId"] == "1"
    assert runs[0]["partition"]["EventHubName"] == hub.name


async def test_one_event_at_a_time_where_cardinality_is_one(hub: Hub, notes: Notes) -> None:
    await hub.send([EventData(str(number)) for number in range(5)])
    async with DevHost.start(APPS / "hub", hub.settings(notes)):
        runs = await succeeded(notes, "single", 5)
    assert [len(run["events"]) for run in runs] == [1] * 5
    assert bodies(runs) == ["0", "1", "2", "3", "4"]
    assert [run["events"][0]["sequence"] for run in runs] == [0, 1, 2, 3, 4]


async def test_batches_are_bounded_and_each_partition_is_in_order(hub: Hub, notes: Notes) -> None:
    for partition in ("0", "1"):
        await hub.send([EventData(f"{partition} {number}") for number in range(35)], partition=partition)
    async with DevHost.start(APPS / "hub", hub.settings(notes)):
        runs = await succeeded(notes, "many", 70)
    assert max(len(run["events"]) for run in runs) <= 10
    for partition in ("0", "1"):
        expected = [f"{partition} {number}" for number in range(35)]
        assert [body for body in bodies(runs) if body.startswith(partition)] == expected


async def test_a_failed_batch_is_retried_as_the_policy_says_and_then_checkpointed(hub: Hub, notes: Notes) -> None:
    await hub.send([EventData("a"), EventData("b")])
    async with DevHost.start(APPS / "hub", hub.settings(notes, FAIL_MANY="3")) as host:
        await succeeded(notes, "many", 2)
        tries = notes.read(name="many")
        assert [run["retry"] for run in tries if "a" in bodies([run])] == [0, 1, 2, 3]
        assert [run["failed"] for run in tries][:4] == [True, True, True, False]
        await hub.send([EventData("c")])
        await notes.wait_for(lambda notes: "c" in bodies(notes.read(name="many", failed=False)))
        await host.restart()
        await hub.send([EventData("d")])
        runs = await notes.wait_for(
            lambda notes: found if "d" in bodies(found := notes.read(name="many", failed=False)) else []
        )
    assert bodies(runs) in (["a", "b", "c", "d"], ["a", "b", "c", "c", "d"])


async def test_without_a_policy_the_checkpoint_passes_a_failed_batch(hub: Hub, notes: Notes) -> None:
    await hub.send([EventData("lost")])
    async with DevHost.start(APPS / "hub", hub.settings(notes, FAIL_LOSSY="1")) as host:
        await notes.wait_for(lambda notes: notes.read(name="lossy", failed=True))
        await hub.send([EventData("kept")])
        await succeeded(notes, "lossy", 1)
        await host.restart()
        await hub.send([EventData("later")])
        await notes.wait_for(lambda notes: "later" in bodies(notes.read(name="lossy")))
    assert bodies(notes.read(name="lossy")).count("lost") == 1


async def test_a_host_that_ends_during_retries_leaves_no_checkpoint(hub: Hub, notes: Notes) -> None:
    await hub.send([EventData("a"), EventData("b")])
    async with DevHost.start(APPS / "hub", hub.settings(notes, FAIL_MANY="1000")):
        await notes.wait_for(lambda notes: len(notes.read(name="many", failed=True)) >= 2)
    async with DevHost.start(APPS / "hub", hub.settings(notes)):
        runs = await succeeded(notes, "many", 2)
    assert bodies(runs) == ["a", "b"]


async def test_a_function_that_runs_at_the_end_may_finish_but_leaves_no_checkpoint(hub: Hub, notes: Notes) -> None:
    await hub.send([EventData("a")])
    async with DevHost.start(APPS / "hub", hub.settings(notes, SLEEP_MANY="1")) as host:
        await notes.wait_for(lambda notes: notes.read(name="many"))
        assert await host.stop() == 0
        assert bodies(notes.read(name="many ended")) == ["a"]
        await host.begin()
        await notes.wait_for(lambda notes: len(notes.read(name="many")) == 2)


async def test_a_killed_host_loses_nothing(hub: Hub, notes: Notes) -> None:
    await hub.send([EventData("a")])
    async with DevHost.start(APPS / "hub", hub.settings(notes, FAIL_MANY="1")) as host:
        await notes.wait_for(lambda notes: notes.read(name="many", failed=True))
        await host.kill()
        await host.begin()
        await notes.wait_for(lambda notes: "a" in bodies(notes.read(name="many", failed=False)))


async def test_two_hosts_share_the_partitions(hub: Hub, notes: Notes) -> None:
    settings = hub.settings(notes)
    async with DevHost.start(APPS / "hub", settings), DevHost.start(APPS / "hub", settings):
        for number in range(10):
            await hub.send([EventData(f"{number}")], partition=str(number % 2))
        runs = await succeeded(notes, "single", 10)
    assert sorted(set(bodies(runs))) == sorted(str(number) for number in range(10))


async def test_admin_runs_an_event_hub_function_with_the_given_text(hub: Hub, notes: Notes) -> None:
    async with DevHost.start(APPS / "hub", hub.settings(notes)) as host:
        await host.invoke("many", "by hand")
        await host.invoke("single", "by hand too")
        await succeeded(notes, "many", 1)
        await succeeded(notes, "single", 1)
    assert bodies(notes.read()) == ["by hand", "by hand too"]
