"""What an attempt's end means: is it the answer, does another deployment get a try, and what of this one.

Rule: an answer that another deployment would give too is the client's to see: content filters and wrong requests are answers,
not failures, and no client can take a deployment out of use with them. Everything a verdict follows from is in the table.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from shared.core.headers import Headers
from shared.core.json_text import NOT_READABLE
from shared.core.routing.upstream_limits import LONGEST_WAIT_S, retry_after_s, should_retry

BODY_DECIDES = frozenset({404, 409, 429})
"""Statuses whose verdict depends on the error's code: judge them with the body, decompressed."""


class Action(StrEnum):
    """What to do next."""

    ACCEPT = "accept"
    """Hand the answer on."""
    TRY_NEXT = "try_next"
    """Ask another deployment; where there is none, hand the answer on if there is one."""
    GIVE_UP = "give_up"
    """The same, but ask no other."""


class Reason(StrEnum):
    """Why. Recorded and logged as it is."""

    ANSWERED = "answered"
    CREDENTIAL_REFUSED = "credential_refused"
    """401: the upstream does not take the gateway's own credential. Never the client's fault."""
    REFUSED = "refused"
    """The request is at fault, or not allowed."""
    RATE_LIMITED = "rate_limited"
    QUOTA_SPENT = "quota_spent"
    """Rate limited until somebody pays: OpenAI's `insufficient_quota`."""
    SERVER_ERROR = "server_error"
    TIMED_OUT = "timed_out"
    """408: the upstream gave up on the request."""
    ASKS_RETRY = "asks_retry"
    """A 4xx that says that the same request may succeed."""
    FORBIDS_RETRY = "forbids_retry"
    """A failure that says that it may not."""
    MISSING_DEPLOYMENT = "missing_deployment"
    UNEXPLAINED = "unexplained"
    """An error event that does not say whose fault it was."""
    NOT_REACHED = "not_reached"
    """The request was never sent."""
    OUTCOME_UNKNOWN = "outcome_unknown"
    """It was sent and nothing, or not all, came back: it may be billed."""
    ABANDONED = "abandoned"
    """The client had gone, and nobody waited any more. Of the deployment it says nothing."""


class Verdict(msgspec.Struct, frozen=True):
    """What follows from an attempt."""

    reason: Reason
    action: Action
    counts_as_failure: bool
    """Towards the deployment's breaker."""
    cool_down_s: float | None
    """For how long nothing more is sent to the deployment; None: no cool-down."""


_TABLE = {
    row[0]: Verdict(*row)
    for row in (
        # reason                     action           failure  cool-down, where no Retry-After tells another
        (Reason.ANSWERED, Action.ACCEPT, False, None),
        (Reason.REFUSED, Action.ACCEPT, False, None),
        (Reason.CREDENTIAL_REFUSED, Action.TRY_NEXT, True, None),
        (Reason.RATE_LIMITED, Action.TRY_NEXT, False, 5.0),  # Azure counts over 1 to 10 s
        (Reason.QUOTA_SPENT, Action.TRY_NEXT, False, LONGEST_WAIT_S),
        (Reason.SERVER_ERROR, Action.TRY_NEXT, True, None),
        (Reason.TIMED_OUT, Action.TRY_NEXT, True, None),
        (Reason.ASKS_RETRY, Action.TRY_NEXT, False, None),
        (Reason.FORBIDS_RETRY, Action.GIVE_UP, True, None),
        (Reason.MISSING_DEPLOYMENT, Action.TRY_NEXT, False, 10.0),  # a new one takes minutes to appear
        (Reason.UNEXPLAINED, Action.TRY_NEXT, False, None),
        (Reason.NOT_REACHED, Action.TRY_NEXT, True, None),
        (Reason.OUTCOME_UNKNOWN, Action.GIVE_UP, True, None),
        (Reason.ABANDONED, Action.GIVE_UP, False, None),
    )
}

ANSWERED = _TABLE[Reason.ANSWERED]
ABANDONED = _TABLE[Reason.ABANDONED]

_BLAME = {
    "content_filter": Reason.REFUSED,
    "responsibleaipolicyviolation": Reason.REFUSED,
    "deploymentnotfound": Reason.MISSING_DEPLOYMENT,
    "model_not_found": Reason.MISSING_DEPLOYMENT,
    "insufficient_quota": Reason.QUOTA_SPENT,
    **dict.fromkeys(
        ("rate_limit_exceeded", "toomanyrequests", "too_many_requests", "requests", "tokens"), Reason.RATE_LIMITED
    ),
    **dict.fromkeys(
        (
            "server_error",
            "internal_error",
            "internal_server_error",
            "internalservererror",
            "overloaded",
            "overloaded_error",
            "service_unavailable",
            "serviceunavailable",
            "bad_gateway",
            "badgateway",
            "gateway_timeout",
            "gatewaytimeout",
            "timeout",
            "vector_store_timeout",
        ),
        Reason.SERVER_ERROR,
    ),
}
"""The codes and types of errors, in lower case, that tell whose fault they are."""

_STATUS = re.compile(r"[45][0-9]{2}")

_PREAMBLE = frozenset({"response.created", "response.queued", "response.in_progress"})


class _Error(msgspec.Struct, frozen=True):
    code: str | int | None = None
    type: str | None = None


class _Body(msgspec.Struct, frozen=True):
    error: _Error | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: dict[str, Any] | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Response(msgspec.Struct, frozen=True):
    error: _Error | None = None


class _Event(msgspec.Struct, frozen=True):
    type: str | None = None
    error: _Error | str | None = None
    code: str | int | None = None
    response: _Response | None = None
    choices: tuple[_Choice, ...] | None = None


_body_decoder = msgspec.json.Decoder(_Body)
_event_decoder = msgspec.json.Decoder(_Event)


def judge_answer(status: int, headers: Headers, now: datetime, body: bytes = b"") -> Verdict:
    """The verdict on an answer whose headers are in. `now` is UTC; `body` is needed where BODY_DECIDES.

    A Retry-After is the cool-down where the deployment is at fault, or at its limit.
    """
    if status < 400:
        return ANSWERED
    verdict = _TABLE[_reason(status, should_retry(headers), _blame(_names(_error_in(body))))]
    if not (verdict.counts_as_failure or verdict.cool_down_s):
        return verdict
    wait_s = retry_after_s(headers, now)
    return verdict if wait_s is None else msgspec.structs.replace(verdict, cool_down_s=wait_s)


def judge_error(*, sent: bool, retry_unknown: bool) -> Verdict:
    """The verdict on an attempt without an answer, or with half of one.

    `sent`: the upstream may have begun to work on it. `retry_unknown`: it may be repeated all the same, because the model's
    policy says so or the method is idempotent.
    """
    if not sent:
        return _TABLE[Reason.NOT_REACHED]
    unknown = _TABLE[Reason.OUTCOME_UNKNOWN]
    return msgspec.structs.replace(unknown, action=Action.TRY_NEXT) if retry_unknown else unknown


def judge_event(data: bytes) -> Verdict | None:
    """The verdict on the data of an event at the beginning of a 200 stream; None: nothing can be said yet.

    An error there is a failure like one with a status. What comes before content (Azure's prompt filter results, an empty
    delta, `response.created`) says nothing. Anything else, readable or not, is the answer.
    """
    try:
        event = _event_decoder.decode(data)
    except NOT_READABLE:
        return ANSWERED
    error = _error_of(event)
    if error is not None:
        names = _names(error)
        blame = _blame(names) or (Reason.REFUSED if names else Reason.UNEXPLAINED)
        # The deployment is there: what is missing is a model that the request names, for a tool, say.
        return _TABLE[Reason.REFUSED if blame is Reason.MISSING_DEPLOYMENT else blame]
    if event.type in _PREAMBLE or (event.choices is not None and not any(map(_has_content, event.choices))):
        return None
    return ANSWERED


def _reason(status: int, retry: bool | None, blame: Reason | None) -> Reason:
    """`retry` is of the request: a limit is the deployment's, and another may have room whatever it says."""
    if status == 429:
        return Reason.QUOTA_SPENT if blame is Reason.QUOTA_SPENT else Reason.RATE_LIMITED
    if status >= 500 or status == 408:
        failure = Reason.SERVER_ERROR if status >= 500 else Reason.TIMED_OUT
        return Reason.FORBIDS_RETRY if retry is False else failure
    if status == 401:
        return Reason.CREDENTIAL_REFUSED
    if status == 404 and blame is Reason.MISSING_DEPLOYMENT:
        return blame
    return Reason.ASKS_RETRY if _asks_retry(status, retry, blame) else Reason.REFUSED


def _asks_retry(status: int, retry: bool | None, blame: Reason | None) -> bool:
    if retry is None:
        return status == 409 and blame in (Reason.SERVER_ERROR, Reason.RATE_LIMITED)
    return retry and blame is not Reason.REFUSED


def _error_in(body: bytes) -> _Error:
    try:
        return (_body_decoder.decode(body).error if body else None) or _Error()
    except NOT_READABLE:
        return _Error()


def _error_of(event: _Event) -> _Error | None:
    """Chat wraps its error; Responses sends `error` events, flat, and `response.failed`."""
    if event.error is not None:
        return event.error if isinstance(event.error, _Error) else _Error()
    if event.type == "error":
        return _Error(code=event.code)
    if event.type == "response.failed":
        return (event.response and event.response.error) or _Error()
    return None


def _names(error: _Error) -> list[str]:
    return [str(name).lower() for name in (error.code, error.type) if name]


def _blame(names: Iterable[str]) -> Reason | None:
    """Whose fault an error is by the first of its names that tells. Azure's code may be a status."""
    for name in names:
        reason = _reason(int(name), None, None) if _STATUS.fullmatch(name) else _BLAME.get(name)
        if reason:
            return reason
    return None


def _has_content(choice: _Choice) -> bool:
    delta = choice.delta or {}
    return bool(choice.text or choice.finish_reason or any(delta[name] for name in delta if name != "role"))
