"""Small blobs, put by hand: with a signature, a token, or what the address has; and left to the SDK where that fails."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from azure.core.credentials import AccessToken
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from azure.storage.blob.aio import ContainerClient

from devtools.azurite import ACCOUNT, ACCOUNT_KEY
from shared.storage.blob_wire import BlobPutter
from tests.emulator import Storage

CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


class Identity:
    """Has tokens that last so long, and remembers for what."""

    def __init__(self, lasts_s: float) -> None:
        self.asked: list[str] = []
        self._lasts_s = lasts_s

    async def get_token(self, *scopes: str, **_: object) -> AccessToken:
        self.asked += scopes
        return AccessToken(f"token-{len(self.asked)}", int(time.time() + self._lasts_s))

    async def close(self) -> None:
        """Nothing."""


@asynccontextmanager
async def putting(container: ContainerClient) -> AsyncIterator[BlobPutter]:
    putter = BlobPutter(container)
    async with container:
        yield putter
        await putter.close()


@asynccontextmanager
async def answering(answer: bytes, identity: Identity) -> AsyncIterator[tuple[BlobPutter, list[str]]]:
    """Puts into an account that answers every request so; and what that heard of each, the head."""
    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(EOFError, ConnectionError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                heard.append(head)
                await reader.readexactly(int(head.partition("Content-Length: ")[2].split("\r\n")[0]))
                writer.write(answer)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        host, port = listener.sockets[0].getsockname()
        async with putting(ContainerClient(f"https://{host}:{port}/account", "calls", identity)) as putter:  # type: ignore[arg-type]
            putter._origin = ("http", host, port)  # the SDK takes an identity by https only
            yield putter, heard
        listener.close_clients()


@pytest.mark.parametrize(("lasts_s", "tokens"), [(3600, 1), (10, 3)])
async def test_a_token_is_asked_for_once_for_as_long_as_it_lasts(lasts_s: float, tokens: int) -> None:
    identity = Identity(lasts_s)
    async with answering(CREATED, identity) as (putter, heard):
        for number in range(3):
            assert await putter.put(f"2026/{number}", b"content")
    assert identity.asked == ["https://storage.azure.com/.default"] * tokens
    assert [head.splitlines()[0] for head in heard] == [f"PUT /account/calls/2026/{n}? HTTP/1.1" for n in range(3)]
    assert f"Authorization: Bearer token-{tokens}\r\n" in heard[-1]


async def test_a_signature_of_the_container_puts_in_it_and_does_no_more(storage: Storage) -> None:
    container = storage.archive._container
    async with putting(container) as putter:
        assert await asyncio.gather(*(putter.put(f"{n}", b"%d" % n) for n in range(100))) == [True] * 100
        assert await putter.put("7", b"another")
        assert "sp=cw" in putter._right.query
    names = [name async for name in container.list_blob_names()]
    assert len(names) == 100
    assert await (await container.download_blob("7")).readall() == b"another"
    assert await (await container.download_blob("99")).readall() == b"99"


async def test_an_address_that_is_signed_already_is_used_as_it_is(storage: Storage) -> None:
    container = storage.archive._container
    signature = generate_container_sas(
        ACCOUNT,
        container.container_name,
        account_key=ACCOUNT_KEY,
        permission=ContainerSasPermissions(create=True, write=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    async with putting(ContainerClient.from_container_url(f"{container.url}?{signature}")) as putter:
        assert await putter.put("name", b"content")
    assert await (await container.download_blob("name")).readall() == b"content"


REFUSALS = {
    "busy": b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy",
    "refused": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    "no answer": b"",
    "no HTTP": b"hello\r\n\r\n",
}


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS.keys())
async def test_what_is_not_taken_is_told_and_not_tried_again(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.storage.blob_wire._ANSWER_S", 0.2)
    async with answering(answer, Identity(3600)) as (putter, heard):
        assert not await putter.put("name", b"content")
    assert len(heard) == 1


async def test_where_there_is_a_proxy_the_sdk_puts(monkeypatch: pytest.MonkeyPatch, storage: Storage) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    async with putting(storage.archive._container) as putter:
        assert not await putter.put("name", b"content")
