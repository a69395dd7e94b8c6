"""HTTP through the host. These tests hold for `func start` too (TOLLGATE_HOST=func), except where they say otherwise."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from devtools.devhost.client import DevHost
from tests.devhost.conftest import APPS, Notes

LIMIT = 104_857_600
own_host_only = pytest.mark.skipif(
    os.environ.get("TOLLGATE_HOST") == "func", reason="an option or a promise of our host"
)


@pytest.fixture
async def host(notes: Notes) -> AsyncIterator[DevHost]:
    async with DevHost.start(APPS / "http", {"NOTES": str(notes.path)}) as running:
        yield running


@pytest.fixture
async def client(host: DevHost) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=host.base_url, timeout=30) as one:
        yield one


ANSWERS = {
    "a function": ("GET", "/hello", 200, "hello"),
    "a synchronous function": ("GET", "/sync-hello", 200, "hello from a thread"),
    "no such route": ("GET", "/nothing", 404, ""),
    "a method no route takes": ("DELETE", "/hello", 404, ""),
    "a function that raises": ("GET", "/broken", 500, "Internal Server Error"),
    "a webhook of the host": ("GET", "/runtime/webhooks/x", 404, ""),
    "the first function by name": ("GET", "/order/literal", 200, "parameter"),
}


async def test_every_request_is_answered_as_the_host_answers_it(client: httpx.AsyncClient) -> None:
    seen = {}
    for name, (method, path, _, _) in ANSWERS.items():
        answer = await client.request(method, path)
        seen[name] = (method, path, answer.status_code, answer.text)
    assert seen == ANSWERS


async def test_the_root_shows_a_page_unless_it_is_disabled(client: httpx.AsyncClient, notes: Notes) -> None:
    assert (await client.get("/")).status_code == 200
    settings = {"NOTES": str(notes.path), "AzureWebJobsDisableHomepage": "true"}
    async with DevHost.start(APPS / "http", settings) as host, httpx.AsyncClient() as other:
        assert (await other.get(f"{host.base_url}/")).status_code == 204


async def test_a_function_sees_its_route_and_headers_as_the_host_passes_them(client: httpx.AsyncClient) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = {
        "X-Ms-Invocation-Id": "forged",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "192.0.2.1",
        "Connection": "keep-alive, X-Private",
        "X-Private": "1",
        "X-Kept": "caf\u00e9".encode("latin-1").decode("latin-1"),
        "Traceparent": trace,
        "TE": "trailers",
    }
    path = "/echo/a%2Fb/c/d%20e/?q=%20x&q=y"
    answer = (await client.post(path, headers={k: v.encode("latin-1") for k, v in sent.items()}, content="hi")).json()  # type: ignore[arg-type]
    headers = dict(answer["headers"])
    assert answer["params"] == {"word": "a%2Fb", "path": "c/d e/"}
    assert answer["raw_path"] == "/echo/a%2Fb/c/d%20e/"
    assert answer["query"] == "q=%20x&q=y"
    assert answer["body"] == "hi"
    assert headers["x-ms-invocation-id"] == answer["invocation_id"] != "forged"
    assert headers["x-forwarded-proto"] == answer["scheme"] == "https"
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-host"] == client.base_url.netloc.decode()
    assert headers["x-kept"] == "caf\u00e9"
    assert {"connection", "x-private", "te", "keep-alive"}.isdisjoint(headers)
    assert answer["trace_parent"].split("-")[1] == trace.split("-")[1]
    assert answer["trace_parent"] != trace


async def test_each_request_is_an_invocation_of_its_own(client: httpx.AsyncClient) -> None:
    answers = [await client.get("/echo/a/b") for _ in range(3)]
    assert len({answer.json()["invocation_id"] for answer in answers}) == 3


async def test_events_arrive_one_by_one(client: httpx.AsyncClient) -> None:
    arrived, sent = [], []
    async with client.stream("GET", "/events") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                arrived.append(time.time())
                sent.append(float(line.split()[2]))
    assert len(sent) == 3
    # An event was here before the next one was made, so nothing held it back.
    assert arrived[0] < sent[1]
    assert arrived[1] < sent[2]


async def test_an_upload_reaches_the_function_while_it_is_sent(host: DevHost, notes: Notes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
    writer.write(b"POST /count HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    await notes.wait_for(lambda notes: "first 3" in notes.lines())  # only then is the second part sent
    writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n6")).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()


async def test_a_body_of_100_mb_passes_and_one_byte_more_does_not(client: httpx.AsyncClient) -> None:
    piece = bytes(1 << 20)

    async def body(size: int) -> AsyncIterator[bytes]:
        while size > 0:
            yield piece[:size]
            size -= len(piece)

    async def post(size: int, *, chunked: bool) -> httpx.Response:
        headers = {} if chunked else {"Content-Length": str(size)}
        return await client.post("/count", content=body(size), headers=headers)

    for chunked in (False, True):
        allowed = await post(LIMIT, chunked=chunked)
        assert (allowed.status_code, allowed.text) == (200, str(LIMIT))
        assert (await post(LIMIT + 1, chunked=chunked)).status_code == 413


async def test_the_body_limit_is_a_setting(notes: Notes) -> None:
    settings = {"NOTES": str(notes.path), "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "10"}
    async with DevHost.start(APPS / "http", settings) as host, httpx.AsyncClient(base_url=host.base_url) as client:
        assert (await client.post("/count", content=b"x" * 10)).text == "10"
        assert (await client.post("/count", content=b"x" * 11)).status_code == 413


async def test_a_disconnect_cancels_the_stream(client: httpx.AsyncClient, notes: Notes) -> None:
    async with client.stream("GET", "/endless") as answer:
        async for _ in answer.aiter_bytes():
            break
    await notes.wait_for(lambda notes: "cancelled" in notes.lines())


async def test_a_disconnect_before_the_response_can_be_asked_for(host: DevHost, notes: Notes) -> None:
    with socket.create_connection(("127.0.0.1", host.port)) as connection:
        connection.sendall(b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n")
    await notes.wait_for(lambda notes: "disconnected before the response" in notes.lines())


async def test_a_stream_that_fails_is_cut_off(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/broken-stream")


@own_host_only
async def test_a_request_that_stands_still_is_a_504(notes: Notes) -> None:
    arguments = ["--idle-timeout", "0.5"]
    async with (
        DevHost.start(APPS / "http", {"NOTES": str(notes.path)}, arguments=arguments) as host,
        httpx.AsyncClient(base_url=host.base_url, timeout=30) as client,
    ):
        assert (await client.get("/slow?seconds=1.5")).status_code == 504
        await notes.wait_for(lambda notes: "slow ended" in notes.lines())  # nobody tells the function
        async with client.stream("GET", "/events") as answer:  # 0.6 s in all, but never still for 0.5 s
            assert len([line async for line in answer.aiter_lines() if line]) == 3


@own_host_only
async def test_the_host_leaves_the_runtimes_references_to_the_app(client: httpx.AsyncClient) -> None:
    before = int((await client.get("/references")).text)
    for _ in range(5):
        await client.get("/hello")
    assert int((await client.get("/references")).text) == before + 6


async def test_admin_names_what_it_cannot_run(host: DevHost, client: httpx.AsyncClient) -> None:
    assert (await host.status())["state"] == "Running"
    assert (await client.post("/admin/functions/nothing", json={"input": ""})).status_code == 404
    assert (await client.get("/admin/nothing")).status_code == 404
