"""The app on Event Hubs: what was promised of the storage queue holds there too, whatever the hub does."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue.aio import QueueClient

from devtools.azurite import Azurite
from devtools.eventhubs import EventHubsServer
from devtools.simulator import Simulator
from shared.core.recording.events import decode, unpack
from tests.stack import Stack, running

HUB = "calls-of-e2e"

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # the stand-in's side of connections that were cut


@dataclass(frozen=True)
class OnHubs:
    """An app whose transport is a hub, and that hub. What tests ask adds up: all of them are held to the sum."""

    stack: Stack
    hub: EventHubsServer

    async def ask(self, *texts: str, stream: bool = False) -> list[tuple[str, bytes, bytes]]:
        """Makes calls at once; (call id, request, response) of each."""
        headers = {"authorization": f"Bearer {self.stack.key()}"}
        async with httpx.AsyncClient(base_url=self.stack.host.base_url, headers=headers, timeout=60) as http:

            async def one(text: str) -> tuple[str, bytes, bytes]:
                body: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}
                if stream:
                    body |= {"stream": True, "stream_options": {"include_usage": True}}
                answer = await http.post("/v1/chat/completions", json=body)
                assert answer.status_code == 200, answer.text
                return answer.headers["x-tollgate-call-id"], answer.request.content, answer.content

            return list(await asyncio.gather(*map(one, texts)))

    async def all_is_accounted_for(self) -> None:
        """Every call that the simulator ever served is one ledger entry, with its tokens."""
        served = [entry for entry in self.stack.simulator.calls() if entry.status == 200]
        report = await self.stack.usage_when(
            lambda report: report["total"]["completed"] >= len(served) and not report["total"]["open"]
        )
        assert (report["total"]["calls"], report["total"]["completed"]) == (len(served), len(served))
        assert report["total"]["input_tokens"] == sum((entry.usage or {})["prompt_tokens"] for entry in served)
        assert report["total"]["output_tokens"] == sum((entry.usage or {})["completion_tokens"] for entry in served)

    def events(self) -> list[tuple[str, str]]:
        """(kind, call id) of every event that the hub has stored."""
        events = [decode(line) for stored in self.hub.events(HUB) for line in unpack(stored.body)]
        return [(type(event).__name__, getattr(event, "call_id", None) or event.record.call_id) for event in events]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
async def app(anyio_backend: str, azurite: Azurite) -> AsyncIterator[OnHubs]:
    with Simulator.start() as simulator:
        async with EventHubsServer({HUB: 2}) as hub:
            settings: Any = {
                "TOLLGATE_TRANSPORT": "event-hubs",
                "TOLLGATE_EVENT_HUB": hub.connection_string,
                "TOLLGATE_EVENT_HUB_NAME": HUB,
                "TOLLGATE_CLAIM_CHECK_BYTES": "3000000",
            }
            async with running(azurite, simulator, "onhubs", **settings) as stack:
                yield OnHubs(stack, hub)


SIZES = {"a message": 10, "nearly the largest message": 900_000, "chunks": 2_000_000, "the claim check": 4_000_000}


@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "a stream"])
async def test_calls_of_every_size_are_accounted_for_and_archived_as_sent(app: OnHubs, stream: bool) -> None:
    calls = await app.ask(*("x" * size for size in SIZES.values()), stream=stream)
    for call_id, request, response in calls:
        kept = await app.stack.archived(call_id)
        assert (kept.request, kept.response) == (request, response)
    await app.all_is_accounted_for()
    kinds = [{kind for kind, told in app.events() if told == call_id} for call_id, _, _ in calls]
    assert kinds == [{"Opened", "Closed"}, {"Opened", "Closed"}, {"Opened", "Chunk"}, {"Opened", "Closed"}]


async def test_nothing_goes_through_the_queue(app: OnHubs) -> None:
    await app.ask("by hub")
    queue = QueueClient.from_connection_string(app.stack.azurite.connection_string, f"{app.stack.prefix}-calls")
    async with queue:
        with pytest.raises(ResourceNotFoundError):
            await queue.get_queue_properties()


async def test_what_comes_twice_counts_once(app: OnHubs) -> None:
    """Invariant: writes are idempotent by call id, whether it is the sender or the hub that repeats itself."""
    app.hub.faults.lost_acks, app.hub.faults.duplicate_deliveries = 2, 4
    await app.ask(*(f"twice {number}" for number in range(5)), "x" * 2_000_000)
    await app.all_is_accounted_for()
    assert (app.hub.faults.lost_acks, app.hub.faults.duplicate_deliveries) == (0, 0)
    events = app.events()
    assert len(events) > len(set(events)), "the hub has some twice"


async def test_calls_while_the_hub_refuses_are_served_and_their_records_delivered_later(app: OnHubs) -> None:
    """Invariant: a call is on record before its client has the answer; a transport that is down does not change that."""
    app.hub.faults.rejected_sends = 1_000_000
    before = len(app.hub.events(HUB))
    calls = await app.ask("while it refuses", "x" * 2_000_000)
    assert len(app.hub.events(HUB)) == before
    await app.all_is_accounted_for()
    for call_id, request, response in calls:
        kept = await app.stack.archived(call_id)
        assert (kept.request, kept.response) == (request, response)
    app.hub.faults.rejected_sends = 0
    await app.ask("once it does not")
    await app.all_is_accounted_for()


async def test_a_host_that_is_killed_loses_nothing(app: OnHubs) -> None:
    """Invariant: every forwarded call ends as one ledger entry, whatever is killed. Its records are still on their way."""
    calls = await app.ask(*(f"before {number}" for number in range(10)), "x" * 2_000_000)
    await app.stack.host.kill()  # with it goes what it knew of the hub
    await app.stack.host.begin()
    await app.ask("after")
    await app.all_is_accounted_for()
    for call_id, request, response in calls:
        kept = await app.stack.archived(call_id)
        assert (kept.request, kept.response) == (request, response)


async def test_calls_while_the_hub_is_gone_are_served_and_their_records_delivered_later(app: OnHubs) -> None:
    app.hub.faults.refuse_connections = True
    app.hub.drop_connections()
    async with asyncio.timeout(20):  # for what is spared it is not asked each time
        for number in range(5):
            await app.ask(f"while it is gone {number}")
    app.hub.faults.refuse_connections = False
    await app.ask("once it is back")
    await app.all_is_accounted_for()
