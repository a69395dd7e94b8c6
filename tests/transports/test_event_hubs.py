"""Event Hubs, when it is not as it should be. What every transport promises is in test_transports.py."""

import asyncio

import pytest

from devtools.eventhubs import EventHubsServer
from shared.transports import TransportDown
from tests.transports.conftest import event_hubs, hub_at

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # the SDK leaves broken sockets to the collector


async def test_more_than_one_batch_holds_is_sent_in_several(anyio_backend: str) -> None:
    messages = [bytes([number]) * 600_000 for number in range(3)] + [b"small"]
    async with event_hubs() as (carrier, _):
        await carrier.transport.send(messages)
        assert sorted(await carrier.received()) == sorted(messages)


@pytest.mark.parametrize("before", [[], [b"small"]], ids=["alone", "behind another"])
async def test_a_message_that_no_batch_holds_is_refused_and_harms_no_later_one(before: list[bytes]) -> None:
    async with EventHubsServer({"calls": 1}, max_message_size=262_144) as server:  # as the Basic tier
        transport = hub_at(server.connection_string)
        with pytest.raises(TransportDown, match=r".+"):
            await transport.send([*before, b"x" * 262_144])
        await transport.send([b"x" * 250_000])
        assert server.events("calls")[-1].body == b"x" * 250_000
        await transport.close()


async def test_a_hub_that_refuses_is_down_until_it_does_not(anyio_backend: str) -> None:
    async with event_hubs() as (carrier, server):
        server.faults.rejected_sends = 1000
        with pytest.raises(TransportDown, match=r"(?i)busy|throttled"):
            await carrier.transport.send([b"refused"])
        assert await carrier.received() == []
        server.faults.rejected_sends = 0
        await carrier.transport.send([b"taken"])
        assert await carrier.received() == [b"taken"]


async def test_what_a_hub_took_without_saying_so_is_sent_again(anyio_backend: str) -> None:
    """At least once: the recorder takes a message any number of times."""
    async with event_hubs() as (carrier, server):
        server.faults.lost_acks = 1
        await carrier.transport.send([b"taken"])
        assert await carrier.received() == [b"taken"] * 2


async def test_a_connection_that_broke_while_idle_is_made_anew(anyio_backend: str) -> None:
    async with event_hubs() as (carrier, server):
        await carrier.transport.send([b"one"])
        server.drop_connections()
        for _ in range(2):  # the SDK notices with the first send, which may or may not arrive
            try:
                await carrier.transport.send([b"two"])
                break
            except TransportDown:
                continue
        assert (await carrier.received())[-1] == b"two"


async def test_a_send_that_is_given_up_leaves_a_transport_that_sends(anyio_backend: str) -> None:
    """Guards that a hub that hangs once does not stay hung for the process: the publisher's patience cancels the send."""
    async with event_hubs() as (carrier, server):
        await carrier.transport.send([b"one"])
        server.faults.ack_delay = 30
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await carrier.transport.send([b"two"])
        server.faults.ack_delay = 0
        async with asyncio.timeout(20):
            await carrier.transport.send([b"three"])
        assert b"three" in await carrier.received()
