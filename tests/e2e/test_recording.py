"""How calls end on the record: what ends their streams, what does not wait for it, and a recorder that fails for a while."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables.aio import TableClient
from azure.storage.queue.aio import QueueClient

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from shared.core.call_record import Outcome
from shared.core.money.ledger import UsageEntry
from shared.core.recording.events import Record, encode
from shared.sinks.ledger import Ledger
from tests.examples import closed, opened
from tests.stack import Stack, running

EVENT = b'data: {"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":%s}]}\n\n'
SAID, STOPPED, DONE = EVENT % b"null", EVENT % b'"stop"', b"data: [DONE]\n\n"
TOLD = b'data: {"error":{"message":"overloaded","type":"server_error","code":null,"param":null}}\n\n'

type End = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def resets(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.2)  # so that what was written is read before
    writer.transport.abort()


async def stays(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def ends(writer: asyncio.StreamWriter) -> None:
    writer.write(b"0\r\n\r\n")
    await writer.drain()


ENDINGS: dict[str, tuple[bytes, End, Outcome]] = {
    "in good order": (SAID + STOPPED + DONE, ends, Outcome.COMPLETED),
    "the connection stays open after [DONE]": (SAID + STOPPED + DONE, stays, Outcome.COMPLETED),
    "the connection is reset after [DONE]": (SAID + STOPPED + DONE, resets, Outcome.COMPLETED),
    "without [DONE], as some servers do": (SAID + STOPPED, ends, Outcome.COMPLETED),
    "without [DONE] nor finish reason": (SAID, ends, Outcome.UPSTREAM_ERROR),
    "with nothing said": (b": hello\n\n", ends, Outcome.UPSTREAM_ERROR),
    "with an error that is told": (SAID + TOLD + DONE, ends, Outcome.UPSTREAM_ERROR),
    "by a reset": (SAID, resets, Outcome.UPSTREAM_ERROR),
}


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the ending that the request names."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    request = json.loads(await reader.readexactly(length))
    content, end, _ = ENDINGS[request["messages"][0]["content"]]
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%b\r\n" % (len(content), content)
    )
    await writer.drain()
    await end(writer)
    writer.close()


@pytest.fixture(scope="module", params=["durable", "fast"])
async def app(request: pytest.FixtureRequest, azurite: Azurite, simulator: Simulator) -> AsyncIterator[Stack]:
    listener = await asyncio.start_server(_serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    document = {"upstreams": [{"name": "simulator", "kind": "openai", "url": url, "key": "$UPSTREAM_KEY"}]}
    settings: Any = {"TOLLGATE_RECORDING": request.param, "TOLLGATE_IDLE_TIMEOUT_S": "30"}
    async with running(azurite, simulator, f"endings{request.param}", document, **settings) as started:
        yield started
    listener.close()
    listener.close_clients()


@pytest.mark.parametrize("name", ENDINGS)
async def test_a_stream_is_recorded_as_it_ended_in_either_mode(app: Stack, name: str) -> None:
    """Guards that an answer given in full counts as one, and half of one does not; and that no mode loses the record."""
    content, _, outcome = ENDINGS[name]
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": name}], "stream": True}
    body["stream_options"] = {"include_usage": True}  # so that no chunk is taken out
    headers = {"authorization": f"Bearer {app.key()}"}
    async with asyncio.timeout(15), httpx.AsyncClient(base_url=app.host.base_url) as http:
        answer = await http.post("/v1/chat/completions", json=body, headers=headers)
    kept = await app.archived(answer.headers["x-tollgate-call-id"])
    assert (kept.record.outcome, kept.response) == (outcome, content)
    assert answer.content.startswith(content)
    assert (answer.content == content) or kept.record.error, "the client is told of a stream that broke off"


async def _until[T](look: Callable[[], Awaitable[T]]) -> T:
    for _ in range(300):
        if found := await look():
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("it never came")


async def _entries(azurite: Azurite, prefix: str, events: Sequence[Record]) -> list[UsageEntry]:
    table = TableClient.from_connection_string(azurite.connection_string, f"{prefix}Ledger")
    async with table:
        hours = {f"{event.record.opened_at:%Y%m%d%H}" for event in events}
        return [entry for hour in hours async for entry in Ledger(table).entries(hour)]


async def test_what_a_recorder_failed_at_five_times_is_delivered_once_it_works(
    azurite: Azurite, simulator: Simulator, prefix: str
) -> None:
    """Invariant: every call is one ledger entry. The host gives up on a message after five times; the timer does not."""
    events: list[Record] = [event for number in range(3) for event in (opened(number), closed(number))]
    queue = QueueClient.from_connection_string(azurite.connection_string, f"{prefix}-calls")
    poison = QueueClient.from_connection_string(azurite.connection_string, f"{prefix}-calls-poison")

    async def given_up() -> bool:
        try:
            return (await poison.get_queue_properties()).approximate_message_count == len(events)
        except ResourceNotFoundError:
            return False

    async def all_entries() -> list[UsageEntry]:
        try:
            entries = await _entries(azurite, prefix, events)
        except ResourceNotFoundError:  # the app has just begun
            return []
        return entries if len(entries) == 3 and all(entry.outcome for entry in entries) else []

    async with queue, poison:
        await queue.create_queue()
        for event in events:
            await queue.send_message(base64.b64encode(encode(event)).decode(), time_to_live=-1)
        for _ in range(4):  # the host waits for ten seconds after each, this not
            taken = [each async for each in queue.receive_messages(messages_per_page=32, visibility_timeout=10)]
            assert len(taken) == len(events)
            for each in taken:
                await queue.update_message(each, visibility_timeout=0)
        async with running(azurite, simulator, prefix, TOLLGATE_CONNECT_TIMEOUT_S="soon") as broken:
            await _until(given_up)
            assert "settings are invalid" in broken.host.log
        async with running(azurite, simulator, prefix):
            entries = await _until(all_entries)
        assert {entry.outcome for entry in entries} == {Outcome.COMPLETED}
        assert (await poison.get_queue_properties()).approximate_message_count == 0


async def test_compressed_messages_reach_the_recorder_as_they_were_sent(
    azurite: Azurite, simulator: Simulator, prefix: str
) -> None:
    """Guards the binding's data type: taken for text, what is no UTF-8 comes out as something else, and can never be read."""
    compressed: Any = {"TOLLGATE_GZIP": "on"}
    async with running(azurite, simulator, prefix, **compressed) as app:
        headers = {"authorization": f"Bearer {app.key()}"}
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
        async with httpx.AsyncClient(base_url=app.host.base_url, timeout=30) as http:
            answer = await http.post("/v1/chat/completions", json=body, headers=headers)
        assert (await app.archived(answer.headers["x-tollgate-call-id"])).response == answer.content
        usage = await app.usage_when(lambda report: report["total"]["completed"] == 1)
        assert usage["total"]["input_tokens"] == answer.json()["usage"]["prompt_tokens"]
