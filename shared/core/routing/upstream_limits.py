"""What an upstream's headers say about its limits: when to come back, and what is left.

Rule: a header is a hint. What is missing, negative, without a time or absurd is unknown, and unknown never keeps a deployment
out of use: the Responses API answers with limits of -1 or 0 and no time
(https://learn.microsoft.com/answers/questions/5625878).
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from shared.core.headers import Headers, get

LONGEST_WAIT_S = 60.0
"""Longer waits count as this long: Azure may ask for a day and be back in a minute."""

_ABSURD_S = 86_400.0
_LONGEST_TEXT = 64

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_COUNT = re.compile(r"[0-9]{1,15}")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9.]+)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of one limit, as far as an upstream has said. `resets_at` is an instant of the monotonic clock."""

    remaining: int
    resets_at: float

    def is_exhausted(self, now: float) -> bool:
        return self.remaining == 0 and now < self.resets_at


class Allowances(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a deployment's limits; None: unknown."""

    requests: Allowance | None = None
    tokens: Allowance | None = None

    def is_exhausted(self, now: float) -> bool:
        """Whether the next call is known to be refused."""
        return any(each is not None and each.is_exhausted(now) for each in (self.requests, self.tokens))

    def after(self, headers: Headers, now: float) -> "Allowances":
        """The allowances once an answer is in. What it does not say stays as it was."""
        told = {name: value for name, value in headers if name.startswith("x-ratelimit-re")}
        if not told:
            return self
        return Allowances(
            requests=_allowance(told, "requests", now) or self.requests,
            tokens=_allowance(told, "tokens", now) or self.tokens,
        )


def retry_after_s(headers: Headers, now: datetime, *, longest_s: float = LONGEST_WAIT_S) -> float | None:
    """Seconds to wait, above 0 and at most `longest_s`; None where the headers do not say. `now` is UTC.

    `retry-after-ms` and `x-ms-retry-after-ms` are Azure's; `retry-after` holds seconds or a date
    (https://www.rfc-editor.org/rfc/rfc9110#field.retry-after). The first that can be used counts.
    """
    told = {name: value.strip() for name, value in headers if "retry-after" in name and len(value) <= _LONGEST_TEXT}
    if not told:
        return None
    for name, unit_s in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = told.get(name, "")
        wait_s = float(text) * unit_s if _NUMBER.fullmatch(text) else 0.0
        if wait_s > 0:
            return min(wait_s, longest_s)
    wait_s = _seconds_until(told.get("retry-after", ""), now)
    return min(wait_s, longest_s) if wait_s > 0 else None


def should_retry(headers: Headers) -> bool | None:
    """What `x-should-retry` says, which OpenAI's SDKs obey; None where it says nothing."""
    return {"true": True, "false": False}.get((get(headers, "x-should-retry") or "").lower())


def _seconds_until(date: str, now: datetime) -> float:
    try:
        at = parsedate_to_datetime(date)
        return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    except (ValueError, OverflowError):
        return 0.0


def _allowance(told: dict[str, str], limit: str, now: float) -> Allowance | None:
    remaining = told.get(f"x-ratelimit-remaining-{limit}", "").strip()
    if not _COUNT.fullmatch(remaining):
        return None
    reset_s = _duration_s(told.get(f"x-ratelimit-reset-{limit}", "").strip())
    if int(remaining) == 0 and not 0 < reset_s <= _ABSURD_S:
        return None
    return Allowance(remaining=int(remaining), resets_at=now + min(reset_s, LONGEST_WAIT_S))


def _duration_s(text: str) -> float:
    """Seconds in `12`, `1.5`, `6m0s` or `120ms`; 0 where it is none of these."""
    if len(text) > _LONGEST_TEXT:
        return 0.0
    if _NUMBER.fullmatch(text):
        return float(text)
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION_PART.findall(text))
    return 0.0
