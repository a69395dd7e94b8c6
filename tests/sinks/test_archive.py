"""The archive in Blob Storage."""

import pytest

from shared.core.archive import encode
from shared.core.events import Body, Closed
from tests.examples import archived, call_id, closed_record, opened
from tests.storage import Storage


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
