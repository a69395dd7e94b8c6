"""The relay: what the client gets, when, and what is recorded of it."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from shared.core.api.operations import CATALOGUE
from shared.core.api.tap import StreamTap
from shared.core.call_record import Outcome
from shared.core.errors import NotReady
from shared.core.usage import TokenUsage
from shared.gateway import relay as relaying
from shared.gateway.relay import HEARTBEAT, Relay, Timing
from shared.gateway.upstream import UpstreamError

CHAT = next(operation for operation in CATALOGUE if operation.name == "chat.completions")

HELLO = b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n'
WORLD = b'data: {"choices":[{"delta":{"content":"world"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
BROKEN = UpstreamError("ReadError: reset", sent=True)


class ScriptedResponse:
    """An upstream that sends what it is told to, when it is told to."""

    def __init__(self, *chunks: bytes | Exception | None) -> None:
        self._script: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.closed = 0
        self.send(*chunks)

    def send(self, *chunks: bytes | Exception | None) -> None:
        """None ends the body; an exception breaks it off."""
        for chunk in chunks:
            self._script.put_nowait(chunk)

    async def chunks(self) -> AsyncIterator[bytes]:
        while (chunk := await self._script.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    @property
    def left(self) -> int:
        """How much was not read."""
        return self._script.qsize()

    async def close(self) -> None:
        self.closed += 1


class Record:
    """Where a relay's call is closed: at once, when it is let, or not at all."""

    def __init__(self, *, held: bool = False, failure: Exception | None = None) -> None:
        self.begun = asyncio.Event()
        self.let = asyncio.Event()
        if not held:
            self.let.set()
        self._failure = failure
        self.closed: list[Relay] = []
        self.outcome: Outcome | None = None
        self.body: bytes | None = None

    async def __call__(self, relay: Relay) -> None:
        self.outcome, self.body = relay.outcome, relay.received.body
        self.begun.set()
        await self.let.wait()
        if self._failure:
            raise self._failure
        self.closed.append(relay)


def relay_of(
    response: ScriptedResponse,
    close: Callable[[Relay], Awaitable[None]],
    *,
    drop: bool = False,
    encoding: str | None = None,
    drain_timeout_s: float = 60,
    heartbeat_s: float = 60,
    holds_end: bool = True,
) -> Relay:
    tap = StreamTap(CHAT, drop_usage_chunk=drop, encoding=encoding)
    deadline = asyncio.get_running_loop().time() + 60
    timing = Timing(deadline=deadline, drain_s=drain_timeout_s, heartbeat_s=heartbeat_s, holds_end=holds_end)
    return Relay(response, tap, close, timing)  # type: ignore[arg-type]


async def all_of(relay: Relay) -> bytes:
    body = b"".join([chunk async for chunk in relay.chunks()])
    await relay.finish()
    return body


def error_of(body: bytes, after: bytes) -> dict[str, str]:
    """The error in the event that ends `body` after what came before."""
    assert body.startswith(after)
    event = body.removeprefix(after)
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    error: dict[str, str] = json.loads(event.removeprefix(b"data: "))["error"]
    return error


STREAMS = {
    "with its terminal event": [HELLO, WORLD, USAGE, DONE],
    "without one": [HELLO, WORLD],
    "cut anywhere": [HELLO[:9], HELLO[9:] + WORLD[:1], WORLD[1:] + DONE[:8], DONE[8:]],
    "in one piece": [HELLO + WORLD + USAGE + DONE],
    "nothing": [],
    "more after the terminal event": [HELLO + DONE, b": bye\n\n"],
    "empty pieces": [b"", HELLO, b"", DONE],
}


@pytest.mark.parametrize("chunks", STREAMS.values(), ids=STREAMS.keys())
async def test_the_client_gets_what_the_upstream_sent(chunks: list[bytes]) -> None:
    """Guards that the relay alters no byte, and records what the upstream sent."""
    response, record = ScriptedResponse(*chunks, None), Record()
    assert await all_of(relay_of(response, record)) == b"".join(chunks)
    assert (record.outcome, record.body) == (Outcome.COMPLETED, b"".join(chunks))
    assert (len(record.closed), response.closed) == (1, 1)


async def test_a_usage_chunk_of_ours_is_recorded_and_not_relayed() -> None:
    record = Record()
    assert await all_of(relay_of(ScriptedResponse(HELLO, USAGE, DONE, None), record, drop=True)) == HELLO + DONE
    assert record.body == HELLO + USAGE + DONE
    assert record.closed[0].tap.reading.usage == TokenUsage(input_tokens=9, output_tokens=2)


async def test_bytes_are_relayed_as_they_come() -> None:
    response = ScriptedResponse()
    relay = relay_of(response, Record())
    chunks = relay.chunks()
    for sent in (HELLO, WORLD):
        response.send(sent)
        assert await anext(chunks) == sent
    response.send(DONE, None)
    assert await anext(chunks) == DONE
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)
    await relay.finish()


@pytest.mark.parametrize("terminal", [[DONE], [DONE[:7], DONE[7:]], [USAGE + DONE]], ids=["whole", "cut", "not alone"])
async def test_the_last_byte_is_held_until_the_call_is_closed_in_the_record(terminal: list[bytes]) -> None:
    """Guards that a client that has seen the end of its answer finds the call in the record."""
    record = Record(held=True)
    relay = relay_of(ScriptedResponse(HELLO, *terminal, None), record)
    chunks = relay.chunks()
    assert await anext(chunks) == HELLO
    await record.begun.wait()
    got = b""
    rest = asyncio.ensure_future(anext(chunks))
    await asyncio.wait([rest], timeout=0)
    while rest.done():
        got += rest.result()
        rest = asyncio.ensure_future(anext(chunks))
        await asyncio.wait([rest], timeout=0)
    assert not got.endswith(b"\n\n")
    record.let.set()
    got += await rest + b"".join([chunk async for chunk in chunks])
    assert got == b"".join(terminal)
    await relay.finish()


async def test_a_client_that_goes_has_been_served_and_its_usage_is_read() -> None:
    """Guards that a call is counted whatever its client does."""
    response, record = ScriptedResponse(HELLO), Record()
    relay = relay_of(response, record)
    chunks = relay.chunks()
    assert await anext(chunks) == HELLO
    finishing = asyncio.create_task(relay.finish())
    await asyncio.sleep(0)
    assert not finishing.done()
    response.send(WORLD, USAGE, DONE, None)
    await finishing
    assert (record.outcome, record.body) == (Outcome.CLIENT_CLOSED, HELLO + WORLD + USAGE + DONE)
    assert record.closed[0].tap.reading.usage == TokenUsage(input_tokens=9, output_tokens=2)
    assert response.closed == 1


async def test_a_client_that_never_reads_is_recorded_too() -> None:
    response, record = ScriptedResponse(HELLO, USAGE, DONE, None), Record()
    await relay_of(response, record).finish()
    assert (record.outcome, record.body) == (Outcome.CLIENT_CLOSED, HELLO + USAGE + DONE)


async def test_an_upstream_that_breaks_off_after_the_client_has_gone() -> None:
    record = Record()
    response = ScriptedResponse(HELLO)
    relay = relay_of(response, record)
    finishing = asyncio.create_task(relay.finish())
    await asyncio.sleep(0)
    response.send(BROKEN)
    await finishing
    assert record.outcome is Outcome.CLIENT_CLOSED
    assert record.closed[0].error == "ReadError: reset"


async def test_draining_ends_in_time_and_the_record_says_so() -> None:
    response, record = ScriptedResponse(HELLO), Record()
    relay = relay_of(response, record, drain_timeout_s=0.01)
    assert await anext(relay.chunks()) == HELLO
    await relay.finish()
    assert (record.outcome, record.body) == (Outcome.CLIENT_CLOSED, HELLO)
    assert record.closed[0].error == "not read to its end within 0.01 s after the client had gone"
    assert response.closed == 1


async def test_a_record_that_takes_longer_than_draining_may_is_not_cut_short() -> None:
    """Guards that a call whose end is known is not left open."""
    response, record = ScriptedResponse(HELLO, DONE, None), Record(held=True)
    relay = relay_of(response, record, drain_timeout_s=0.01)
    await record.begun.wait()
    finishing = asyncio.create_task(relay.finish())
    await asyncio.wait([finishing], timeout=0.1)
    record.let.set()
    await finishing
    assert record.closed == [relay]


BREAKS = {
    "between events": ([HELLO], HELLO),
    "before the first": ([], b""),
    "inside an event, which is closed first": ([HELLO, b'data: {"cho'], HELLO + b'data: {"cho\n\n'),
}


@pytest.mark.parametrize(("chunks", "before"), BREAKS.values(), ids=BREAKS.keys())
async def test_an_upstream_that_breaks_off_is_told_as_an_error_event(chunks: list[bytes], before: bytes) -> None:
    response, record = ScriptedResponse(*chunks, BROKEN), Record()
    error = error_of(await all_of(relay_of(response, record)), before)
    assert error["code"] == "upstream_failed"
    assert (record.outcome, record.body) == (Outcome.UPSTREAM_ERROR, b"".join(chunks))
    assert record.closed[0].error == "ReadError: reset"
    assert response.closed == 1


async def test_a_begun_event_that_the_client_did_not_get_is_not_closed() -> None:
    body = await all_of(relay_of(ScriptedResponse(HELLO, b'data: {"cho', BROKEN), Record(), drop=True))
    assert error_of(body, HELLO)["type"] == "server_error"


NOT_RECORDED = {
    "the terminal event in one piece": ([HELLO, DONE], HELLO),
    "the terminal event cut": ([HELLO, DONE[:7], DONE[7:]], HELLO + DONE[:7] + b"\n\n"),
    "no terminal event": ([HELLO], HELLO),
}


@pytest.mark.parametrize(("chunks", "before"), NOT_RECORDED.values(), ids=NOT_RECORDED.keys())
async def test_an_end_that_cannot_be_recorded_is_told_instead_of_the_terminal_event(
    chunks: list[bytes], before: bytes
) -> None:
    """Guards that no client takes an answer for complete whose record is not."""
    record = Record(failure=NotReady("not recorded"))
    error = error_of(await all_of(relay_of(ScriptedResponse(*chunks, None), record)), before)
    assert error == {"message": "not recorded", "type": "server_error", "param": None, "code": "gateway_not_ready"}


async def test_a_defect_of_ours_ends_the_stream_and_is_recorded() -> None:
    """Guards that no client waits for ever: not on what no one foresaw either."""
    response, record = ScriptedResponse(HELLO, RuntimeError("a defect")), Record()
    async with asyncio.timeout(10):
        body = await all_of(relay_of(response, record))
    assert error_of(body, HELLO)["type"] == "server_error"
    assert record.outcome is Outcome.UPSTREAM_ERROR
    assert response.closed == 1


async def test_a_gzip_stream_is_read_and_relayed_as_it_is() -> None:
    stream, record = gzip.compress(HELLO + USAGE + DONE), Record()
    response = ScriptedResponse(stream[:20], stream[20:], None)
    assert await all_of(relay_of(response, record, encoding="gzip")) == stream
    assert record.closed[0].tap.reading.usage == TokenUsage(input_tokens=9, output_tokens=2)


async def test_a_silent_stream_gets_comments_but_never_inside_an_event() -> None:
    """Invariant: the client gets the upstream's bytes unaltered; a comment between events is not one of them."""
    response, close = ScriptedResponse(), Record()
    relay = relay_of(response, close, heartbeat_s=0.01)
    chunks = relay.chunks()
    assert await anext(chunks) == HEARTBEAT
    response.send(b"data: {}\n\ndata: {")
    while (chunk := await anext(chunks)) == HEARTBEAT:
        continue
    assert chunk == b"data: {}\n\ndata: {"
    following = asyncio.create_task(anext(chunks))
    await asyncio.wait([following], timeout=0.1)
    assert not following.done(), "half an event is no place for a comment"
    response.send(b"}\n\n")
    assert await following == b"}\n\n"
    response.send(None)
    assert {chunk async for chunk in chunks} <= {HEARTBEAT}
    await relay.finish()


async def test_a_defect_while_closing_does_not_leave_the_client_waiting() -> None:
    relay = relay_of(ScriptedResponse(HELLO, DONE, None), Record(failure=RuntimeError("defect")))
    body = await all_of(relay)
    assert error_of(body, HELLO)["code"] == "gateway_not_ready"


AFTER_THE_END: dict[str, list[bytes | Exception | None]] = {
    "the connection stays open": [],
    "the connection is reset": [BROKEN],
    "a comment, then a reset": [b": bye\n\n", BROKEN],
    "it ends as it should": [None],
}


@pytest.mark.parametrize("after", AFTER_THE_END.values(), ids=AFTER_THE_END.keys())
async def test_what_the_connection_does_after_the_terminal_event_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, after: list[bytes | Exception | None]
) -> None:
    """Guards that an answer that was given in full counts as one, whatever a proxy on the way does with its connection."""
    monkeypatch.setattr(relaying, "_GRACE_S", 0.05)
    response, record = ScriptedResponse(HELLO, USAGE, DONE, *after), Record()
    extra = b"".join(each for each in after if isinstance(each, bytes))
    assert await all_of(relay_of(response, record)) == HELLO + USAGE + DONE + extra
    (relay,) = record.closed
    assert (record.outcome, relay.error, relay.is_broken, relay.is_cut_short) == (Outcome.COMPLETED, None, False, False)
    assert (record.body, response.closed) == (HELLO + USAGE + DONE + extra, 1)


CUT_SHORT = {
    "at its terminal event": ([HELLO, DONE], False),
    "after its last word": ([HELLO, USAGE], True),
    "inside an event": ([HELLO, DONE[:9]], True),
    "before the first": ([], True),
}


@pytest.mark.parametrize(("chunks", "is_cut_short"), CUT_SHORT.values(), ids=CUT_SHORT.keys())
async def test_an_upstream_that_ends_in_good_order_before_its_terminal_event_was_cut_short(
    chunks: list[bytes], is_cut_short: bool
) -> None:
    record = Record()
    assert await all_of(relay_of(ScriptedResponse(*chunks, None), record)) == b"".join(chunks)
    assert record.closed[0].is_cut_short is is_cut_short


async def test_in_fast_mode_the_terminal_event_is_not_held() -> None:
    """What the mode gives up: the client may have all of its answer before the record is durable. It is still made."""
    record = Record(held=True)
    relay = relay_of(ScriptedResponse(HELLO, USAGE + DONE, None), record, holds_end=False)
    chunks = relay.chunks()
    got = b""
    while got != HELLO + USAGE + DONE:
        got += await anext(chunks)
    assert record.closed == []
    record.let.set()
    await relay.finish()
    assert record.closed == [relay]


async def test_in_fast_mode_a_client_that_leaves_once_it_has_all_has_not_hung_up() -> None:
    """SDKs close the connection at the terminal event; the upstream's may still be open then."""
    record = Record()
    relay = relay_of(ScriptedResponse(HELLO, USAGE, DONE), record, holds_end=False, drain_timeout_s=0)
    chunks, got = relay.chunks(), b""
    while got != HELLO + USAGE + DONE:
        got += await anext(chunks)
    await relay.finish()
    assert (record.outcome, relay.error, relay.was_stopped) == (Outcome.COMPLETED, None, False)


async def test_a_client_that_leaves_before_its_end_was_let_go_has_hung_up_and_its_stream_was_read_all_the_same() -> (
    None
):
    record = Record()
    relay = relay_of(ScriptedResponse(HELLO, USAGE, DONE), record, drain_timeout_s=0.05)
    assert await anext(relay.chunks())
    while not relay.tap.done:  # noqa: ASYNC110 - only the relay's own task can get on
        await asyncio.sleep(0)
    await relay.finish()
    assert (record.outcome, relay.error, relay.was_stopped) == (Outcome.CLIENT_CLOSED, None, False)
