"""What cannot be understood is kept, with the reason."""

import hashlib

import pytest

from tests.emulator import Storage

REASONS = {
    "plain": ("version 2; known here is 1", "version 2; known here is 1"),
    "not ASCII, and line ends": ("grün\r\nx-ms-blob-type: evil", "gr?n??x-ms-blob-type: evil"),
    "long": ("x" * 10_000, "x" * 500),
}


@pytest.mark.parametrize(("reason", "kept"), REASONS.values(), ids=REASONS.keys())
async def test_a_message_is_kept_with_its_reason_under_its_digest(storage: Storage, reason: str, kept: str) -> None:
    message = b"\xff not an event \n"
    await storage.quarantine.put(message, reason)
    await storage.quarantine.put(message, reason)
    container = storage.quarantine._container
    assert [name async for name in container.list_blob_names()] == [hashlib.sha256(message).hexdigest()]
    download = await container.download_blob(hashlib.sha256(message).hexdigest())
    assert await download.readall() == message
    assert download.properties.metadata == {"reason": kept}


async def test_an_empty_message_and_a_reason_of_nothing_are_kept_too(storage: Storage) -> None:
    await storage.quarantine.put(b"", " ")
    assert [name async for name in storage.quarantine._container.list_blob_names()] == [hashlib.sha256(b"").hexdigest()]
