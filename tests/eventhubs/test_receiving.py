"""A consumer gets every event once, from where it asks, until another with a claim as good takes over."""

import contextlib
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.eventhub.exceptions import EventHubError
from azure.eventhub.extensions.checkpointstoreblobaio import BlobCheckpointStore
from azure.storage.blob.aio import ContainerClient

from devtools.azurite import Azurite
from devtools.eventhubs import EventHubsServer, StoredEvent
from tests.eventhubs.clients import event, producer, receiving

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # the SDK leaves broken sockets to the collector


async def send(server: EventHubsServer, *bodies: bytes, partition_id: str | None = None) -> None:
    async with producer(server) as client:
        for body in bodies:
            await client.send_event(event(body, name=body.decode()), partition_id=partition_id)


async def test_an_event_arrives_with_what_the_service_knows_of_it(server: EventHubsServer) -> None:
    async with producer(server) as client:
        await client.send_batch([event(b"zero"), event(b"one", n=1)], partition_key="key")
    stored = server.events("calls")[1]
    async with receiving(server, track_last_enqueued_event_properties=True) as received:
        await received.until(lambda r: len(r.events) == 2)
    context, got = received.events[1]
    assert (got.body_as_str(), got.properties) == ("one", {b"n": 1})
    assert (got.sequence_number, got.offset, got.partition_key) == (1, stored.offset, b"key")
    assert got.enqueued_time == stored.enqueued_time
    assert context.partition_id == stored.partition
    assert context.last_enqueued_event_properties
    assert context.last_enqueued_event_properties["sequence_number"] == 1


async def test_large_and_late_events_arrive_in_order(server: EventHubsServer) -> None:
    async with receiving(server, partition_id="1") as received:
        bodies = [bytes([65 + index]) * 300_000 for index in range(5)]
        await send(server, *bodies, partition_id="1")
        await received.until(lambda r: len(r.events) == 5)
    assert received.bodies == [body.decode() for body in bodies]


async def test_more_events_arrive_than_a_link_has_credit_for(server: EventHubsServer) -> None:
    async with producer(server) as client:
        await client.send_batch([event(b"%d" % index) for index in range(200)], partition_id="0")
    async with receiving(server, partition_id="0", prefetch=10) as received:
        await received.until(lambda r: len(r.events) == 200)
    assert received.bodies == [str(index) for index in range(200)]


POSITIONS: dict[str, tuple[Any, list[str]]] = {
    "the start": (lambda _: {"starting_position": "-1"}, ["0", "1", "2", "new"]),
    "the end": (lambda _: {"starting_position": "@latest"}, ["new"]),
    "after an offset": (lambda events: {"starting_position": events[0].offset}, ["1", "2", "new"]),
    "at an offset": (
        lambda events: {"starting_position": events[1].offset, "starting_position_inclusive": True},
        ["1", "2", "new"],
    ),
    "after a sequence number": (lambda _: {"starting_position": 1}, ["2", "new"]),
    "before every time": (
        lambda events: {"starting_position": events[0].enqueued_time - timedelta(seconds=1)},
        ["0", "1", "2", "new"],
    ),
    "the last time": (lambda events: {"starting_position": events[2].enqueued_time}, ["new"]),
}


async def test_receivers_start_where_they_ask(server: EventHubsServer) -> None:
    await send(server, b"0", b"1", b"2", partition_id="0")
    stored: list[StoredEvent] = server.events("calls")
    async with AsyncExitStack() as stack:  # one consumer group each, all at once: a receiver takes seconds to close
        receivers = {
            name: await stack.enter_async_context(receiving(server, group=name, partition_id="0", **position(stored)))
            for name, (position, _) in POSITIONS.items()
        }
        await server.attached("calls", len(POSITIONS))
        await send(server, b"new", partition_id="0")
        for received in receivers.values():
            await received.until(lambda r: "new" in r.bodies)
    assert {name: received.bodies for name, received in receivers.items()} == {
        name: expected for name, (_, expected) in POSITIONS.items()
    }


async def test_a_duplicate_is_delivered_when_asked_for(server: EventHubsServer) -> None:
    server.faults.duplicate_deliveries = 1
    await send(server, b"a", b"b", partition_id="0")
    async with receiving(server, partition_id="0") as received:
        await received.until(lambda r: len(r.events) == 3)
    assert received.bodies == ["a", "a", "b"]


async def test_a_consumer_resumes_after_a_drop_without_loss_or_repeat(server: EventHubsServer) -> None:
    async with receiving(server, partition_id="0") as received:
        await send(server, b"0", b"1", partition_id="0")
        await received.until(lambda r: len(r.events) == 2)
        server.drop_connections()
        await send(server, b"2", partition_id="0")
        await received.until(lambda r: len(r.events) == 3)
    assert received.bodies == ["0", "1", "2"]


async def test_a_higher_owner_level_takes_over_and_a_lower_one_is_refused(server: EventHubsServer) -> None:
    async with receiving(server, partition_id="0", owner_level=1) as first:
        await send(server, b"0", partition_id="0")
        await first.until(lambda r: r.events)
        async with receiving(server, partition_id="0", owner_level=2) as second:
            await second.until(lambda r: r.events)
            await first.until(lambda r: r.errors)
            async with receiving(server, partition_id="0", owner_level=0) as third:
                await third.until(lambda r: r.errors)
            assert third.events == []
            await send(server, b"1", partition_id="0")
            await second.until(lambda r: len(r.events) == 2)
    assert all(isinstance(error, EventHubError) for error in first.errors + third.errors)
    assert not second.errors


async def test_two_consumers_share_the_partitions_and_a_checkpoint_is_resumed(
    server: EventHubsServer, azurite: Azurite
) -> None:
    balancing = {"load_balancing_interval": 0.3, "partition_ownership_expiration_interval": 5}
    name = f"checkpoints-{server.port}"
    async with ContainerClient.from_connection_string(azurite.connection_string, name) as container:
        with contextlib.suppress(ResourceExistsError):  # a slow first try may have made it after all
            await container.create_container()

    def store() -> BlobCheckpointStore:
        return BlobCheckpointStore.from_connection_string(azurite.connection_string, name)

    async with store() as one, receiving(server, client={"checkpoint_store": one} | balancing) as first:
        await first.until(lambda r: len(r.owned) >= 1)
        async with store() as two, receiving(server, client={"checkpoint_store": two} | balancing) as second:
            for received in (first, second):
                await received.until(lambda r: len(r.owned) == 2)
            assert first.owned | second.owned == {"0", "1", "2", "3"}
            await send(server, *(b"%d" % index for index in range(12)))
            for received in (first, second):
                await received.until(lambda r: len(r.events) >= 6)
            for context, got in [*first.events, *second.events]:
                await context.update_checkpoint(got)
    assert Counter(first.bodies + second.bodies) == Counter(str(index) for index in range(12))
    await send(server, b"after")
    async with store() as again, receiving(server, client={"checkpoint_store": again} | balancing) as third:
        await third.until(lambda r: r.events)
    assert third.bodies == ["after"]
