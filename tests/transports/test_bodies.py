"""Bodies of any size, from the publisher over each transport to the archive: byte for byte, at the edges of every limit.

What arrives is shuffled and doubled, and two recorders share it, a message at a time.
"""

import asyncio
import random
from collections.abc import Sequence

import pytest

from devtools.azurite import Azurite
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.events import Closed, decode, encode, unpack
from shared.core.recording.gzipped import compressed
from shared.recording import publishing
from shared.recording.publishing import SPILL, Publisher, Sizes
from shared.recording.recorder import Recorder
from shared.transports import Transport
from tests.emulator import Storage
from tests.examples import archived, call_id
from tests.transports.conftest import Carrier, storage_queue

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning"
    ),  # as in test_event_hubs.py; and of the storage SDK's large blocks
]

CLAIM_CHECK = 1_000_000
KIB, MIB = 1024, 1024 * 1024


def binary(size: int) -> bytes:
    """Bytes of every value, the same for the same size."""
    return random.Random(size).randbytes(size)


def text(size: int) -> bytes:
    """UTF-8 that JSON has to escape, and that no line may be split at."""
    return ('{"a":"\\"\n\u2028ü"}' * (size // 12 + 1)).encode()[: size - 1].decode(errors="ignore").encode() + b"."


def recorder(storage: Storage) -> Recorder:
    return Recorder(
        archive=storage.archive,
        sinks=(storage.archive, storage.ledger),
        quarantine=storage.quarantine,
        shelf=storage.shelf,
    )


def publisher(carrier: Carrier, storage: Storage, claim_check_bytes: int = CLAIM_CHECK) -> Publisher:
    sizes = Sizes(claim_check_bytes=claim_check_bytes, waiting_bytes=64 * MIB)
    return Publisher(carrier.transport, storage.archive, storage.shelf, sizes)


async def recorded(carrier: Carrier, storage: Storage) -> list[bytes]:
    """Records all that has arrived; returns it."""
    messages = await carrier.received()
    arrived = [*messages, *messages[:50]]
    random.Random(len(messages)).shuffle(arrived)
    recorders = [recorder(storage), recorder(storage)]
    for number, message in enumerate(arrived):
        await recorders[number % 2].record([message])
    assert await storage.quarantined() == {}
    return messages


async def is_kept(storage: Storage, *calls: ArchivedCall) -> bool:
    for call in calls:
        assert (await storage.archive.get(call.record.call_id)) == call
        assert (await storage.entry(Closed(record=call.record))).outcome is call.record.outcome
    return True


def kinds_of(messages: Sequence[bytes]) -> set[str]:
    return {type(decode(line)).__name__ for message in messages for line in unpack(message)}


SIZES = [1, KIB, 30 * KIB, 64 * KIB, 256 * KIB, CLAIM_CHECK - 1, CLAIM_CHECK, CLAIM_CHECK + 1, MIB, 5 * MIB]


@pytest.mark.parametrize("size", SIZES)
async def test_bodies_come_back_byte_for_byte(tested: Carrier, storage: Storage, size: int) -> None:
    """Invariant: a call is recorded as it was sent, whatever its size, the order in which it arrives and who records it."""
    calls = [
        archived(1, request=binary(size), response=b""),
        archived(2, request=b"", response=text(size)),
        archived(3, request=text((size + 1) // 2), response=binary(size // 2)),
    ]
    sending = publisher(tested, storage)
    for call in calls:
        await sending.closed(call)
    messages = await recorded(tested, storage)
    assert await is_kept(storage, *calls)
    largest = max(len(call.request) + len(call.response) for call in calls)
    assert all(len(message) <= tested.transport.max_message_bytes for message in messages)
    if largest > CLAIM_CHECK:
        assert "Chunk" not in kinds_of(messages)


@pytest.mark.parametrize("over", [-1, 0, 1])
async def test_bodies_come_back_at_the_edge_of_a_message(tested: Carrier, storage: Storage, over: int) -> None:
    limit = tested.transport.max_message_bytes
    empty = len(encode(Closed.of(archived(1, request=b"", response=b""))))
    call = archived(1, request=b"", response=b"x" * (limit - empty + over))
    assert len(encode(Closed.of(call))) == limit + over
    await publisher(tested, storage, 10 * MIB).closed(call)
    messages = await recorded(tested, storage)
    assert kinds_of(messages) == ({"Chunk"} if over > 0 else {"Closed"})
    assert await is_kept(storage, call)


async def test_large_bodies_come_back_in_chunks_too(tested: Carrier, storage: Storage) -> None:
    """They travel so while the archive is away."""
    call = archived(1, request=binary(3 * MIB // 2), response=text(MIB))
    await publisher(tested, storage, 10 * MIB).closed(call)
    messages = await recorded(tested, storage)
    assert kinds_of(messages) == {"Chunk"}
    assert len(messages) > 2
    assert await is_kept(storage, call)


COMPRESSED = {
    "short": (b"short", False),
    "much that is alike": (b"alike" * MIB, False),
    "less than is claimed, once compressed": (binary(CLAIM_CHECK * 3 // 4) + bytes(CLAIM_CHECK), False),
    "claimed": (binary(CLAIM_CHECK + 1), True),
}


@pytest.mark.parametrize(("response", "is_claimed"), COMPRESSED.values(), ids=COMPRESSED.keys())
async def test_compressed_calls_come_back_and_are_as_large_as_they_travel(
    tested: Carrier, storage: Storage, response: bytes, is_claimed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.archive, "_packed", compressed)
    sizes = Sizes(claim_check_bytes=CLAIM_CHECK, waiting_bytes=64 * MIB, is_gzip=True)
    call = archived(1, request=b"{}", response=response)
    await Publisher(tested.transport, storage.archive, storage.shelf, sizes).closed(call)
    assert bool(await storage.archive.get(call_id(1))) is is_claimed
    messages = await recorded(tested, storage)
    assert len(messages) == 1 or len(response) > CLAIM_CHECK
    assert all(len(message) <= tested.transport.max_message_bytes for message in messages)
    content = b"".join([piece async for piece in storage.archive.pieces(call_id(1))])
    assert content[:2] == messages[0][:2] == b"\x1f\x8b"
    assert await is_kept(storage, call)


async def test_a_hundred_megabytes_come_back(azurite: Azurite, prefix: str, storage: Storage) -> None:
    """About as much as the host lets in. Their bytes take the same way whatever the transport: past it."""
    call = archived(1, request=binary(100_000_000), response=b"taken")
    async with storage_queue(azurite.connection_string, f"{prefix}-calls") as carrier:
        await carrier.transport.prepare()
        await publisher(carrier, storage).closed(call)
        assert kinds_of(await recorded(carrier, storage)) == {"Closed"}
    assert await is_kept(storage, call)


async def test_what_was_spilled_comes_back_like_what_was_not(
    unreachable: Transport, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_PATIENCE_S", 2.0)  # the SDK's own is longer
    calls = [archived(1, request=binary(300 * KIB), response=b""), archived(2, request=b"small")]
    sizes = Sizes(claim_check_bytes=10 * MIB, waiting_bytes=64 * MIB)
    sending = Publisher(unreachable, storage.archive, storage.shelf, sizes)
    await asyncio.gather(*map(sending.closed, calls))
    assert await storage.archive.get(call_id(1)) is None
    assert await storage.shelf.deliver(SPILL, recorder(storage).record_lines) > 0
    assert await is_kept(storage, *calls)
