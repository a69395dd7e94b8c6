"""What a producer of any kind sends is stored once, whole, in order, and in the partition it belongs to."""

import asyncio
from typing import Any

import pytest
from azure.eventhub import EventHubProducerClient as SyncProducer
from azure.eventhub.exceptions import ConnectError, EventDataSendError, EventHubError

from devtools.eventhubs import EventHubsServer
from tests.eventhubs.clients import event, producer

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # the SDK leaves broken sockets to the collector


async def test_a_single_event_keeps_its_body_and_properties(server: EventHubsServer) -> None:
    async with producer(server) as client:
        await client.send_event(event(b"\xff\x00body", text="t", number=7, flag=True), partition_id="2")
    (stored,) = server.events("calls")
    assert (stored.partition, stored.sequence_number, stored.body) == ("2", 0, b"\xff\x00body")
    assert stored.properties == {"text": "t", "number": 7, "flag": True}


async def test_the_events_of_a_batch_stay_together_and_in_order(server: EventHubsServer) -> None:
    async with producer(server) as client:
        await client.send_batch([event(b"%d" % index) for index in range(50)])
    stored = server.events("calls")
    assert [item.body for item in stored] == [b"%d" % index for index in range(50)]
    assert [item.sequence_number for item in stored] == list(range(50))
    assert len({item.partition for item in stored}) == 1
    assert sorted({int(item.offset) for item in stored}) == [int(item.offset) for item in stored]


async def test_sends_without_a_key_take_turns(server: EventHubsServer) -> None:
    async with producer(server) as client:
        for _ in range(8):
            await client.send_event(event(b"x"))
    assert sorted(item.partition for item in server.events("calls")) == ["0", "0", "1", "1", "2", "2", "3", "3"]


async def test_a_partition_key_always_means_the_same_partition(server: EventHubsServer) -> None:
    async with producer(server) as client:
        for key in ("a", "b", "c", "a", "b", "c"):
            await client.send_batch([event(b"x")], partition_key=key)
    places = {(item.partition_key, item.partition) for item in server.events("calls")}
    assert len(places) == 3
    async with EventHubsServer({"calls": 4}) as other, producer(other) as client:
        for key in ("c", "b", "a"):
            await client.send_event(event(b"x"), partition_key=key)
        assert {(item.partition_key, item.partition) for item in other.events("calls")} == places


async def test_the_sync_client_sends_too(server: EventHubsServer) -> None:
    def send() -> None:
        with SyncProducer.from_connection_string(server.connection_string, eventhub_name="calls") as client:
            batch = client.create_batch(partition_id="1")
            batch.add(event(b"from a thread"))
            client.send_batch(batch)
            assert client.get_partition_properties("1")["last_enqueued_sequence_number"] == 0

    await asyncio.to_thread(send)
    assert [item.body for item in server.events("calls")] == [b"from a thread"]


async def test_the_buffered_client_delivers_everything_it_took(server: EventHubsServer) -> None:
    failed: list[object] = []

    async def on_success(_events: list[Any], _partition_id: str) -> None:
        return

    async def on_error(events: list[Any], _partition_id: str, _error: Exception) -> None:
        failed.extend(events)

    client = producer(server, buffered_mode=True, on_success=on_success, on_error=on_error, max_wait_time=0.2)
    async with client:
        for index in range(500):
            await client.send_event(event(b"%d" % index), partition_key=str(index % 7))
        await client.flush()
    assert not failed
    assert sorted(int(item.body) for item in server.events("calls")) == list(range(500))


LIMITS = {"standard": 1_048_576, "basic": 262_144}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
async def test_the_limit_is_for_the_whole_transfer(limit: int) -> None:
    async with EventHubsServer({"calls": 1}, max_message_size=limit) as server, producer(server) as client:
        batch = await client.create_batch()
        assert batch.max_size_in_bytes == limit
        while True:
            try:
                batch.add(event(b"x" * 10_000))
            except ValueError:
                break
        await client.send_batch(batch)  # just under the limit, many frames
        assert len(await server.stored("calls", len(batch))) == len(batch)
        with pytest.raises(EventDataSendError, match="LinkMessageSizeExceeded"):
            await client.send_event(event(b"x" * limit))
        await client.send_event(event(b"after"))
        assert server.events("calls")[-1].body == b"after"
        assert len(server.events("calls")) == len(batch) + 1


async def test_a_missing_hub_and_a_missing_partition_are_named(server: EventHubsServer) -> None:
    async with producer(server, hub="nowhere", retry_total=0) as client:
        with pytest.raises(EventHubError, match="404"):
            await client.send_event(event(b"x"))
    async with producer(server, retry_total=0) as client:
        with pytest.raises(ConnectError, match="Invalid partition 9"):
            await client.send_event(event(b"x"), partition_id="9")


async def test_a_busy_server_refuses_exactly_as_often_as_asked(server: EventHubsServer) -> None:
    server.faults.rejected_sends = 2
    async with producer(server) as client:
        with pytest.raises(EventDataSendError, match="server-busy"):
            await client.send_event(event(b"refused"))  # the SDK tries a refused event twice at once, then gives up
        await client.send_event(event(b"taken"))
    assert [item.body for item in server.events("calls")] == [b"taken"]


async def test_a_lost_acknowledgement_makes_the_sdk_send_again(server: EventHubsServer) -> None:
    server.faults.lost_acks = 1
    async with producer(server) as client:
        await client.send_event(event(b"twice"), partition_id="0")
        await client.send_event(event(b"once"), partition_id="0")
    assert [item.body for item in server.events("calls")] == [b"twice", b"twice", b"once"]


async def test_a_producer_survives_dropped_and_refused_connections(server: EventHubsServer) -> None:
    async with producer(server, retry_total=10) as client:
        await client.send_event(event(b"first"), partition_id="0")
        server.drop_connections()
        await client.send_event(event(b"second"), partition_id="0")
        server.faults.refuse_connections = True
        server.drop_connections()

        def recover() -> None:
            server.faults.refuse_connections = False

        asyncio.get_running_loop().call_later(0.3, recover)
        await client.send_event(event(b"third"), partition_id="0")
    assert [item.body for item in server.events("calls")] == [b"first", b"second", b"third"]


async def test_an_acknowledgement_waits_for_its_delay(server: EventHubsServer) -> None:
    async with producer(server) as client:
        await client.send_event(event(b"opens the link"), partition_id="0")
        server.faults.ack_delay = 0.2
        started = asyncio.get_running_loop().time()
        await client.send_event(event(b"slow"), partition_id="0")
        assert asyncio.get_running_loop().time() - started >= 0.2
