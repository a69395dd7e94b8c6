"""What an operator sees of calls: their traces, in a collector that speaks OTLP, and log lines. And what nobody sees there."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Fault, Simulator
from tests.collector import Collected, Collector, collecting, tree
from tests.stack import ADMIN_KEY, UPSTREAM_KEY, Stack, running

TRACE, CLIENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PROMPT = "nobody-else-may-read-this"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as started:
        yield started


@pytest.fixture(scope="module")
async def traced(azurite: Azurite, simulator: Simulator, collector: Collector) -> AsyncIterator[Stack]:
    """An app whose telemetry goes to the collector at once, and whose east fails."""
    document = {
        "upstreams": [
            {"name": name, "kind": "openai", "url": f"{simulator.url(name)}/v1", "key": "$UPSTREAM_KEY"}
            for name in ("east", "west")
        ],
        "deployments": [
            {"name": f"gpt-4o-{name}", "model": "gpt-4o", "upstream": name, "priority": priority}
            for priority, name in enumerate(("east", "west"))
        ],
    }
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
        "OTEL_SERVICE_NAME": "tollgate-under-test",
        "TOLLGATE_LOGS": "json",
    }
    simulator.set_fault("east:gpt-4o", Fault(status=429, retry_after=1))
    async with running(azurite, simulator, "telemetry", document, **settings) as started:
        yield started
    simulator.clear_faults()


async def chat(stack: Stack, key: str, **headers: str) -> httpx.Response:
    """A streamed call."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": PROMPT}], "stream": True, "user": PROMPT}
    async with httpx.AsyncClient(base_url=stack.host.base_url, timeout=30) as http:
        return await http.post("/v1/chat/completions", json=body, headers={"api-key": key, **headers})


async def until(collected: Collected, is_there: Callable[[Collected], bool]) -> None:
    for _ in range(300):
        if is_there(collected):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"only {len(collected.spans)} spans, metrics {sorted(collected.metrics)}")


async def test_a_streamed_call_that_failed_over_is_one_tree(
    traced: Stack, simulator: Simulator, collector: Collector
) -> None:
    """Guards that a trace leads from the client, through every attempt, to the upstreams and to the recorder."""
    simulator.clear_account()
    answer = await chat(traced, traced.key(), traceparent=f"00-{TRACE}-{CLIENT_SPAN}-01", tracestate="vendor=1")
    assert answer.status_code == 200
    collected = collector.collected
    east, west = "  chat gpt-4o [CLIENT] gpt-4o-east 429", "  chat gpt-4o [CLIENT] gpt-4o-west"
    sent = {"  publish opened [PRODUCER]", "  publish closed [PRODUCER]"}
    whole = {"chat gpt-4o [SERVER]", east, west, *sent, "  record [CONSUMER]"}
    await until(collected, lambda told: whole <= set(tree(told.of_trace(TRACE)).splitlines()))
    spans = collected.of_trace(TRACE)
    print(tree(spans))
    told = tree(spans).splitlines()  # the recorder is told of both ends at once, or of one after the other
    assert set(told) == whole
    assert told[0] == "chat gpt-4o [SERVER]"
    assert [line for line in told if "[CLIENT]" in line] == [east, west]

    (call,) = [span for span in spans if span.kind == "SERVER"]
    attempts = [span for span in spans if span.kind == "CLIENT"]
    assert call.parent_id == CLIENT_SPAN
    assert call.service == "tollgate-under-test"
    record = (await traced.archived(answer.headers["x-tollgate-call-id"])).record
    assert record.trace_id == TRACE
    assert call.attributes["tollgate.call.id"] == record.call_id
    assert record.usage is not None
    assert call.attributes["gen_ai.usage.output_tokens"] == record.usage.output_tokens
    assert [(each.is_error, each.attributes["http.response.status_code"]) for each in attempts] == [
        (True, 429), (False, 200),
    ]  # fmt: skip
    assert all(call.start_ns <= each.start_ns <= each.end_ns <= call.end_ns for each in attempts)
    asked = {entry.traceparent for entry in simulator.calls()}
    assert asked == {f"00-{TRACE}-{each.span_id}-01" for each in attempts}, "each upstream is told its own attempt"


async def test_metrics_and_the_timers_work_arrive_too(traced: Stack, collector: Collector) -> None:
    await chat(traced, traced.key())
    wanted = {
        "gen_ai.server.request.duration", "gen_ai.server.time_to_first_token", "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration", "tollgate.step.duration", "tollgate.backlog",
    }  # fmt: skip
    await until(collector.collected, lambda told: wanted <= told.metrics.keys())
    await until(collector.collected, lambda told: any(span.name == "roll up" for span in told.spans))
    steps = {point["tollgate.step"] for point in collector.collected.metrics["tollgate.step.duration"]}
    assert {"publish opened", "publish closed", "record"} <= steps
    waiting = {point["tollgate.backlog.of"] for point in collector.collected.metrics["tollgate.backlog"]}
    assert waiting == {"messages", "shelved", "quarantined"}
    (timer, *_) = [span for span in collector.collected.spans if span.name == "roll up"]
    assert {"timer", "roll up"} <= {span.name for span in collector.collected.of_trace(timer.trace_id)}


async def test_a_trace_that_the_client_does_not_keep_is_not_told_but_handed_on(
    traced: Stack, simulator: Simulator, collector: Collector
) -> None:
    simulator.clear_account()
    trace_id = "1" * 32
    await chat(traced, traced.key(), traceparent=f"00-{trace_id}-{CLIENT_SPAN}-00")
    later = "2" * 32
    await chat(traced, traced.key(), traceparent=f"00-{later}-{CLIENT_SPAN}-01")
    await until(collector.collected, lambda told: any(span.kind == "SERVER" for span in told.of_trace(later)))
    assert collector.collected.of_trace(trace_id) == []
    handed_on = [entry.traceparent for entry in simulator.calls() if trace_id in (entry.traceparent or "")]
    assert handed_on
    assert all(str(each).endswith("-00") for each in handed_on)


async def test_neither_logs_nor_traces_hold_a_key_or_what_was_said(traced: Stack, collector: Collector) -> None:
    """Guards invariant 8: secrets are never logged. The run has every kind of end that a client sees."""
    wrong = "tg-00000000-a-key-that-nobody-has"
    answers = [
        *[await chat(traced, traced.key("team-b")) for _ in range(5)],
        await chat(traced, wrong),
    ]
    async with httpx.AsyncClient(base_url=traced.host.base_url, timeout=30) as http:
        for path, body in {"/v1/chat/completions": b'{"model": "' + PROMPT.encode(), f"/v1/{PROMPT}": b"{}"}.items():
            answers.append(await http.post(path, content=body, headers={"api-key": traced.key()}))
        await http.get("/usage", headers={"authorization": f"Bearer {ADMIN_KEY}"})
    assert {answer.status_code for answer in answers} >= {200, 401, 400, 404}
    call_id = answers[0].headers["x-tollgate-call-id"]
    recorded = await traced.host.wait_for_log(rf".*call recorded.*{call_id}.*")
    line = json.loads(recorded[0][recorded[0].index("{") :])
    assert (line["client_id"], line["deployment"], line["outcome"]) == ("team-b", "gpt-4o-west", "completed")
    said = traced.host.log + collector.collected.raw.decode("latin-1")
    for secret in (*(traced.key(client) for client in traced.keys), wrong, ADMIN_KEY, UPSTREAM_KEY, PROMPT):
        assert secret not in said
