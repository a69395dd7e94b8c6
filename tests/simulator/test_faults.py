"""Everything that can be made to go wrong goes wrong on the wire, and only when asked."""

import gzip
import json
import re
import time

import httpx
import openai
import pytest

from devtools.simulator import Fault
from tests.simulator.test_chat import PROMPT

CHAT = {"model": "gpt-4o", "messages": PROMPT}
STREAM = CHAT | {"stream": True}
AZURE = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"


def wrong(hint):
    """Returns the header that makes one request go wrong."""
    return {"x-simulator-fault": hint if isinstance(hint, str) else json.dumps(hint)}


async def plain(wire, body=STREAM):
    """Returns the answer when nothing is wrong, without what differs from call to call."""
    return steady((await wire.post("/v1/chat/completions", json=body)).text)


async def until_cut(wire, hint):
    """Returns what arrives of a stream before its connection is reset; fails if it is not."""
    received = b""
    try:
        async with wire.stream("POST", "/v1/chat/completions", json=STREAM, headers=wrong(hint)) as answer:
            async for data in answer.aiter_bytes():
                received += data
    except httpx.TransportError:
        return received
    pytest.fail("the stream came to its end")


def steady(text):
    """Returns the contents of a stream's data lines; `splitlines` would cut at U+2028, which is no line end here."""
    lines = [line for line in re.split(r"\r?\n", text) if line.startswith("data:") and line[5:].strip() != "[DONE]"]
    events = [json.loads(line[5:]) for line in lines]
    return [[choice["delta"] for choice in event["choices"]] for event in events]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
async def test_a_status_comes_in_the_shape_of_its_family(wire, status):
    mine = await wire.post("/v1/chat/completions", json=CHAT, headers=wrong(f"status={status}"))
    theirs = await wire.post(AZURE, json=CHAT, headers=wrong({"status": status}))
    assert mine.status_code == theirs.status_code == status
    assert set(mine.json()["error"]) == {"message", "type", "param", "code"}
    assert set(theirs.json()["error"]) == {"code", "message"}
    assert "retry-after" not in mine.headers


RETRIES = {
    "seconds": ("status=429; retry-after=3", {"retry-after": "3"}),
    "date": ("status=429; retry-after=Fri, 31 Dec 2027 23:59:59 GMT", {"retry-after": "Fri, 31 Dec 2027 23:59:59 GMT"}),
    "milliseconds": ("status=503; retry-after-ms=250", {"retry-after-ms": "250", "x-ms-retry-after-ms": "250"}),
    "no quota left": ("status=429", {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-remaining-requests": "0"}),
    "unknown quota": ("ratelimit=-1", {"x-ratelimit-remaining-tokens": "-1"}),
    "zero quota": ("ratelimit=0", {"x-ratelimit-limit-tokens": "0"}),
    "spillover": (
        "spillover=gpt-4o-standard",
        {
            "x-ms-is-spilled-over": "true",
            "x-ms-spillover-from-deployment": "gpt-4o",
            "x-ms-deployment-name": "gpt-4o-standard",
        },
    ),
}


@pytest.mark.parametrize(("hint", "headers"), RETRIES.values(), ids=RETRIES)
async def test_headers_say_what_is_asked(wire, hint, headers):
    answer = await wire.post(AZURE, json=CHAT, headers=wrong(hint))
    assert {name: answer.headers[name] for name in headers} == headers


async def test_rate_limit_headers_can_be_absent(wire):
    answer = await wire.post(AZURE, json=CHAT, headers=wrong("ratelimit=absent"))
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


async def test_a_fault_is_for_its_target_and_heals_after_its_times(simulator, wire, azure, client):
    for target in ("gpt-4o", "eastus:gpt-4o", "eastus:*", "*"):
        assert (await wire.put(f"/_simulator/faults/{target}", json={"status": 503, "times": 2})).status_code == 200
        for _ in range(2):
            with pytest.raises(openai.InternalServerError):
                await azure.chat.completions.create(**CHAT)
        assert (await azure.chat.completions.create(**CHAT)).choices
    assert (await wire.get("/_simulator/faults")).json() == {}
    simulator.set_fault("eastus:gpt-4o", Fault(status=500))
    assert (await client.chat.completions.create(**CHAT)).choices  # on the resource "default"
    await wire.delete("/_simulator/faults/eastus:gpt-4o")
    assert (await azure.chat.completions.create(**CHAT)).choices


async def test_what_is_no_fault_is_refused(wire):
    assert (await wire.put("/_simulator/faults/x", json={"statsu": 500})).status_code == 400
    answer = await wire.post("/v1/chat/completions", json=CHAT, headers=wrong("statsu=500"))
    assert answer.status_code == 400
    assert "statsu" in answer.text


async def test_a_deployment_can_go_missing(azure):
    with pytest.raises(openai.NotFoundError) as caught:
        await azure.chat.completions.create(**CHAT, extra_headers=wrong("missing-deployment"))
    assert caught.value.code == "DeploymentNotFound"


async def test_the_content_filter_refuses_a_prompt(azure):
    with pytest.raises(openai.BadRequestError) as caught:
        await azure.chat.completions.create(**CHAT, extra_headers=wrong("filter-prompt"))
    assert caught.value.code == "content_filter"
    assert caught.value.body["innererror"]["code"] == "ResponsibleAIPolicyViolation"
    assert caught.value.body["innererror"]["content_filter_result"]["hate"]["filtered"] is True


async def test_the_content_filter_ends_an_answer(azure):
    whole = await azure.chat.completions.create(**CHAT, extra_headers=wrong("filter-completion"))
    assert whole.choices[0].finish_reason == "content_filter"
    assert whole.choices[0].content_filter_results["violence"]["filtered"] is True
    chunks = [
        chunk async for chunk in await azure.chat.completions.create(**STREAM, extra_headers=wrong("filter-completion"))
    ]
    assert chunks[-1].choices[0].finish_reason == "content_filter"


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
async def test_a_dropped_connection_gives_no_status(simulator, wire, body):
    with pytest.raises(httpx.TransportError):
        await wire.post("/v1/chat/completions", json=body, headers=wrong("drop"))
    (entry,) = await simulator.settled(1)
    assert (entry.status, entry.completed) == (None, False)


@pytest.mark.parametrize("hint", ["cut-after-bytes=300", "cut-after-chunks=0", "cut-after-bytes=0"])
async def test_a_whole_answer_can_be_cut(simulator, wire, hint):
    with pytest.raises(httpx.TransportError):
        await wire.post("/v1/chat/completions", json=CHAT, headers=wrong(hint))
    (entry,) = await simulator.settled(1)
    assert (entry.status, entry.completed) == (200, False)


async def test_a_stream_can_be_cut_after_so_many_chunks(simulator, wire):
    received = await until_cut(wire, "cut-after-chunks=5")
    assert received.count(b"\n\n") == 5
    (entry,) = await simulator.settled(1)
    assert (entry.completed, entry.chunks_sent, entry.usage["completion_tokens"]) == (False, 5, 4)


async def test_a_stream_can_be_cut_within_a_chunk(simulator, wire):
    received = await until_cut(wire, "cut-after-bytes=1000")
    assert len(received) == 1000
    assert not (await simulator.settled(1))[0].completed


@pytest.mark.parametrize("after", [0, 6])
async def test_an_error_can_come_inside_a_200(simulator, client, after):
    stream = await client.chat.completions.create(**STREAM, extra_headers=wrong(f"error-after-chunks={after}"))
    seen = []

    async def read():
        async for chunk in stream:
            seen.append(chunk)  # noqa: PERF401 - what came before the error is to be kept

    with pytest.raises(openai.APIError, match="server had an error"):
        await read()
    assert len(seen) == after
    (entry,) = await simulator.settled(1)
    assert (entry.status, entry.completed, entry.chunks_sent) == (200, False, after)


async def test_an_error_inside_a_response_is_an_event_of_its_own(simulator, client):
    stream = await client.responses.create(
        model="gpt-4o", input="x", stream=True, extra_headers=wrong("error-after-chunks=6")
    )
    events = [event async for event in stream]
    assert (events[-1].type, events[-1].sequence_number) == ("error", 6)
    (entry,) = await simulator.settled(1)
    assert (entry.status, entry.completed, entry.chunks_sent) == (200, False, 6)


FRAMINGS = ["crlf", "no-space", "comments", "gzip", "split-bytes=1", "crlf; no-space; comments; gzip; split-bytes=3"]


@pytest.mark.parametrize("hint", FRAMINGS)
async def test_other_framings_carry_the_same_answer(wire, client, hint):
    assert steady((await wire.post("/v1/chat/completions", json=STREAM, headers=wrong(hint))).text) == await plain(wire)
    async for chunk in await client.chat.completions.create(**STREAM, extra_headers=wrong(hint)):
        assert chunk.id
    whole = await client.chat.completions.create(**CHAT, extra_headers=wrong(hint))
    assert whole.choices[0].message.content == (await client.chat.completions.create(**CHAT)).choices[0].message.content


async def test_framings_are_what_they_are_called(wire):
    async def sent(hint):
        async with wire.stream("POST", "/v1/chat/completions", json=STREAM, headers=wrong(hint)) as answer:
            return answer.headers, b"".join([data async for data in answer.aiter_raw()])

    assert (await sent("crlf"))[1].count(b"\r\n\r\n") == len((await sent("crlf"))[1].split(b"\r\n\r\n")) - 1 > 10
    assert b"data:{" in (await sent("no-space"))[1]
    assert (await sent("comments"))[1].startswith(b": keep-alive\n\ndata: {")
    headers, body = await sent("gzip")
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body).endswith(b"data: [DONE]\n\n")


async def test_split_writes_arrive_byte_by_byte(wire):
    async with wire.stream("POST", "/v1/chat/completions", json=STREAM, headers=wrong("split-bytes=1")) as answer:
        assert {len(data) async for data in answer.aiter_raw()} == {1}


async def test_json_can_be_malformed(wire, client):
    answer = await wire.post("/v1/chat/completions", json=CHAT, headers=wrong("malformed-json"))
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    stream = await client.chat.completions.create(**STREAM, extra_headers=wrong("malformed-json"))
    assert (await anext(stream)).id
    with pytest.raises(json.JSONDecodeError):
        [chunk async for chunk in stream]


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
async def test_an_answer_can_be_huge(wire, body):
    answer = await wire.post("/v1/chat/completions", json=body, headers=wrong("huge-mb=3"))
    assert len(answer.content) > 3_000_000


async def test_usage_can_be_left_out_though_it_is_on_the_account(simulator, wire, client):
    hint = wrong("no-usage")
    whole = await client.chat.completions.create(**CHAT, extra_headers=hint)
    assert whole.usage is None
    stream = await client.chat.completions.create(**STREAM, stream_options={"include_usage": True}, extra_headers=hint)
    assert [chunk.usage async for chunk in stream if chunk.usage] == []
    assert (await client.responses.create(model="gpt-4o", input="x", extra_headers=hint)).usage is None
    vector = await wire.post("/v1/embeddings", json={"model": "e", "input": "x"}, headers=hint)
    assert "usage" not in vector.json()
    assert all(entry.usage for entry in await simulator.settled(4))


SLOW = {
    "before the headers": "delay-ms=200",
    "before the first token": "first-token-ms=200",
    "in the middle": "stall-s=0.2; stall-after-chunks=4",
    "all along": "tokens-per-second=300",
}


@pytest.mark.parametrize("hint", SLOW.values(), ids=SLOW)
async def test_an_answer_can_be_slow(wire, hint):
    began = time.monotonic()
    await wire.post("/v1/chat/completions", json=STREAM | {"max_tokens": 60}, headers=wrong(hint))
    assert time.monotonic() - began >= 0.08  # only a lower bound: a busy machine is slow on its own
