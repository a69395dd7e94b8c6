"""The edge to upstreams, against a server that says exactly what it is told to, and keeps what it heard."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from shared.core.api.upstream_requests import UpstreamRequest
from shared.core.headers import get
from shared.gateway.upstream import UpstreamError, Upstreams, _upstream_error
from shared.settings import read_settings

SETTINGS = read_settings({})
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Twice: 1\r\nX-Twice: 2\r\nContent-Length: 5\r\n\r\nhello"


class Server:
    """Answers each connection with the same bytes, then closes it or keeps silent."""

    def __init__(self, answer: bytes, *, hangs: bool = False) -> None:
        self._answer, self._hangs = answer, hangs
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard += await reader.readuntil(b"\r\n\r\n")
        writer.write(self._answer)
        await writer.drain()
        if self._hangs:
            await reader.read()
        writer.close()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    made = Upstreams(msgspec.structs.replace(SETTINGS, idle_timeout_s=0.2))
    yield made
    await made.close()


def request(url: str) -> UpstreamRequest:
    headers = (("content-type", "application/json"), ("x-custom", "grün"), ("authorization", "Bearer k"))
    return UpstreamRequest(method="POST", url=f"{url}/v1/x?a=%20b", headers=headers, body=b"{}", asks_usage=False)


async def body_of(upstreams: Upstreams, url: str) -> bytes:
    response = await upstreams.send(request(url))
    try:
        return b"".join([chunk async for chunk in response.chunks()])
    finally:
        await response.close()


async def test_what_is_sent_is_the_request_and_nothing_of_the_http_client(upstreams: Upstreams) -> None:
    async with serving(server := Server(OK)) as url:
        assert await body_of(upstreams, url) == b"hello"
    assert "grün".encode("latin-1") in server.heard
    line, *headers = server.heard.decode("utf-8", "replace").split("\r\n")[:-2]
    assert line == "POST /v1/x?a=%20b HTTP/1.1"
    assert {header.partition(":")[0].lower() for header in headers} == {
        "host",
        "content-type",
        "x-custom",
        "authorization",
        "content-length",
    }


async def test_response_headers_are_in_lower_case_in_order(upstreams: Upstreams) -> None:
    async with serving(Server(OK)) as url:
        response = await upstreams.send(request(url))
        await response.close()
    assert response.status == 200
    assert [value for name, value in response.headers if name == "x-twice"] == ["1", "2"]
    assert get(response.headers, "content-type") == "text/plain"


async def test_a_body_is_not_decompressed(upstreams: Upstreams) -> None:
    body = gzip.compress(b"hello")
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    async with serving(Server(head.encode() + body)) as url:
        assert await body_of(upstreams, url) == body


async def test_a_redirect_is_an_answer(upstreams: Upstreams) -> None:
    async with serving(
        Server(b"HTTP/1.1 307 Go\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n")
    ) as url:
        response = await upstreams.send(request(url))
        await response.close()
    assert response.status == 307


async def test_a_server_that_is_not_there_was_sent_nothing(upstreams: Upstreams) -> None:
    async with serving(Server(OK)) as url:
        pass
    with pytest.raises(UpstreamError, match="Connect") as caught:
        await upstreams.send(request(url))
    assert not caught.value.sent


NO_ANSWERS = {
    "silence": Server(b"", hangs=True),
    "a connection that is closed": Server(b""),
    "no HTTP": Server(b"SSH-2.0-OpenSSH_9.6\r\n"),
}


@pytest.mark.parametrize("server", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
async def test_where_no_answer_comes_the_request_may_have_been_worked_on(upstreams: Upstreams, server: Server) -> None:
    """Guards that a request that may have been billed is not sent to another deployment unasked."""
    async with serving(server) as url:
        with pytest.raises(UpstreamError, match=r".+") as caught:
            await upstreams.send(request(url))
    assert caught.value.sent


BREAKS = {
    "the length is not reached": Server(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"),
    "the last chunk does not come": Server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    "silence": Server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", hangs=True),
}


@pytest.mark.parametrize("server", BREAKS.values(), ids=BREAKS.keys())
async def test_a_body_that_breaks_off_gives_what_came_and_then_says_so(upstreams: Upstreams, server: Server) -> None:
    async with serving(server) as url:
        response = await upstreams.send(request(url))
        chunks = response.chunks()
        assert await anext(chunks) == b"hello"
        with pytest.raises(UpstreamError, match=r".+") as caught:
            await anext(chunks)
        await response.close()
    assert caught.value.sent


async def test_an_address_that_the_http_client_refuses_is_an_upstream_error(upstreams: Upstreams) -> None:
    with pytest.raises(UpstreamError) as caught:
        await upstreams.send(request("http://upstream.example/\x01"))
    assert not caught.value.sent


def errors(base: type[httpx.HTTPError] = httpx.HTTPError) -> Iterator[type[httpx.HTTPError]]:
    for each in base.__subclasses__():
        yield each
        yield from errors(each)


NEVER_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError"}


@pytest.mark.parametrize("error", sorted(set(errors()) - {httpx.HTTPStatusError}, key=lambda each: each.__name__))
def test_every_error_of_the_http_client_says_whether_the_request_was_sent(error: type[httpx.HTTPError]) -> None:
    mapped = _upstream_error(error("why"))
    assert mapped.reason == error.__name__, "its text may quote a header, and so a key"
    assert mapped.sent is (error.__name__ not in NEVER_SENT)


async def test_an_empty_reason_is_the_errors_name() -> None:
    assert _upstream_error(httpx.ReadTimeout("")).reason == "ReadTimeout"
