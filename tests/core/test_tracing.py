"""A call as a trace: who its spans are, and what they tell."""

from datetime import timedelta
from typing import Any

import pytest

from shared.core.api.upstream_requests import upstream_request
from shared.core.call_record import Attempt, CallRecord, Outcome
from shared.core.configuration import Upstream, UpstreamKind
from shared.core.headers import Headers
from shared.core.trace_context import TraceContext, attempt_of, child, for_attempt, trace_of
from shared.core.tracing import METRICS, Kind, measurements_of, spans_of
from shared.core.usage import TokenUsage
from tests.examples import NOON, call, closed_record, inbound, opened_record, target

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALL = TraceContext(trace_id=TRACE, span_id="b7ad6b7169203331", parent_id=SPAN)
UPSTREAMS = {
    "east": Upstream(name="east", kind=UpstreamKind.AZURE, url="https://east.example", key="k"),
    "west": Upstream(name="west", kind=UpstreamKind.OPENAI, url="http://127.0.0.1:8080/v1", key="k"),
}

TRACEPARENTS: dict[str, tuple[Headers, tuple[str, str, bool] | None]] = {
    "sampled": ((("traceparent", f"00-{TRACE}-{SPAN}-01"),), (TRACE, SPAN, True)),
    "not sampled": ((("traceparent", f"00-{TRACE}-{SPAN}-00"),), (TRACE, SPAN, False)),
    "other flags": ((("traceparent", f"00-{TRACE}-{SPAN}-03"),), (TRACE, SPAN, True)),
    "a later version says more": ((("traceparent", f"cc-{TRACE}-{SPAN}-01-more"),), (TRACE, SPAN, True)),
    "none": ((), None),
    "version 0 says no more": ((("traceparent", f"00-{TRACE}-{SPAN}-01-more"),), None),
    "version ff is none": ((("traceparent", f"ff-{TRACE}-{SPAN}-01"),), None),
    "capitals": ((("traceparent", f"00-{TRACE.upper()}-{SPAN}-01"),), None),
    "no trace": ((("traceparent", f"00-{'0' * 32}-{SPAN}-01"),), None),
    "no span": ((("traceparent", f"00-{TRACE}-{'0' * 16}-01"),), None),
    "nonsense": ((("traceparent", "hello"),), None),
    "two of them": ((("traceparent", f"00-{TRACE}-{SPAN}-01"), ("traceparent", f"00-{TRACE}-{SPAN}-01")), None),
}


@pytest.mark.parametrize(("headers", "understood"), TRACEPARENTS.values(), ids=TRACEPARENTS.keys())
def test_a_traceparent_is_read_as_w3c_says(headers: Headers, understood: tuple[str, str, bool] | None) -> None:
    found = trace_of(headers)
    assert (found and (found.trace_id, found.span_id, found.is_sampled)) == understood


def test_a_traceparent_is_written_as_it_is_read() -> None:
    for flags in ("00", "01"):
        header = f"00-{TRACE}-{SPAN}-{flags}"
        found = trace_of((("traceparent", header),))
        assert found is not None
        assert found.traceparent == header


def test_attempts_have_spans_of_their_own_below_the_calls() -> None:
    first, second = attempt_of(CALL, 0), attempt_of(CALL, 1)
    assert first == attempt_of(CALL, 0), "known before the attempt, and again when its span is made"
    assert len({first.span_id, second.span_id, CALL.span_id}) == 3
    assert (first.trace_id, first.parent_id, len(first.span_id)) == (TRACE, CALL.span_id, 16)


def test_the_upstream_gets_the_attempt_as_its_parent_and_the_clients_tracestate() -> None:
    client: Headers = (("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "vendor=1"), ("x-custom", "1"))
    attempt = attempt_of(CALL, 0)
    sent = (("tracestate", "vendor=1"), ("x-custom", "1"), ("traceparent", attempt.traceparent))
    assert for_attempt(client, attempt) == sent
    assert for_attempt((("traceparent", "nonsense"), ("tracestate", "vendor=1")), attempt) == sent[2:]


def test_without_telemetry_the_clients_trace_context_reaches_the_upstream_untouched() -> None:
    """Guards that a client's own tracing works through a gateway that has none, whatever it wrote."""
    for traceparent in (f"00-{TRACE}-{SPAN}-01", "nonsense"):
        request = upstream_request(
            call(b'{"model":"gpt-4o"}', inbound(traceparent=traceparent, tracestate="a=b")), target(), "k"
        )
        assert [line for line in request.headers if line[0].startswith("trace")] == [
            ("traceparent", traceparent), ("tracestate", "a=b"),
        ]  # fmt: skip


def failed_over(**fields: Any) -> CallRecord:
    """A streamed call that the east refused and the west served."""
    attempts = (
        Attempt(deployment="a", upstream="east", status=429, error="rate limited", duration_ms=20, started_ms=5),
        Attempt(deployment="b", upstream="west", status=200, error=None, duration_ms=30, started_ms=26),
    )
    known: dict[str, Any] = {
        "trace": CALL,
        "attempts": attempts,
        "deployment": "b",
        "upstream": "west",
        "closed_at": NOON + timedelta(milliseconds=90),
        "request_parameters": {"temperature": 0.5, "max_tokens": 10, "response_format": "text"},
    }
    return closed_record(**(known | fields))


def test_a_call_and_its_attempts_are_spans_with_the_conventions_names() -> None:
    served, refused, answered = spans_of(failed_over(), UPSTREAMS)
    assert (served.name, served.kind, served.context, served.error) == ("chat gpt-4o", Kind.SERVER, CALL, None)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 10,
        "gen_ai.response.model": "gpt-4o-2024-11-20",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.04,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.output_tokens": 5,
        "openai.api.type": "chat_completions",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": 8080,
    }
    assert expected.items() <= served.attributes.items()
    assert "gen_ai.usage.reasoning.output_tokens" not in served.attributes, "unknown is not zero"
    assert (refused.kind, refused.error, refused.context) == (Kind.CLIENT, "429", attempt_of(CALL, 0))
    assert refused.attributes["gen_ai.provider.name"] == "azure.ai.openai"
    assert (refused.attributes["server.address"], refused.attributes["server.port"]) == ("east.example", 443)
    assert (refused.start, refused.end) == (NOON + timedelta(milliseconds=5), NOON + timedelta(milliseconds=25))
    assert (answered.error, answered.context) == (None, attempt_of(CALL, 1))
    assert answered.end == served.end, "what answered did so to the end"
    assert not any(name.startswith("gen_ai.usage") for name in answered.attributes), (
        "a sum over spans counts tokens once"
    )


def test_spans_hold_nothing_that_a_client_wrote_but_the_model() -> None:
    record = failed_over(end_user="someone", user_agent="an agent", error="a message")
    told = str(spans_of(record, UPSTREAMS)) + str(measurements_of(record, UPSTREAMS))
    assert not any(text in told for text in ("someone", "an agent", "a message", "203.0.113.7"))


ERRORS: dict[str, tuple[dict[str, Any], str | None]] = {
    "completed": ({}, None),
    "the client's mistake": ({"status": 400}, "400"),
    "hung up": ({"outcome": Outcome.CLIENT_CLOSED}, "client_closed"),
    "broken": ({"outcome": Outcome.UPSTREAM_ERROR, "status": 200}, "upstream_error"),
    "refused": ({"outcome": Outcome.REJECTED, "status": 429, "attempts": (), "deployment": None}, "429"),
}


@pytest.mark.parametrize(("fields", "error"), ERRORS.values(), ids=ERRORS.keys())
def test_a_call_that_went_wrong_says_how_in_a_word(fields: dict[str, Any], error: str | None) -> None:
    record = failed_over(**fields)
    assert spans_of(record, UPSTREAMS)[0].error == error
    assert measurements_of(record, UPSTREAMS)[0].attributes.get("error.type") == error


def test_an_attempt_without_an_answer_says_why_in_a_word() -> None:
    failed = Attempt(deployment="a", upstream="gone", status=None, error="InvalidURL: x", duration_ms=1)
    (_, span) = spans_of(failed_over(attempts=(failed,), deployment=None, upstream=None), UPSTREAMS)
    assert span.error == "InvalidURL"
    assert "server.address" not in span.attributes, "an upstream that is configured no more"


@pytest.mark.parametrize(
    "record",
    [failed_over(trace=None), failed_over(trace=child(TraceContext(trace_id=TRACE, span_id=SPAN, is_sampled=False), SPAN)),
     opened_record(trace=CALL)],
    ids=["telemetry is off", "not sampled", "not ended"],
)  # fmt: skip
def test_no_spans_where_none_are_wanted(record: CallRecord) -> None:
    assert spans_of(record, UPSTREAMS) == ()


def test_metrics_are_those_of_the_conventions() -> None:
    found = measurements_of(failed_over(), UPSTREAMS)
    assert {each.metric for each in found} <= METRICS.keys()
    assert [(each.metric, each.value) for each in found] == [
        ("gen_ai.server.request.duration", 0.09),
        ("gen_ai.server.time_to_first_token", 0.04),
        ("gen_ai.client.token.usage", 10),
        ("gen_ai.client.token.usage", 5),
        ("gen_ai.client.operation.duration", 0.02),
        ("gen_ai.client.operation.duration", 0.03),
    ]
    assert [each.attributes["gen_ai.token.type"] for each in found[2:4]] == ["input", "output"]


def test_tokens_that_nobody_told_are_no_measurement() -> None:
    for usage in (None, TokenUsage(input_tokens=3)):
        found = measurements_of(failed_over(usage=usage), UPSTREAMS)
        assert sum(each.metric == "gen_ai.client.token.usage" for each in found) == (usage is not None)


def test_operations_that_the_conventions_do_not_name_keep_theirs() -> None:
    (span, *_) = spans_of(failed_over(operation="images.generations", model=""), UPSTREAMS)
    assert span.name == "images.generations"
    assert "openai.api.type" not in span.attributes
