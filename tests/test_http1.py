"""The transport behind httpx, against a server whose every byte a test writes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

import httpx
import pytest

from shared.http1 import Http1Transport, rest_s

TIMES = httpx.Timeout(2.0).as_dict()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

type Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
        listener.close_clients()


def answering(*answers: bytes, then_closes: bool = False) -> tuple[Serve, list[bytes]]:
    """Serves that many requests on each connection, and what it heard, a connection an entry."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(b"")
        number = len(heard) - 1
        with suppress(EOFError, ConnectionError):
            for answer in answers:
                heard[number] += await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
            if not then_closes:
                await reader.read()
        writer.close()

    return serve, heard


@pytest.fixture
async def transport() -> AsyncIterator[Http1Transport]:
    made = Http1Transport(connections=2, idle_s=30)
    yield made
    await made.aclose()


async def ask(
    transport: Http1Transport,
    url: str,
    method: str = "GET",
    content: bytes | AsyncIterator[bytes] = b"",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    request = httpx.Request(method, url, content=content, headers=headers, extensions={"timeout": TIMES})
    return await transport.handle_async_request(request)


async def read(response: httpx.Response) -> bytes:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    try:
        return b"".join([piece async for piece in response.stream])
    finally:
        await response.stream.aclose()


async def test_a_connection_serves_one_call_after_another(transport: Http1Transport) -> None:
    serve, heard = answering(OK, OK, OK)
    async with serving(serve) as url:
        for _ in range(3):
            assert await read(await ask(transport, url)) == b"ok"
    assert len(heard) == 1


SPENT = {
    "it says close": OK.replace(b"200 OK\r\n", b"200 OK\r\nConnection: close\r\n"),
    "it speaks HTTP/1.0": OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "more comes than was asked for": OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    "what comes then is no HTTP": OK + b"\x00\x01",
}


@pytest.mark.parametrize("answer", SPENT.values(), ids=SPENT.keys())
async def test_a_connection_that_cannot_be_trusted_again_is_not_used_again(
    transport: Http1Transport, answer: bytes
) -> None:
    serve, heard = answering(answer)
    async with serving(serve) as url:
        for _ in range(2):
            response = await ask(transport, url)
            assert (response.status_code, await read(response)) == (200, b"ok")
    assert len(heard) == 2


async def test_an_answer_to_nothing_is_not_the_next_calls(transport: Http1Transport) -> None:
    serve, heard = answering(OK)

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not heard:
            asyncio.get_running_loop().call_later(
                0.05, writer.write, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
            )
        await serve(reader, writer)

    async with serving(late) as url:
        assert await read(await ask(transport, url)) == b"ok"
        await asyncio.sleep(0.2)
        assert await read(await ask(transport, url)) == b"ok"
    assert len(heard) == 2


async def test_a_connection_that_the_upstream_closed_meanwhile_is_not_used(transport: Http1Transport) -> None:
    serve, heard = answering(OK, then_closes=True)
    async with serving(serve) as url:
        assert await read(await ask(transport, url)) == b"ok"
        await asyncio.sleep(0.05)
        assert await read(await ask(transport, url)) == b"ok"
    assert len(heard) == 2


async def test_an_end_that_the_event_loop_has_not_read_yet_is_seen(transport: Http1Transport) -> None:
    """Or a call would be sent on a dead connection, and nobody knew whether it was worked on."""
    serve, heard = answering(OK)
    writers: list[asyncio.StreamWriter] = []

    async def remembered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await serve(reader, writer)

    async with serving(remembered) as url:
        assert await read(await ask(transport, url)) == b"ok"
        writers[0].get_extra_info("socket").shutdown(socket.SHUT_WR)
        assert await read(await ask(transport, url)) == b"ok"
    assert len(heard) == 2


async def test_a_connection_is_not_kept_for_ever() -> None:
    transport = Http1Transport(connections=2, idle_s=0.01)
    serve, heard = answering(OK, OK)
    async with serving(serve) as url:
        assert await read(await ask(transport, url)) == b"ok"
        await asyncio.sleep(0.1)
        assert await read(await ask(transport, url)) == b"ok"
    await transport.aclose()
    assert len(heard) == 2


RESTS = {
    "nothing is said, without TLS": ("http", b"", 4),
    "nothing is said, with TLS": ("https", b"", 30),
    "less than that": ("https", b"timeout=5", 4),
    "with a number of calls": ("https", b"max=100, Timeout = 5", 4),
    "more than that, without TLS": ("http", b"timeout=20, max=100", 19),
    "an hour": ("https", b"timeout=3600", 30),
    "nothing to speak of": ("https", b"timeout=1", 0),
    "nonsense": ("http", b"timeout=soon, idletimeout=9", 4),
}


@pytest.mark.parametrize(("scheme", "told", "seconds"), RESTS.values(), ids=RESTS.keys())
def test_a_connection_is_given_up_before_its_server_gives_it_up(scheme: str, told: bytes, seconds: float) -> None:
    headers = [(b"Keep-Alive", told)] if told else []
    assert rest_s(scheme, headers, 30) == seconds


async def test_a_connection_that_its_server_is_about_to_close_is_not_kept(transport: Http1Transport) -> None:
    serve, heard = answering(OK.replace(b"\r\n", b"\r\nKeep-Alive: timeout=1\r\n", 1), OK)
    async with serving(serve) as url:
        for _ in range(2):
            assert await read(await ask(transport, url)) == b"ok"
    assert len(heard) == 2


BODIES = {
    "ended by the connection": (b"HTTP/1.1 200 OK\r\n\r\nall of it", b"all of it"),
    "in chunks, with a trailer": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n6\r\n of it\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"all of it",
    ),
    "announced twice": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, b"ok"),
    "none": (b"HTTP/1.1 204 No Content\r\nX-Note: 1\r\n\r\n", b""),
}


@pytest.mark.parametrize(("answer", "body"), BODIES.values(), ids=BODIES.keys())
async def test_a_body_ends_where_http_says(transport: Http1Transport, answer: bytes, body: bytes) -> None:
    async with serving(answering(answer, then_closes=True)[0]) as url:
        response = await ask(transport, url)
        assert await read(response) == body
    assert "link" not in response.headers


async def test_the_answer_to_head_has_no_body(transport: Http1Transport) -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")[0]) as url:
        response = await ask(transport, url, "HEAD")
        assert (response.headers["content-length"], await read(response)) == ("100", b"")


async def test_what_came_before_a_break_is_had(transport: Http1Transport) -> None:
    """Also where the break was there before anybody read."""
    async with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nsome", then_closes=True)[0]) as url:
        response = await ask(transport, url)
        await asyncio.sleep(0.05)
        body = aiter(cast(httpx.AsyncByteStream, response.stream))
        assert await anext(body) == b"some"
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(body)


async def test_a_body_that_nobody_reads_waits_at_the_upstream(transport: Http1Transport) -> None:
    size = 32 * 1024 * 1024
    sent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        await writer.drain()
        sent.set()
        writer.close()

    async with serving(serve) as url:
        response = await ask(transport, url)
        await asyncio.sleep(0.2)
        assert not sent.is_set()
        assert len(await read(response)) == size
        await sent.wait()


async def test_a_connection_whose_last_answer_nobody_read_is_heard_again(transport: Http1Transport) -> None:
    size = 256 * 1024 + 1  # the byte that stops the reading is the last
    large = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    serve, heard = answering(large, OK)
    async with serving(serve) as url:
        response = await ask(transport, url)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        await asyncio.sleep(0.1)
        await response.stream.aclose()
        assert await read(await ask(transport, url)) == b"ok"
    assert len(heard) == 1


@pytest.mark.parametrize("value", ["a\r\nx-injected: 1", "a\nb", "a\0b"])
async def test_a_header_that_would_be_two_is_not_sent(transport: Http1Transport, value: str) -> None:
    serve, heard = answering(OK)
    async with serving(serve) as url:
        with pytest.raises(httpx.LocalProtocolError):
            await ask(transport, url, headers={"x-note": value})
    assert heard == []


async def test_headers_without_end_are_an_error(transport: Http1Transport) -> None:
    endless = b"HTTP/1.1 200 OK\r\n" + b"X-Line: " + b"x" * 60_000 + b"\r\n"
    async with serving(answering(endless + b"X-More: " + b"x" * 300_000 + b"\r\n\r\n")[0]) as url:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(transport, url)


class ClientGone(Exception):
    """What an upload raises that breaks off."""


async def pieces(*content: bytes, fails: bool = False) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece
    if fails:
        raise ClientGone


@pytest.mark.parametrize("headers", [{"content-length": "8"}, {}], ids=["of a known length", "in chunks"])
async def test_an_upload_is_sent_as_it_comes(transport: Http1Transport, headers: dict[str, str]) -> None:
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        ends = b"0\r\n\r\n" if b"chunked" in head.lower() else b"fghi"
        heard.extend(await reader.readuntil(ends))
        writer.write(OK)
        writer.close()

    async with serving(serve) as url:
        assert await read(await ask(transport, url, "POST", pieces(b"abcd", b"", b"fghi"), headers)) == b"ok"
    assert bytes(heard) == (b"abcdfghi" if headers else b"4\r\nabcd\r\n4\r\nfghi\r\n0\r\n\r\n")


async def test_what_breaks_an_upload_is_told_as_it_is(transport: Http1Transport) -> None:
    async with serving(answering()[0]) as url:
        with pytest.raises(ClientGone):
            await ask(transport, url, "POST", pieces(b"abcd", fails=True), {"content-length": "8"})


async def test_an_answer_before_the_end_of_an_upload_is_the_answer(transport: Http1Transport) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"abcd"
        await asyncio.sleep(60)

    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
    serve, heard = answering(refusal)
    async with serving(serve) as url:
        for _ in range(2):
            response = await ask(transport, url, "POST", endless(), {"content-length": "8"})
            assert (response.status_code, await read(response)) == (413, b"no")
    assert len(heard) == 2, "half a request is still under way on the first connection"


async def test_a_connection_on_which_an_upload_broke_off_is_not_used_again(transport: Http1Transport) -> None:
    """The upstream still waits for the rest of it: the next call's request would be taken for that."""
    breaks_off, has_broken_off = asyncio.Event(), asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        yield b"abcd"
        await breaks_off.wait()
        has_broken_off.set()
        raise ClientGone

    serve, heard = answering(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno", OK)
    async with serving(serve) as url:
        response = await ask(transport, url, "POST", broken(), {"content-length": "8"})
        breaks_off.set()
        await has_broken_off.wait()
        await asyncio.sleep(0)
        assert await read(response) == b"no"
        assert (await ask(transport, url)).status_code == 413
    assert len(heard) == 2


async def test_a_server_that_does_not_take_a_whole_request_is_not_waited_for_longer() -> None:
    is_over = asyncio.Event()

    async def deaf(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await is_over.wait()

    transport = Http1Transport(connections=1, idle_s=30)
    async with serving(deaf) as url:
        origin = ("http", "127.0.0.1", httpx.URL(url).port or 0)
        for _ in range(2):  # and makes room
            with pytest.raises(httpx.WriteTimeout):
                await asyncio.wait_for(
                    transport.whole(origin, "PUT", bytes(64 * 1024 * 1024), connect_s=2, patience_s=0.1), 5
                )
        is_over.set()
    await transport.aclose()


async def test_who_finds_no_room_is_told_and_nothing_was_sent() -> None:
    transport = Http1Transport(connections=1, idle_s=30)
    times = TIMES | {"pool": 0.05}
    async with serving(answering(OK, OK)[0]) as url:
        first = await ask(transport, url)
        request = httpx.Request("GET", url, extensions={"timeout": times})
        with pytest.raises(httpx.PoolTimeout):
            await transport.handle_async_request(request)
        await read(first)
        assert await read(await ask(transport, url)) == b"ok"
    await transport.aclose()


async def test_who_gives_up_waiting_makes_room() -> None:
    transport = Http1Transport(connections=1, idle_s=30)
    async with serving(answering()[0]) as url:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await ask(transport, url)
    await transport.aclose()


async def test_another_protocol_is_not_spoken(transport: Http1Transport) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await ask(transport, "ftp://127.0.0.1:1/")
