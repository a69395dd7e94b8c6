"""The adapter to the Functions host: addresses, bytes, and what is left behind of a request."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any, override

import pytest
from azure_functions_runtime.http_v2 import http_coordinator
from fastapi import Request

from functions.web import AnswerResponse, inbound, json_response
from shared.core.api.operations import CATALOGUE
from shared.core.api.tap import StreamTap
from shared.core.call_record import Outcome
from shared.gateway.answers import Answer
from shared.gateway.relay import Relay, Timing

CHAT = next(operation for operation in CATALOGUE if operation.name == "chat.completions")

type Message = MutableMapping[str, Any]


def scope_of(*headers: tuple[bytes, bytes], path: bytes = b"/v1/x", query: bytes = b"") -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "POST",
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "headers": list(headers),
    }


async def never() -> Message:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def hangs_up() -> Message:
    return {"type": "http.disconnect"}


class Sent:
    """What a client was sent."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        headers: list[tuple[bytes, bytes]] = self.messages[0]["headers"]
        return headers


class Stream:
    """An upstream's answer that is there already."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk

    async def close(self) -> None:
        return


class Record:
    """Keeps how calls ended."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    async def __call__(self, relay: Relay) -> None:
        self.outcomes.append(relay.outcome)


def relay_of(record: Record, stream: Stream | None = None) -> Relay:
    stream = stream or Stream(b"data: 1\n\n", b"data: [DONE]\n\n")
    timing = Timing(deadline=asyncio.get_running_loop().time() + 60, drain_s=60, heartbeat_s=60)
    return Relay(stream, StreamTap(CHAT, drop_usage_chunk=False), record, timing)  # type: ignore[arg-type]


ADDRESSES = {
    "none": (None, None),
    "empty": ("", None),
    "one": ("203.0.113.7", "203.0.113.7"),
    "with its port": ("203.0.113.7:50123", "203.0.113.7"),
    "several: the last was added by our own front end": ("6.6.6.6, 10.0.0.1,203.0.113.7:1", "203.0.113.7"),
    "IPv6": ("2001:db8::7", "2001:db8::7"),
    "IPv6 in brackets": ("[2001:db8::7]", "2001:db8::7"),
    "IPv6 with its port": ("6.6.6.6, [2001:db8::7]:50123", "2001:db8::7"),
    "a comma at the end": ("203.0.113.7,", None),
}


@pytest.mark.parametrize(("forwarded", "caller_ip"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_the_callers_address_is_the_one_our_front_end_saw(forwarded: str | None, caller_ip: str | None) -> None:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded is not None else []
    assert inbound(Request(scope_of(*headers))).caller_ip == caller_ip


async def test_a_request_is_taken_as_it_was_sent() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"\xff\x00", "more_body": False}

    scope = scope_of((b"user-agent", b"caf\xe9"), (b"a", b"1"), (b"a", b"2"), path=b"/v1/a%2Fb", query=b"x=%20&y=1")
    request = inbound(Request(scope, receive))
    assert (request.method, request.path, request.query) == ("POST", "/v1/a%2Fb", "x=%20&y=1")
    assert request.headers == (("user-agent", "café"), ("a", "1"), ("a", "2"))
    assert b"".join([chunk async for chunk in request.chunks()]) == b"\xff\x00"


async def test_an_answer_is_sent_as_it_is() -> None:
    headers = (("content-type", "application/json"), ("x-a", "é"), ("x-a", "2"))
    await AnswerResponse(Answer(status=418, headers=headers, body=b'{"a":1}'))(scope_of(), never, sent := Sent())
    assert sent.messages[0]["status"] == 418
    assert sent.headers == [
        (b"content-type", b"application/json"),
        (b"x-a", b"\xe9"),
        (b"x-a", b"2"),
        (b"content-length", b"7"),
    ]
    assert sent.body == b'{"a":1}'


async def test_json_has_its_length_and_type() -> None:
    await json_response({"status": "ready"}, status=200)(scope_of(), never, sent := Sent())
    assert (b"content-length", b"18") in sent.headers
    assert (b"content-type", b"application/json") in sent.headers
    assert sent.body == b'{"status":"ready"}'


async def test_a_stream_is_sent_and_finished() -> None:
    headers, record = (("content-type", "text/event-stream"), ("x-tollgate-call-id", "c")), Record()
    answer = Answer(status=200, headers=headers, body=relay_of(record))
    await AnswerResponse(answer)(scope_of(), never, sent := Sent())
    assert sent.headers == [(b"content-type", b"text/event-stream"), (b"x-tollgate-call-id", b"c")]
    assert sent.body == b"data: 1\n\ndata: [DONE]\n\n"
    assert record.outcomes == [Outcome.COMPLETED]


async def test_a_client_that_hangs_up_before_the_first_byte_has_its_call_closed() -> None:
    """Guards that a call ends in the record whatever its client does."""

    class Slow(Stream):
        """Goes on once the relay knows that its client has gone."""

        @override
        async def chunks(self) -> AsyncIterator[bytes]:
            while relay.outcome is not Outcome.CLIENT_CLOSED:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0)
            yield b"data: [DONE]\n\n"

    record = Record()
    relay = relay_of(record, Slow())
    await AnswerResponse(Answer(status=200, headers=(), body=relay))(scope_of(), hangs_up, Sent())
    assert record.outcomes == [Outcome.CLIENT_CLOSED]


async def test_a_connection_that_breaks_while_writing_has_its_call_closed() -> None:
    async def broken(message: Message) -> None:
        raise ConnectionResetError

    record = Record()
    with pytest.raises((OSError, ExceptionGroup)):
        await AnswerResponse(Answer(status=200, headers=(), body=relay_of(record)))(scope_of(), never, broken)
    assert len(record.outcomes) == 1


async def test_a_request_that_is_cancelled_has_its_call_closed() -> None:
    record, sending = Record(), asyncio.Event()

    async def slow(message: Message) -> None:
        sending.set()
        await never()

    answer = AnswerResponse(Answer(status=200, headers=(), body=relay_of(record)))
    task = asyncio.create_task(answer(scope_of(), never, slow))
    await sending.wait()
    task.cancel()
    await asyncio.wait([task])
    assert len(record.outcomes) == 1


@pytest.mark.parametrize("receive", [never, hangs_up], ids=["the client stays", "the client hangs up"])
@pytest.mark.parametrize("streams", [True, False])
async def test_the_runtime_keeps_nothing_of_a_finished_request(receive: Any, *, streams: bool) -> None:
    """As the runtime goes through it: the request is set, taken, answered; then the answer is sent."""
    invocation = f"invocation-{streams}-{receive.__name__}"
    scope = scope_of((b"x-ms-invocation-id", invocation.encode()))
    http_coordinator.set_http_request(invocation, Request(scope))
    await http_coordinator.get_http_request_async(invocation)
    body = relay_of(Record()) if streams else b"{}"
    http_coordinator.set_http_response(invocation, AnswerResponse(Answer(status=200, headers=(), body=body)))
    answer = await http_coordinator.await_http_response_async(invocation)
    assert invocation in http_coordinator._context_references
    await answer(scope, receive, Sent())
    assert invocation not in http_coordinator._context_references


async def test_what_other_requests_left_in_the_runtime_stays() -> None:
    http_coordinator.set_http_request("another", Request(scope_of()))
    await json_response({})(scope_of((b"x-ms-invocation-id", b"unknown")), never, Sent())
    await json_response({})(scope_of(), never, Sent())
    assert http_coordinator._context_references.pop("another") is not None
