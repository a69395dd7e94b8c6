"""How a request's body is read: to its end, or to where it is too large or too slow."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from shared.core.calls import InboundRequest
from shared.core.errors import BadRequest, PayloadTooLarge, RequestTimeout
from shared.gateway import proxying
from shared.gateway.uploading import Upload
from tests.examples import inbound

LIMIT = 1000


def sending(chunk: bytes, every_s: float) -> InboundRequest:
    """A body without end."""

    async def chunks() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(every_s)
            yield chunk

    return msgspec.structs.replace(inbound(), chunks=chunks)


async def test_a_body_is_refused_where_it_grows_too_large() -> None:
    with pytest.raises(PayloadTooLarge):
        await proxying._read(sending(b"x" * 300, 0), LIMIT)


@pytest.mark.parametrize(
    ("declared", "size"), [("1001", 1001), ("9" * 400, 10**18 - 1), ("", 0), ("-5", 0), ("1e9", 0)]
)
def test_what_a_body_says_of_its_size_is_a_number_or_nothing(declared: str, size: int) -> None:
    assert proxying._declared_bytes(inbound(content_length=declared)) == size


async def test_a_body_that_comes_byte_by_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However lively it is: what counts is how much has come in how long."""
    monkeypatch.setattr(proxying, "_BODY_PATIENCE_S", 0.2)
    with pytest.raises(RequestTimeout):
        await proxying._read(sending(b"x", 0.01), LIMIT)


async def test_a_body_that_comes_fast_enough_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxying, "_BODY_PATIENCE_S", 0.2)
    with pytest.raises(PayloadTooLarge):
        await proxying._read(sending(b"x" * 16 * 1024, 0.05), 16 * 1024 * 10)


async def test_an_upload_that_is_longer_than_it_says_does_not_pass() -> None:
    """What is too much would be the next request on the upstream's connection."""
    passed = Upload(sending(b"x" * 300, 0).chunks, declared_bytes=700, writer=None).chunks()
    assert [await anext(passed), await anext(passed)] == [b"x" * 300] * 2
    with pytest.raises(BadRequest, match="Content-Length"):
        await anext(passed)
