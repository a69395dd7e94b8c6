"""From a call to its record."""

import hashlib
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from shared.core.call_record import Attempt, CallRecord, Outcome, UsageSource
from shared.core.recording.accounting import Ending, Served, close_record, open_record
from shared.core.usage import Reading, TokenUsage
from tests.examples import NOON, call, call_id, inbound, target

BODY = b'{"model":"gpt-4o","stream":true,"user":"ann"}'
USAGE = TokenUsage(input_tokens=1)
ATTEMPTS = (Attempt(deployment="east", upstream="contoso", status=200, error=None, duration_ms=3),)


def ended(outcome: Outcome = Outcome.COMPLETED, usage: TokenUsage | None = USAGE, **fields: Any) -> CallRecord:
    served = fields.pop("served", Served(attempts=ATTEMPTS, status=200, target=target()))
    ending = Ending(
        outcome=outcome,
        closed_at=NOON + timedelta(seconds=2),
        served=served,
        reading=Reading(usage=usage, model="gpt-4o-2024-11-20"),
        **fields,
    )
    made = call(BODY)
    return close_record(made, open_record(made), ending)


def test_an_opened_record_says_who_asked_for_what() -> None:
    request = inbound(
        "/openai/deployments/gpt-4o/chat/completions",
        "api-version=2024-10-21",
        user_agent="a/1",
        authorization="Bearer s",
    )
    record = open_record(call(BODY, msgspec.structs.replace(request, caller_ip="203.0.113.7")))
    assert record == CallRecord(
        call_id=call_id(),
        client_id="team-blue",
        cost_center="",
        operation="chat.completions",
        url_style="azure",
        api_version="2024-10-21",
        model="gpt-4o",
        stream=True,
        end_user="ann",
        caller_ip="203.0.113.7",
        user_agent="a/1",
        opened_at=NOON,
        request_bytes=len(BODY),
        request_sha256=hashlib.sha256(BODY).hexdigest(),
    )
    assert record.outcome is None


def test_a_closed_record_repeats_what_the_opened_one_said() -> None:
    """Guards that the two can be merged in either order."""
    opened = msgspec.structs.asdict(open_record(call(BODY)))
    closed = msgspec.structs.asdict(ended())
    known = {name for name, value in opened.items() if value}
    assert {name: closed[name] for name in known} == {name: opened[name] for name in known}


def test_a_closed_record_says_how_it_ended() -> None:
    headers = (
        ("x-ms-region", "Sweden Central"),
        ("x-request-id", "r"),
        ("content-encoding", "gzip"),
        ("set-cookie", "s"),
    )
    served = Served(attempts=ATTEMPTS, status=200, target=target(region="east"), headers=headers)
    record = ended(served=served, response=b"body", first_byte_at=NOON + timedelta(milliseconds=40))
    assert (record.outcome, record.status, record.duration_ms, record.first_byte_ms) == (
        Outcome.COMPLETED,
        200,
        2000,
        40,
    )
    assert (record.deployment, record.upstream, record.region) == ("east", "contoso", "Sweden Central")
    assert (record.response_bytes, record.response_sha256) == (4, hashlib.sha256(b"body").hexdigest())
    assert (record.response_headers, record.response_encoding) == (
        {"x-ms-region": "Sweden Central", "x-request-id": "r"},
        "gzip",
    )
    assert (record.attempts, record.model_served, record.usage) == (ATTEMPTS, "gpt-4o-2024-11-20", USAGE)


def test_where_no_deployment_answered_none_is_named() -> None:
    record = ended(Outcome.UPSTREAM_ERROR, None, served=Served(attempts=ATTEMPTS, status=502))
    assert (record.deployment, record.upstream, record.region, record.first_byte_ms) == (None, None, None, None)


def test_the_region_is_the_configured_one_where_the_upstream_names_none() -> None:
    assert ended(served=Served(attempts=ATTEMPTS, status=200, target=target(region="east"))).region == "east"


SOURCES = {
    "the provider told": (Outcome.COMPLETED, USAGE, UsageSource.PROVIDER),
    "told after the client had gone": (Outcome.CLIENT_CLOSED, USAGE, UsageSource.DRAINED),
    "told before the upstream broke off": (Outcome.UPSTREAM_ERROR, USAGE, UsageSource.PROVIDER),
    "nobody told": (Outcome.COMPLETED, None, UsageSource.NONE),
    "nobody told, and the client had gone": (Outcome.CLIENT_CLOSED, None, UsageSource.NONE),
}


@pytest.mark.parametrize(("outcome", "usage", "source"), SOURCES.values(), ids=SOURCES.keys())
def test_usage_names_its_source(outcome: Outcome, usage: TokenUsage | None, source: UsageSource) -> None:
    """Guards that unknown usage is told from none."""
    record = ended(outcome, usage)
    assert record.usage_source is source
    assert record.usage == usage


def test_texts_that_others_chose_are_cut() -> None:
    long = "x" * 10_000
    request = msgspec.structs.replace(inbound(user_agent=long, x="y"), caller_ip=long, query=f"api-version={long}")
    record = open_record(call(b'{"model":"m","user":"' + long.encode() + b'"}', request))
    texts = (record.user_agent, record.caller_ip, record.api_version, record.end_user, ended(error=long).error)
    assert [len(text or "") for text in texts] == [256] * 5


def test_an_empty_text_is_no_text() -> None:
    record = open_record(call(b'{"model":"m","user":""}', inbound(user_agent="")))
    assert (record.user_agent, record.end_user) == (None, None)


@pytest.mark.parametrize("value", [b"1e777", b'"\xff"', b'"\\ud800"', b"9" * 60, b"-0", b'""'])
def test_a_parameter_that_no_codec_reads_costs_no_record(value: bytes) -> None:
    """The upstream will say what is wrong with it."""
    record = open_record(call(b'{"model":"m","n":%b,"seed":%b,"tools":[{"name":%b}]}' % (value, value, value)))
    assert msgspec.json.decode(msgspec.json.encode(record), type=CallRecord) == record


def test_what_spilled_over_has_a_tier_of_its_own_where_the_upstream_says_so() -> None:
    asked = call(b'{"model":"m","service_tier":"spillover"}')
    for told, tier in (("true", "spillover"), ("false", None)):
        served = Served(attempts=ATTEMPTS, status=200, target=target(), headers=(("x-ms-is-spilled-over", told),))
        ending = Ending(outcome=Outcome.COMPLETED, closed_at=NOON, served=served)
        assert close_record(asked, open_record(asked), ending).tier == tier


PNG = b"\r\n".join((b"--b", b'Content-Disposition: form-data; name="size"', b"", b"256x256", b"--b--", b""))
TIERS: dict[str, tuple[str, bytes, str | None, str | None]] = {
    "the standard": ("chat/completions", BODY, None, None),
    "as it was asked for": ("chat/completions", b'{"model":"m","service_tier":"flex"}', None, "flex"),
    "as it was served": ("chat/completions", b'{"model":"m","service_tier":"flex"}', "default", None),
    "left to the upstream": ("chat/completions", b'{"model":"m","service_tier":"auto"}', "priority", "priority"),
    "no text": ("chat/completions", b'{"model":"m","service_tier":[1]}', None, None),
    "the discount of a batch": ("chat/completions", b'{"model":"m","service_tier":"batch"}', None, None),
    "an image": ("images/generations", b'{"model":"m","size":"1792x1024","quality":"hd"}', None, "hd/1792x1024"),
    "an image of which nothing is said": ("images/generations", b'{"model":"m"}', None, "standard/1024x1024"),
    "an image that says it itself": ("images/generations", b'{"model":"m"}', "high/1536x1024", "high/1536x1024"),
    "an image in a form": ("images/edits", PNG, None, "standard/256x256"),
}


@pytest.mark.parametrize(("path", "body", "told", "tier"), TIERS.values(), ids=TIERS.keys())
def test_a_closed_record_says_what_its_price_depends_on(
    path: str, body: bytes, told: str | None, tier: str | None
) -> None:
    headers = {"content_type": "multipart/form-data; boundary=b"} if path == "images/edits" else {}
    made = call(body, inbound(f"/openai/deployments/m/{path}", "api-version=2024-10-21", **headers))
    ending = Ending(
        outcome=Outcome.COMPLETED,
        closed_at=NOON,
        served=Served(attempts=ATTEMPTS, status=200, target=target()),
        reading=Reading(tier=told),
    )
    assert close_record(made, open_record(made), ending).tier == tier


@pytest.mark.parametrize(("tokens", "tier"), [(272_000, None), (272_001, "long")])
def test_a_call_of_long_input_says_so_in_its_tier(tokens: int, tier: str | None) -> None:
    """Guards that the whole of such a call costs more where its model does."""
    assert ended(usage=TokenUsage(input_tokens=tokens)).tier == tier
