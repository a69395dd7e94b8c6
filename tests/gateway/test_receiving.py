"""Answers too large to be held pass through into the archive, no faster than their client takes them."""

import asyncio
import hashlib

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.core.api.tap import PassTap
from shared.core.call_record import Outcome
from shared.core.errors import NotReady, UpstreamFailed
from shared.core.recording import archive
from shared.core.recording.archive import Extent
from shared.gateway.receiving import Received
from shared.gateway.relay import Relay, Timing
from shared.gateway.upstream import UpstreamError
from tests.emulator import Storage
from tests.examples import closed_record
from tests.gateway.test_relay import Record, ScriptedResponse, all_of

MEGABYTE = 1024 * 1024
PIECES = [hashlib.sha256(number.to_bytes(8)).digest() * 8192 for number in range(48)]
"""A quarter of a megabyte each."""
WHOLE = b"".join(PIECES)


class Refusing:
    """An archive that is away."""

    is_empty = True

    async def add(self, _: bytes) -> None:
        raise ServiceRequestError("away")


def relay_of(response: ScriptedResponse, record: Record, received: Received, deadline_s: float = 60) -> Relay:
    deadline = asyncio.get_running_loop().time() + deadline_s
    timing = Timing(deadline=deadline, drain_s=60, heartbeat_s=60)
    return Relay(response, PassTap(), record, timing, received)  # type: ignore[arg-type]


async def idle() -> None:
    for _ in range(1000):
        await asyncio.sleep(0)


@pytest.mark.parametrize("request_body", [b"", b"what was asked"], ids=["nothing asked", "something asked"])
async def test_what_passes_through_is_archived_whole(storage: Storage, request_body: bytes) -> None:
    record = closed_record()
    received = Received(2 * MEGABYTE, request=request_body, writer=lambda: storage.archive.writer(record.call_id))
    for piece in PIECES:
        await received.add(piece)
    assert received.body == b""
    assert received.passed == Extent.of(WHOLE)
    digest = await received.finish(record)
    kept = await storage.archive.content(record.call_id)
    assert kept
    assert archive.digest_of(kept) == digest
    header, call = archive.head_in(kept).header, archive.decode(kept)
    assert (header.request_sha256, header.response_sha256) == (Extent.of(request_body).sha256, Extent.of(WHOLE).sha256)
    assert (call.request, call.response) == (request_body, WHOLE)


async def test_what_is_small_is_held(storage: Storage) -> None:
    record = closed_record()
    received = Received(len(WHOLE), writer=lambda: storage.archive.writer(record.call_id))
    for piece in PIECES:
        await received.add(piece)
    assert (received.body, received.passed) == (WHOLE, None)
    assert await received.finish(record) is None
    assert await storage.archive.content(record.call_id) is None


async def test_what_is_not_to_be_kept_is_counted() -> None:
    received = Received(MEGABYTE)
    for piece in PIECES:
        await received.add(piece)
    assert received.passed == Extent.of(WHOLE)
    assert await received.finish(closed_record()) is None


async def test_an_upstream_waits_for_a_client_that_does_not_take_what_it_sends() -> None:
    response, record = ScriptedResponse(*PIECES, None), Record()
    relay = relay_of(response, record, Received(2 * MEGABYTE))
    await idle()
    assert response.left > len(PIECES) // 2, "it was read on, with nobody to take it"
    assert await all_of(relay) == WHOLE
    assert record.closed[0].received.passed == Extent.of(WHOLE)
    assert record.outcome is Outcome.COMPLETED


async def test_a_client_that_leaves_is_not_waited_for() -> None:
    response, record = ScriptedResponse(*PIECES, None), Record()
    relay = relay_of(response, record, Received(2 * MEGABYTE))
    await idle()
    await relay.finish()
    assert record.closed[0].received.passed == Extent.of(WHOLE)
    assert record.outcome is Outcome.CLIENT_CLOSED


async def test_a_deadline_that_passes_while_the_client_does_not_take_it_is_not_the_upstreams_fault() -> None:
    response, record = ScriptedResponse(*PIECES, None), Record()
    relay = relay_of(response, record, Received(2 * MEGABYTE), deadline_s=0.05)
    await record.begun.wait()
    assert (record.outcome, relay.is_broken) == (Outcome.CLIENT_CLOSED, False)
    assert relay.error == "the client did not take it before the call's deadline"


async def test_an_upstream_that_breaks_off_is_recorded_as_far_as_it_came() -> None:
    response, record = ScriptedResponse(*PIECES, UpstreamError("reset", sent=True)), Record()
    relay = relay_of(response, record, Received(2 * MEGABYTE))
    with pytest.raises(UpstreamFailed):
        await all_of(relay)
    await relay.finish()
    assert record.closed[0].received.passed == Extent.of(WHOLE)


async def test_what_cannot_be_recorded_is_broken_off() -> None:
    response, record = ScriptedResponse(*PIECES, None), Record()
    relay = relay_of(response, record, Received(2 * MEGABYTE, writer=Refusing))  # type: ignore[arg-type]
    with pytest.raises(NotReady):
        await all_of(relay)
    await relay.finish()
    assert (record.outcome, relay.is_broken) == (Outcome.UPSTREAM_ERROR, False), "it was served, and counts"


async def test_what_cannot_be_recorded_goes_on_where_that_is_allowed() -> None:
    response, record = ScriptedResponse(*PIECES, None), Record()
    received = Received(2 * MEGABYTE, writer=Refusing, may_be_lost=True)  # type: ignore[arg-type]
    assert await all_of(relay_of(response, record, received)) == WHOLE
    assert received.passed == Extent.of(WHOLE)
    assert await received.finish(closed_record()) is None
