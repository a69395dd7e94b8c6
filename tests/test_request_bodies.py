"""How a request's body is read: to its end, or to where it is too large or too slow."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from shared import proxying
from shared.core.calls import InboundRequest
from shared.core.errors import PayloadTooLarge, RequestTimeout
from tests.examples import inbound

LIMIT = 1000


def sending(chunk: bytes, every_s: float, **headers: str) -> InboundRequest:
    """A body without end."""

    async def chunks() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(every_s)
            yield chunk

    return msgspec.structs.replace(inbound(**headers), chunks=chunks)


async def test_a_body_is_refused_where_it_grows_too_large() -> None:
    with pytest.raises(PayloadTooLarge):
        await proxying._read(sending(b"x" * 300, 0), LIMIT)


@pytest.mark.parametrize("declared", ["1001", "9" * 400])
async def test_a_body_that_says_that_it_is_too_large_is_not_read(declared: str) -> None:
    with pytest.raises(PayloadTooLarge):
        await proxying._read(sending(b"x", 3600, content_length=declared), LIMIT)


async def test_a_body_that_comes_byte_by_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However lively it is: what counts is how much has come in how long."""
    monkeypatch.setattr(proxying, "_BODY_PATIENCE_S", 0.2)
    with pytest.raises(RequestTimeout):
        await proxying._read(sending(b"x", 0.01), LIMIT)


async def test_a_body_that_comes_fast_enough_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxying, "_BODY_PATIENCE_S", 0.2)
    with pytest.raises(PayloadTooLarge):
        await proxying._read(sending(b"x" * 16 * 1024, 0.05), 16 * 1024 * 10)
