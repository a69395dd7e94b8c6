"""Verdicts: what goes to the next deployment, what is an answer, and what is held against a deployment."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.headers import Headers
from shared.core.routing.upstream_limits import LONGEST_WAIT_S
from shared.core.routing.verdicts import BODY_DECIDES, Action, Reason, judge_answer, judge_error, judge_event

NOW = datetime(2025, 11, 21, 10, 0, 0, tzinfo=UTC)
ACCEPT, TRY_NEXT, GIVE_UP = Action.ACCEPT, Action.TRY_NEXT, Action.GIVE_UP
YES: Headers = (("x-should-retry", "true"),)
NO: Headers = (("x-should-retry", "false"),)
IN_7_S: Headers = (("retry-after", "7"),)


def error(code: object = None, kind: object = None, **more: object) -> bytes:
    return json.dumps({"error": {"message": "m", "type": kind, "param": None, "code": code, **more}}).encode()


FILTERED = error("content_filter", innererror={"code": "ResponsibleAIPolicyViolation"})

ANSWERS = {  # status, headers, body -> reason, action, counts as failure, cool-down
    "200": (200, (), b"", Reason.ANSWERED, ACCEPT, False, None),
    "204": (204, (), b"", Reason.ANSWERED, ACCEPT, False, None),
    "a redirect": (302, IN_7_S, b"", Reason.ANSWERED, ACCEPT, False, None),
    "200 that asks for a retry": (200, YES, b"", Reason.ANSWERED, ACCEPT, False, None),
    "a wrong request": (400, (), error("invalid_value"), Reason.REFUSED, ACCEPT, False, None),
    "a filtered prompt": (400, (), FILTERED, Reason.REFUSED, ACCEPT, False, None),
    "a filtered prompt, whatever else it says": (400, YES, FILTERED, Reason.REFUSED, ACCEPT, False, None),
    "a wrong credential, which is ours": (401, (), b"", Reason.CREDENTIAL_REFUSED, TRY_NEXT, True, None),
    "forbidden": (403, (), b"", Reason.REFUSED, ACCEPT, False, None),
    "too large": (413, IN_7_S, b"", Reason.REFUSED, ACCEPT, False, None),
    "unprocessable": (422, (), b"", Reason.REFUSED, ACCEPT, False, None),
    "a 4xx that asks for a retry": (400, YES, b"", Reason.ASKS_RETRY, TRY_NEXT, False, None),
    "no such object": (404, (), error(), Reason.REFUSED, ACCEPT, False, None),
    "no such URL": (404, (), error("404"), Reason.REFUSED, ACCEPT, False, None),
    "404 with no body": (404, (), b"", Reason.REFUSED, ACCEPT, False, None),
    "404 with HTML": (404, (), b"<html>DeploymentNotFound", Reason.REFUSED, ACCEPT, False, None),
    "404 cut short": (404, (), error("DeploymentNotFound")[:-5], Reason.REFUSED, ACCEPT, False, None),
    "Azure's missing deployment": (
        404,
        (),
        error("DeploymentNotFound"),
        Reason.MISSING_DEPLOYMENT,
        TRY_NEXT,
        False,
        10,
    ),
    "OpenAI's missing model": (404, (), error("model_not_found"), Reason.MISSING_DEPLOYMENT, TRY_NEXT, False, 10),
    "400 about a model named in the request": (400, (), error("model_not_found"), Reason.REFUSED, ACCEPT, False, None),
    "timed out upstream": (408, (), b"", Reason.TIMED_OUT, TRY_NEXT, True, None),
    "timed out, not to be repeated": (408, NO, b"", Reason.FORBIDS_RETRY, GIVE_UP, True, None),
    "a conflict": (409, (), error("conflict"), Reason.REFUSED, ACCEPT, False, None),
    "a conflict with no body": (409, (), b"", Reason.REFUSED, ACCEPT, False, None),
    "a conflict that asks for a retry": (409, YES, error("conflict"), Reason.ASKS_RETRY, TRY_NEXT, False, None),
    "a conflict that is the server's": (409, (), error("server_error"), Reason.ASKS_RETRY, TRY_NEXT, False, None),
    "the same by its type": (409, (), error("odd", "server_error"), Reason.ASKS_RETRY, TRY_NEXT, False, None),
    "a conflict that forbids it": (409, NO, error("server_error"), Reason.REFUSED, ACCEPT, False, None),
    "a conflict cools nothing down": (409, YES + IN_7_S, b"", Reason.ASKS_RETRY, TRY_NEXT, False, None),
    "rate limited": (429, IN_7_S, b"", Reason.RATE_LIMITED, TRY_NEXT, False, 7),
    "rate limited, no word for how long": (429, (), b"", Reason.RATE_LIMITED, TRY_NEXT, False, 5),
    "rate limited for a day": (429, (("retry-after", "86400"),), b"", Reason.RATE_LIMITED, TRY_NEXT, False, 60),
    "rate limited, absurdly": (429, (("retry-after", "-3"),), b"", Reason.RATE_LIMITED, TRY_NEXT, False, 5),
    "another may have room": (429, NO, b"", Reason.RATE_LIMITED, TRY_NEXT, False, 5),
    "quota spent": (429, NO, error("insufficient_quota"), Reason.QUOTA_SPENT, TRY_NEXT, False, 60),
    "a server error": (500, (), error(None, "server_error"), Reason.SERVER_ERROR, TRY_NEXT, True, None),
    "not implemented": (501, (), b"", Reason.SERVER_ERROR, TRY_NEXT, True, None),
    "bad gateway": (502, (), b"<html>", Reason.SERVER_ERROR, TRY_NEXT, True, None),
    "overloaded": (503, IN_7_S, b"", Reason.SERVER_ERROR, TRY_NEXT, True, 7),
    "gateway timeout": (504, (), b"", Reason.SERVER_ERROR, TRY_NEXT, True, None),
    "not a status that anybody knows": (599, (), b"", Reason.SERVER_ERROR, TRY_NEXT, True, None),
    "a server error that forbids it": (500, NO, b"", Reason.FORBIDS_RETRY, GIVE_UP, True, None),
}


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason", "action", "fails", "cool_down_s"), ANSWERS.values(), ids=ANSWERS.keys()
)
def test_an_answer_is_judged_by_status_headers_and_code(
    status: int,
    headers: Headers,
    body: bytes,
    reason: Reason,
    action: Action,
    *,
    fails: bool,
    cool_down_s: float | None,
) -> None:
    verdict = judge_answer(status, headers, NOW, body)
    assert (verdict.reason, verdict.action) == (reason, action)
    assert (verdict.counts_as_failure, verdict.cool_down_s) == (fails, cool_down_s)


@pytest.mark.parametrize(("status", "body"), sorted({(row[0], row[2]) for row in ANSWERS.values() if row[2]}), ids=str)
def test_bodies_matter_only_where_it_is_said_that_they_do(status: int, body: bytes) -> None:
    if status not in BODY_DECIDES:
        assert judge_answer(status, (), NOW, body) == judge_answer(status, (), NOW)


@given(
    status=st.integers(400, 499).filter(lambda status: status not in (401, 404, 408, 429)),
    headers=st.sampled_from([(), YES, NO, IN_7_S]),
    code=st.sampled_from(
        ["server_error", "rate_limit_exceeded", "DeploymentNotFound", "insufficient_quota", "429", 500]
    ),
)
def test_no_client_can_hold_its_own_mistakes_against_a_deployment(status: int, headers: Headers, code: object) -> None:
    verdict = judge_answer(status, headers, NOW, error(code))
    assert not verdict.counts_as_failure
    assert verdict.cool_down_s is None


ERRORS = {  # sent, may be repeated -> reason, action
    "never sent": (False, False, Reason.NOT_REACHED, TRY_NEXT),
    "never sent, and might be repeated": (False, True, Reason.NOT_REACHED, TRY_NEXT),
    "sent: it may be billed": (True, False, Reason.OUTCOME_UNKNOWN, GIVE_UP),
    "sent, and the policy allows it": (True, True, Reason.OUTCOME_UNKNOWN, TRY_NEXT),
}


@pytest.mark.parametrize(("sent", "retry_unknown", "reason", "action"), ERRORS.values(), ids=ERRORS.keys())
def test_what_was_sent_is_repeated_only_where_the_policy_allows(
    reason: Reason, action: Action, *, sent: bool, retry_unknown: bool
) -> None:
    verdict = judge_error(sent=sent, retry_unknown=retry_unknown)
    assert (verdict.reason, verdict.action, verdict.counts_as_failure) == (reason, action, True)


def chunk(**delta: object) -> bytes:
    return json.dumps({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}).encode()


def event(kind: str, **fields: object) -> bytes:
    return json.dumps({"type": kind, "sequence_number": 0, **fields}).encode()


EVENTS: dict[str, tuple[bytes, Reason | None]] = {
    "chat: an error": (error(None, "server_error"), Reason.SERVER_ERROR),
    "chat: a limit": (error("rate_limit_exceeded", "requests"), Reason.RATE_LIMITED),
    "chat: Azure's limit, a status": (error("429"), Reason.RATE_LIMITED),
    "chat: a status that is a number": (error(503), Reason.SERVER_ERROR),
    "chat: a quota": (error("insufficient_quota"), Reason.QUOTA_SPENT),
    "chat: a filter": (error("content_filter"), Reason.REFUSED),
    "chat: a filter, with a type that misleads": (error("content_filter", "server_error"), Reason.REFUSED),
    "chat: a wrong request": (error("invalid_value", "invalid_request_error"), Reason.REFUSED),
    "chat: a code that is new": (error("brand_new"), Reason.REFUSED),
    "chat: a code that is new, of a type that is not": (error("brand_new", "server_error"), Reason.SERVER_ERROR),
    "chat: an error with no word why": (error(), Reason.UNEXPLAINED),
    "chat: an error that is text": (b'{"error":"overloaded"}', Reason.UNEXPLAINED),
    "chat: no error": (b'{"error":null,"choices":[]}', None),
    "chat: Azure's prompt filter results": (b'{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}', None),
    "chat: the role": (chunk(role="assistant"), None),
    "chat: the role and no text yet": (chunk(role="assistant", content="", refusal=None), None),
    "chat: filter annotations alone": (b'{"choices":[{"index":0,"content_filter_offsets":{}}]}', None),
    "chat: text": (chunk(content="Hi"), Reason.ANSWERED),
    "chat: a refusal": (chunk(refusal="No"), Reason.ANSWERED),
    "chat: a tool": (chunk(tool_calls=[{"index": 0}]), Reason.ANSWERED),
    "chat: reasoning": (chunk(reasoning_content="Hm"), Reason.ANSWERED),
    "chat: the end at once": (b'{"choices":[{"delta":{},"finish_reason":"stop"}]}', Reason.ANSWERED),
    "chat: the second choice": (b'{"choices":[{"delta":{}},{"delta":{"content":"a"}}]}', Reason.ANSWERED),
    "completions: text": (b'{"choices":[{"text":"Hi","finish_reason":null}]}', Reason.ANSWERED),
    "completions: none yet": (b'{"choices":[{"text":"","finish_reason":null}]}', None),
    "responses: created": (event("response.created", response={"id": "r", "error": None}), None),
    "responses: queued": (event("response.queued", response={"id": "r"}), None),
    "responses: in progress": (event("response.in_progress", response={"id": "r"}), None),
    "responses: output": (event("response.output_item.added", item={}), Reason.ANSWERED),
    "responses: incomplete": (event("response.incomplete", response={"error": None}), Reason.ANSWERED),
    "responses: an error": (event("error", code="server_error", message="m"), Reason.SERVER_ERROR),
    "responses: a limit": (event("error", code="rate_limit_exceeded", message="m"), Reason.RATE_LIMITED),
    "responses: a wrong prompt": (event("error", code="invalid_prompt", message="m"), Reason.REFUSED),
    "responses: a tool's model is missing": (event("error", code="model_not_found", message="m"), Reason.REFUSED),
    "responses: an error with no word why": (event("error", code=None, message="m"), Reason.UNEXPLAINED),
    "responses: an error that is wrapped": (event("error", error={"code": "server_error"}), Reason.SERVER_ERROR),
    "responses: failed": (event("response.failed", response={"error": {"code": "server_error"}}), Reason.SERVER_ERROR),
    "responses: failed for the image": (
        event("response.failed", response={"error": {"code": "invalid_image"}}),
        Reason.REFUSED,
    ),
    "responses: failed with no word why": (event("response.failed", response={"error": None}), Reason.UNEXPLAINED),
    "images: a part": (event("image_generation.partial_image", b64_json="AA"), Reason.ANSWERED),
    "audio: text": (event("transcript.text.delta", delta="Hi"), Reason.ANSWERED),
    "the end": (b"[DONE]", Reason.ANSWERED),
    "not JSON": (b"{", Reason.ANSWERED),
    "not UTF-8": (b'{"choices":[{"delta":{"content":"\xff"}}]}', Reason.ANSWERED),
    "not an object": (b'"text"', Reason.ANSWERED),
    "not what it should be": (b'{"error":{"code":{}}}', Reason.ANSWERED),
    "a code with too many digits": (b'{"error":{"code":' + b"9" * 4000 + b"}}", Reason.REFUSED),
    "nested too deep": (b'{"choices":' + b"[" * 100_000, Reason.ANSWERED),
    "nothing known": (b"{}", Reason.ANSWERED),
}


@pytest.mark.parametrize(("data", "reason"), EVENTS.values(), ids=EVENTS.keys())
def test_an_event_is_an_error_the_beginning_of_the_answer_or_says_nothing(data: bytes, reason: Reason | None) -> None:
    verdict = judge_event(data)
    assert (verdict and verdict.reason) == reason


@given(
    data=st.binary(max_size=100)
    | st.recursive(st.none() | st.text(max_size=5), st.lists).map(
        lambda value: json.dumps({"error": value, "choices": value}).encode()
    )
)
def test_no_event_is_beyond_judging(data: bytes) -> None:
    verdict = judge_event(data)
    assert verdict is None or verdict.cool_down_s is None or verdict.cool_down_s <= LONGEST_WAIT_S
