"""Every fault that the simulator can make, against what the client gets, which deployments were asked, and the record.

Each case has a model of its own, on an upstream `east` that is preferred and fails, and on `west`, which is well; so no case
sees another's breakers and cool-downs.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Fault, Simulator
from shared.core.call_record import Outcome, UsageSource
from tests.stack import Stack, running


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A fault in the east, and what is to come of it."""

    fault: Fault
    status: int = 200
    tried: list[tuple[str, int | None]]
    """Deployments asked, and what they answered; None: nothing."""
    stream: bool = False
    west: Fault | None = None
    outcome: Outcome = Outcome.COMPLETED
    usage_source: UsageSource = UsageSource.PROVIDER
    code: str | None = None
    """Of the error that the client gets, in the body or in the stream."""
    retry_unknown: bool = False
    record: dict[str, Any] = {}


BOTH = lambda status: [("east", status), ("west", 200)]  # noqa: E731 - a row's abbreviation
EAST = lambda status: [("east", status)]  # noqa: E731
NOT_SAID = UsageSource.NONE
FAILED = Outcome.UPSTREAM_ERROR

CASES = {
    # what another deployment may better
    "429 with seconds": Case(fault=Fault(status=429, retry_after=7), tried=BOTH(429)),
    "429 with milliseconds": Case(fault=Fault(status=429, retry_after_ms=7000), tried=BOTH(429)),
    "429 with a date": Case(fault=Fault(status=429, retry_after="Fri, 31 Dec 2199 23:59:59 GMT"), tried=BOTH(429)),
    "429 of a stream": Case(fault=Fault(status=429), tried=BOTH(429), stream=True),
    "408": Case(fault=Fault(status=408), tried=BOTH(408)),
    "500": Case(fault=Fault(status=500), tried=BOTH(500)),
    "502": Case(fault=Fault(status=502), tried=BOTH(502)),
    "503": Case(fault=Fault(status=503), tried=BOTH(503)),
    "504": Case(fault=Fault(status=504), tried=BOTH(504)),
    "no such deployment": Case(fault=Fault(missing_deployment=True), tried=BOTH(404)),
    "an error inside a 200, before content": Case(fault=Fault(error_after_chunks=0), tried=BOTH(200), stream=True),
    "our credential is refused": Case(fault=Fault(status=401), tried=BOTH(401)),
    "our credential is refused everywhere": Case(
        fault=Fault(status=401), west=Fault(status=401), status=502, tried=[("east", 401), ("west", 401)],
        outcome=FAILED, usage_source=NOT_SAID, code="upstream_failed",
    ),
    # answers
    "400": Case(fault=Fault(status=400), tried=EAST(400), status=400, usage_source=NOT_SAID),
    "409": Case(fault=Fault(status=409), tried=EAST(409), status=409, usage_source=NOT_SAID),
    "content filter on the prompt": Case(
        fault=Fault(filter_prompt=True), tried=EAST(400), status=400, code="content_filter", usage_source=NOT_SAID
    ),
    "content filter on the answer": Case(
        fault=Fault(filter_completion=True), tried=EAST(200), record={"finish_reasons": ("content_filter",)}
    ),
    "content filter on a stream": Case(
        fault=Fault(filter_completion=True), tried=EAST(200), stream=True, record={"finish_reasons": ("content_filter",)}
    ),
    # nobody knows whether it was billed
    "reset before the answer": Case(
        fault=Fault(drop=True), tried=EAST(None), status=502, outcome=FAILED, usage_source=NOT_SAID, code="upstream_failed"
    ),
    "reset before the answer, and to be repeated": Case(fault=Fault(drop=True), tried=BOTH(None), retry_unknown=True),
    "silent for too long": Case(
        fault=Fault(delay_ms=4000), tried=EAST(None), status=502, outcome=FAILED, usage_source=NOT_SAID, code="upstream_failed"
    ),
    "silent for too long, and to be repeated": Case(fault=Fault(delay_ms=4000), tried=BOTH(None), retry_unknown=True),
    "cut in the middle of a JSON answer": Case(
        fault=Fault(cut_after_bytes=100), tried=EAST(200), status=502, outcome=FAILED, usage_source=NOT_SAID,
        code="upstream_failed",
    ),
    # the client has got a byte: no other deployment
    "an error inside a 200, after content": Case(
        fault=Fault(error_after_chunks=6), tried=EAST(200), stream=True, outcome=FAILED, usage_source=NOT_SAID,
    ),
    "cut in the middle of a stream": Case(
        fault=Fault(cut_after_chunks=6), tried=EAST(200), stream=True, outcome=FAILED, usage_source=NOT_SAID,
        code="upstream_failed",
    ),
    # nothing that the gateway minds
    "slow": Case(fault=Fault(delay_ms=300), tried=EAST(200)),
    "a stream that stalls": Case(fault=Fault(stall_s=0.5, stall_after_chunks=4), tried=EAST(200), stream=True),
    "gzip": Case(fault=Fault(gzip=True), tried=EAST(200)),
    "huge": Case(fault=Fault(huge_mb=3), tried=EAST(200)),
    "a huge event": Case(fault=Fault(huge_mb=3), tried=EAST(200), stream=True),
    "not JSON": Case(fault=Fault(malformed_json=True), tried=EAST(200), usage_source=NOT_SAID),
    "one event that is not JSON": Case(fault=Fault(malformed_json=True), tried=EAST(200), stream=True),
    "no usage": Case(fault=Fault(no_usage=True), tried=EAST(200), usage_source=NOT_SAID),
    "no usage in a stream": Case(fault=Fault(no_usage=True), tried=EAST(200), stream=True, usage_source=NOT_SAID),
    "CRLF": Case(fault=Fault(crlf=True), tried=EAST(200), stream=True),
    "no space after data:": Case(fault=Fault(no_space=True), tried=EAST(200), stream=True),
    "comments": Case(fault=Fault(comments=True), tried=EAST(200), stream=True),
    "a byte at a time": Case(fault=Fault(split_bytes=1), tried=EAST(200), stream=True),
    "spilled over": Case(fault=Fault(spillover="standard"), tried=EAST(200)),
    "rate limit headers that say -1": Case(fault=Fault(ratelimit="-1"), tried=EAST(200)),
    "rate limit headers that say 0": Case(fault=Fault(ratelimit="0"), tried=EAST(200)),
    "no rate limit headers": Case(fault=Fault(ratelimit="absent"), tried=EAST(200)),
    # nobody can serve
    "429 everywhere": Case(
        fault=Fault(status=429, retry_after=9), west=Fault(status=429, retry_after=4), status=429,
        tried=[("east", 429), ("west", 429)], outcome=FAILED, usage_source=NOT_SAID,
    ),
    "500 everywhere": Case(
        fault=Fault(status=500), west=Fault(status=503), status=503, tried=[("east", 500), ("west", 503)],
        outcome=FAILED, usage_source=NOT_SAID,
    ),
}  # fmt: skip
MODELS = {name: f"model-{number}" for number, name in enumerate(CASES)}


@pytest.fixture(scope="module")
async def pools(azurite: Azurite, simulator: Simulator) -> AsyncIterator[Stack]:
    upstreams = [
        {"name": name, "kind": "openai", "url": f"{simulator.url(name)}/v1", "key": "$UPSTREAM_KEY"}
        for name in ("east", "west")
    ]
    deployments = [
        {"name": f"{model}-{name}", "model": model, "upstream": name, "priority": priority}
        for model in (*MODELS.values(), "limits", "dead")
        for priority, name in enumerate(("east", "west"))
        if (model, name) != ("dead", "east")
    ]
    dead = [{"name": "nowhere", "kind": "openai", "url": "http://127.0.0.1:9/v1", "key": "x"}]
    document = {
        "upstreams": upstreams + dead,
        "deployments": [
            *deployments,
            *(
                {"name": f"{model}-nowhere", "model": model, "upstream": "nowhere"}
                for model in ("dead", "nowhere at all")
            ),
        ],
        "models": [{"name": MODELS[name], "retry_unknown": case.retry_unknown} for name, case in CASES.items()],
    }
    async with running(azurite, simulator, "routing", document, TOLLGATE_FIRST_BYTE_TIMEOUT_S="2") as started:
        yield started


async def post(stack: Stack, model: str, *, stream: bool = False) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "route me"}], "stream": stream}
    async with httpx.AsyncClient(base_url=stack.host.base_url, timeout=30) as http:
        return await http.post("/v1/chat/completions", json=body, headers={"api-key": stack.key()})


def error_of(answer: httpx.Response) -> dict[str, Any] | None:
    """The error that the client was told, in the body or in the stream's last event."""
    try:
        if answer.headers["content-type"].startswith("text/event-stream"):
            return dict(json.loads(answer.content.strip().split(b"\n\n")[-1].removeprefix(b"data: "))["error"])
        return dict(answer.json()["error"])
    except (ValueError, KeyError):
        return None


@pytest.mark.parametrize("name", CASES)
async def test_faults_are_met_by_rule(pools: Stack, simulator: Simulator, name: str) -> None:
    """Invariant: no failover after a byte has reached the client; what may have been billed is not repeated unasked."""
    case, model = CASES[name], MODELS[name]
    simulator.set_fault(f"east:{model}", case.fault)
    if case.west:
        simulator.set_fault(f"west:{model}", case.west)
    answer = await post(pools, model, stream=case.stream)
    assert answer.status_code == case.status, answer.text[:300]
    assert ("retry-after" in answer.headers) is (case.status >= 429 and case.tried[-1][1] != 200)
    if case.code:
        assert (error_of(answer) or {}).get("code") == case.code, answer.text[-300:]

    asked = [entry.resource for entry in simulator.calls() if entry.deployment == model]
    assert asked == [place for place, _ in case.tried], "what was asked is what is on the record"
    [record] = [record for record in [await latest(pools, model, answer)] if record]
    assert [(each.upstream, each.status) for each in record.attempts] == case.tried
    assert (record.outcome, record.usage_source, record.status) == (case.outcome, case.usage_source, case.status)
    for field, value in case.record.items():
        assert getattr(record, field) == value


async def latest(stack: Stack, model: str, answer: httpx.Response) -> Any:
    """The record of the call, by the id in the answer."""
    return (await stack.archived(answer.headers["x-tollgate-call-id"])).record


async def test_a_429_never_reaches_a_client_while_another_deployment_could_serve(
    pools: Stack, simulator: Simulator
) -> None:
    simulator.set_fault("east:limits", Fault(status=429, retry_after=60))
    answers = [await post(pools, "limits") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    asked = [entry.resource for entry in simulator.calls() if entry.deployment == "limits"]
    assert asked.count("east") == 1, "a deployment that is cooling down is left alone"


async def test_all_out_says_when_to_come_back(pools: Stack) -> None:
    again = await post(pools, MODELS["429 everywhere"])
    assert again.status_code == 429
    assert 1 <= int(again.headers["retry-after"]) <= 4, "the least wait: the west's"
    assert (error_of(again) or {})["code"] == "rate_limit_exceeded"


async def test_a_deployment_that_cannot_be_reached_is_passed_over(pools: Stack) -> None:
    answer = await post(pools, "dead")
    record = (await pools.archived(answer.headers["x-tollgate-call-id"])).record
    assert answer.status_code == 200
    assert [(each.upstream, each.status) for each in record.attempts] == [("nowhere", None), ("west", 200)]
    assert "Connect" in (record.attempts[0].error or "")


async def test_where_none_can_be_reached_the_client_is_told_when_to_come_back(pools: Stack) -> None:
    """Nothing was sent, so nothing may have been billed: 503 and not 502."""
    answer = await post(pools, "nowhere at all")
    record = (await pools.archived(answer.headers["x-tollgate-call-id"])).record
    assert (answer.status_code, (error_of(answer) or {})["code"]) == (503, "no_deployment_available")
    assert int(answer.headers["retry-after"]) >= 1
    assert (record.status, record.outcome) == (503, FAILED)
