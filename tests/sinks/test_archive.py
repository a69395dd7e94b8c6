"""The archive in Blob Storage."""

import asyncio
import hashlib
import threading

import msgspec
import pytest
from azure.core.exceptions import AzureError, ResourceModifiedError

from shared import sinks
from shared.core.recording.archive import ArchivedCall, Extent, Reading, encode, head_in, head_of
from shared.core.recording.events import Body, Chunk, Closed, split
from shared.core.recording.gzipped import compressed
from shared.sinks.archive import NotTheCall
from shared.storage.blob_wire import LARGEST, BlobPutter
from tests.emulator import Storage
from tests.examples import archived, call_id, closed_record, opened


async def test_a_call_comes_back_byte_for_byte(storage: Storage) -> None:
    call = archived(request=b'{"a":"\xc3\xbc"}\n', response=bytes(range(256)))
    await storage.archive.write(
        [Closed(record=call.record, request=Body.of(call.request), response=Body.of(call.response))]
    )
    assert await storage.archive.get(call_id()) == call


async def test_empty_bodies_are_bodies(storage: Storage) -> None:
    await storage.archive.write([Closed(record=closed_record(), request=Body.of(b""), response=Body.of(b""))])
    assert await storage.archive.get(call_id()) == archived(request=b"", response=b"")


async def test_an_event_without_bodies_leaves_what_the_gateway_archived(storage: Storage) -> None:
    """The claim check: the archive has the call already."""
    await storage.archive.put(archived(request=b"large"))
    await storage.archive.write([opened(), Closed(record=closed_record())])
    assert await storage.archive.get(call_id()) == archived(request=b"large")


async def test_calls_go_on_while_a_large_one_is_compressed(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the event loop: a hundred megabytes take more than a second."""
    went_on = threading.Event()

    def slow(content: bytes) -> bytes:
        assert went_on.wait(10), "nothing else came to its turn meanwhile"
        return content

    monkeypatch.setattr(storage.archive, "_packed", slow)
    asyncio.get_running_loop().call_later(0.05, went_on.set)
    await storage.archive.put(archived(response=bytes(LARGEST)))


async def test_the_name_of_a_call_is_its_hour_and_its_id(storage: Storage) -> None:
    await storage.archive.put(archived())
    name = f"2026/11/21/12/{call_id()}"
    download = await storage.archive._container.download_blob(name)
    assert await download.readall() == encode(archived())
    assert [blob async for blob in storage.archive._container.list_blob_names()] == [name]


async def test_a_call_that_is_not_archived_is_none_and_no_id_is_an_error(storage: Storage) -> None:
    await storage.archive.write([opened()])
    assert await storage.archive.get(call_id()) is None
    with pytest.raises(ValueError, match=r".+"):
        await storage.archive.get("../../secrets")


def chunks_of(call: ArchivedCall, pieces: int = 5) -> list[Chunk]:
    """The call in that many chunks, or one more."""
    size = len(encode(call)) // pieces + 1
    return list(split(call, limit=size * 4 // 3 + 515))


CALL = archived(request=b"\xff\x00" * 400, response=bytes(range(256)) * 4)
ALL = chunks_of(CALL)
HEAD = head_in(encode(CALL))

DELIVERIES: dict[str, list[list[Chunk]]] = {
    "at once": [ALL],
    "at once, backwards": [ALL[::-1]],
    "one by one": [[chunk] for chunk in ALL],
    "one by one, backwards": [[chunk] for chunk in ALL[::-1]],
    "two invocations, interleaved": [ALL[::2], ALL[1::2]],
    "each doubled": [[chunk, chunk] for chunk in ALL],
    "all but the last twice": [ALL[:-1], ALL[:-1], ALL[-1:]],
}


@pytest.mark.parametrize("deliveries", DELIVERIES.values(), ids=DELIVERIES.keys())
async def test_chunks_make_a_call_whatever_their_order_and_over_any_number_of_invocations(
    storage: Storage, deliveries: list[list[Chunk]]
) -> None:
    """Invariant: chunks need no order, no partition and no memory between invocations; until all are there, nothing is."""
    for delivery in deliveries[:-1]:
        assert await storage.archive.add_chunks(delivery) is None
        assert await storage.archive.get(call_id()) is None
    assert await storage.archive.add_chunks(deliveries[-1]) == HEAD
    assert await storage.archive.get(call_id()) == CALL


@pytest.mark.parametrize("index", range(len(ALL)))
async def test_a_chunk_that_comes_again_after_the_call_is_whole_finds_it_whole(storage: Storage, index: int) -> None:
    """Guards that a recorder that died before it told the other sinks tells them when the message comes again."""
    await storage.archive.add_chunks(ALL)
    assert await storage.archive.add_chunks([ALL[index]]) == HEAD
    assert await storage.archive.get(call_id()) == CALL


async def test_two_recorders_may_finish_a_call_at_once(storage: Storage) -> None:
    await storage.archive.add_chunks(ALL[1:])
    finished = await asyncio.gather(*(storage.archive.add_chunks(ALL[:1]) for _ in range(4)))
    assert HEAD in finished, "the last one tells of it"
    assert all(head in (HEAD, None) for head in finished)
    half = archived(2, request=b"r" * 1000)
    pieces = chunks_of(half, 4)
    raced = await asyncio.gather(*(storage.archive.add_chunks(some) for some in (pieces[:2], pieces[2:])))
    assert head_in(encode(half)) in raced
    assert {await storage.archive.get(call_id(number)) == call for number, call in ((0, CALL), (2, half))} == {True}


async def test_the_chunks_of_two_accounts_of_a_call_do_not_mix(storage: Storage) -> None:
    """A call can be closed twice, with other words: the account that is whole last is kept, and is of one piece."""
    call = archived(request=b"other" * 200, response=b"s")
    other = chunks_of(call)
    assert await storage.archive.add_chunks([*other[:2], *other[3:]]) is None
    assert await storage.archive.add_chunks(ALL) == HEAD
    assert await storage.archive.add_chunks(other) == head_in(encode(call))
    assert await storage.archive.get(call_id()) == call


FORGED = {
    "a chunk is not what was sent": (
        [*ALL[:-1], msgspec.structs.replace(ALL[-1], data=b"forged")],
        "not what was sent",
    ),
    "what was sent is no call": (
        [Chunk(call_id=call_id(), index=0, count=1, sha256=hashlib.sha256(b"x").hexdigest(), data=b"x")],
        "no call",
    ),
}


@pytest.mark.parametrize(("chunks", "reason"), FORGED.values(), ids=FORGED.keys())
async def test_chunks_that_do_not_make_what_was_sent_are_told_of_with_all_that_they_make(
    storage: Storage, chunks: list[Chunk], reason: str
) -> None:
    for chunk in chunks[:-1]:
        await storage.archive.add_chunks([chunk])
    with pytest.raises(NotTheCall, match=reason) as caught:
        await storage.archive.add_chunks(chunks[-1:])
    assert [each async for each in storage.archive.chunks(call_id(), caught.value.etag)] == chunks
    for _ in range(2):
        await storage.archive.remove(call_id(), caught.value.etag)
    assert await storage.archive.get(call_id()) is None


async def test_what_was_put_over_a_wrong_call_is_not_taken_away_with_it(storage: Storage) -> None:
    with pytest.raises(NotTheCall) as caught:
        await storage.archive.add_chunks([Chunk(call_id=call_id(), index=0, count=1, sha256="ab" * 32, data=b"x")])
    await storage.archive.put(CALL)
    assert [each async for each in storage.archive.chunks(call_id(), caught.value.etag)] == []
    await storage.archive.remove(call_id(), caught.value.etag)
    assert await storage.archive.get(call_id()) == CALL


async def test_an_upload_that_broke_off_leaves_room_for_chunks(storage: Storage) -> None:
    """The blocks of a blob must have ids of one length, also those that are never committed."""
    writer = storage.archive.writer(call_id())
    await writer.add(b"what came before it broke off")
    assert await storage.archive.add_chunks(ALL[:2]) is None
    assert await storage.archive.add_chunks(ALL[2:]) == HEAD


async def test_an_upload_is_a_call_once_it_is_finished(storage: Storage) -> None:
    call = archived(request=b"one" * 100 + b"two" * 100, response=b"answer")
    for response in (b"answer", b""):
        writer = storage.archive.writer(call_id())
        await writer.add(b"one" * 100)
        await writer.add(b"two" * 100)
        call = msgspec.structs.replace(call, response=response)
        await writer.finish(head_of(call.record, Extent.of(b"one" * 100 + b"two" * 100), Extent.of(response)), response)
        assert await storage.archive.get(call_id()) == call


async def test_a_compressed_object_is_read_by_every_reader_and_an_upload_becomes_one(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = storage.archive.writer(call_id(2))
    monkeypatch.setattr(storage.archive, "_packed", compressed)
    assert await storage.archive.put(CALL) == HEAD.sha256
    upload = archived(1, request=b"one" * 100 + b"two" * 100, response=b"answer")
    for writer, call in ((storage.archive.writer(call_id(1)), upload), (plain, archived(2, request=upload.request))):
        await writer.add(b"one" * 100)
        await writer.add(b"two" * 100)
        await writer.finish(head_of(call.record, Extent.of(call.request), Extent.of(call.response)), call.response)
        assert await storage.archive.get(call.record.call_id) == call
    assert await storage.archive.head(call_id()) == HEAD
    assert await storage.archive.head(call_id(1)) == head_in(encode(upload))
    reading = Reading()
    async for piece in storage.archive.pieces(call_id(1)):
        reading.feed(piece)
    assert reading.end() == head_in(encode(upload))


@pytest.mark.parametrize("size", [0, LARGEST - 1, LARGEST, LARGEST + 1])
async def test_an_object_of_any_size_comes_back_to_the_byte(storage: Storage, size: int) -> None:
    """Small ones take the short way, larger ones the SDK's."""
    for content in (bytes(size), b"\xff" * size):
        await storage.archive.put_content(call_id(), content)
        assert await storage.archive.content(call_id()) == content


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 2001])
async def test_an_object_of_any_size_can_be_read_piece_by_piece(
    storage: Storage, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks.archive, "_PIECE_BYTES", 1000)
    await storage.archive.put_content(call_id(), b"x" * size)
    pieces = [piece async for piece in storage.archive.pieces(call_id())]
    assert b"".join(pieces) == b"x" * size
    assert max(map(len, pieces)) <= 1000


async def test_what_is_put_anew_while_it_is_read_is_not_told_as_one(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks.archive, "_PIECE_BYTES", 1000)
    await storage.archive.put_content(call_id(), b"x" * 1001)
    pieces = storage.archive.pieces(call_id())
    await anext(pieces)
    await storage.archive.put_content(call_id(), b"y" * 1001)
    with pytest.raises(ResourceModifiedError):
        await anext(pieces)


async def test_what_the_short_way_does_not_manage_is_put_the_sdks_way(
    storage: Storage, storage_away: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.archive, "_putter", BlobPutter(storage_away.archive._container))
    await storage.archive.put(archived())
    assert await storage.archive.get(call_id()) == archived()
    with pytest.raises(AzureError):
        await storage_away.archive.put(archived())
