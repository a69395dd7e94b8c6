"""What upstreams say about their limits: a hint where it makes sense, nothing where it does not."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.headers import Headers
from shared.core.routing.upstream_limits import LONGEST_WAIT_S, Allowance, Allowances, retry_after_s, should_retry

NOW = datetime(2025, 11, 21, 10, 0, 0, tzinfo=UTC)

RETRY_AFTER: dict[str, tuple[Headers, float | None]] = {
    "none": ((("x-request-id", "1"),), None),
    "seconds": ((("retry-after", "7"),), 7.0),
    "seconds with a fraction": ((("retry-after", "0.5"),), 0.5),
    "spaces around": ((("retry-after", " 7 "),), 7.0),
    "milliseconds are more exact": ((("retry-after", "2"), ("retry-after-ms", "1250")), 1.25),
    "Azure's other name for them": ((("retry-after", "2"), ("x-ms-retry-after-ms", "1250")), 1.25),
    "milliseconds that cannot be used": ((("retry-after-ms", "soon"), ("retry-after", "2")), 2.0),
    "milliseconds that are 0": ((("retry-after-ms", "0"), ("retry-after", "2")), 2.0),
    "a date": ((("retry-after", "Fri, 21 Nov 2025 10:00:30 GMT"),), 30.0),
    "a date in the old form": ((("retry-after", "Friday, 21-Nov-25 10:00:30 GMT"),), 30.0),
    "a date with another zone": ((("retry-after", "Fri, 21 Nov 2025 11:00:30 +0100"),), 30.0),
    "a date whose zone is not known": ((("retry-after", "Fri, 21 Nov 2025 10:00:30 -0000"),), 30.0),
    "a date that has passed": ((("retry-after", "Fri, 21 Nov 2025 09:59:59 GMT"),), None),
    "a date far away": ((("retry-after", "Sat, 21 Nov 2026 10:00:30 GMT"),), LONGEST_WAIT_S),
    "a date that does not exist": ((("retry-after", "Fri, 31 Feb 2025 10:00:30 GMT"),), None),
    "a day": ((("retry-after", "86400"),), LONGEST_WAIT_S),
    "absurd": ((("retry-after", "9" * 60),), LONGEST_WAIT_S),
    "longer than any number": ((("retry-after", "9" * 5000),), None),
    "zero": ((("retry-after", "0"),), None),
    "negative": ((("retry-after", "-1"),), None),
    "infinite": ((("retry-after", "inf"),), None),
    "not a number": ((("retry-after", "nan"),), None),
    "an exponent": ((("retry-after", "1e9"),), None),
    "Python's own numbers": ((("retry-after", "1_0"),), None),
    "other digits": ((("retry-after", "٣"),), None),
    "empty": ((("retry-after", ""),), None),
    "words": ((("retry-after", "after lunch"),), None),
}


@pytest.mark.parametrize(("headers", "expected"), RETRY_AFTER.values(), ids=RETRY_AFTER.keys())
def test_a_retry_after_is_a_sensible_time_or_none(headers: Headers, expected: float | None) -> None:
    assert retry_after_s(headers, NOW) == (None if expected is None else pytest.approx(expected))


def test_the_longest_wait_can_be_chosen() -> None:
    assert retry_after_s((("retry-after", "90"),), NOW, longest_s=120) == 90


@given(text=st.text(max_size=80) | st.from_regex(r"[A-Za-z]{3}, [0-9]{1,3} [A-Za-z]{3} [0-9]{1,6} [0-9:]{1,9} .{0,5}"))
def test_no_retry_after_does_harm(text: str) -> None:
    wait_s = retry_after_s((("retry-after", text), ("retry-after-ms", text)), NOW)
    assert wait_s is None or 0 < wait_s <= LONGEST_WAIT_S


SHOULD_RETRY: dict[str, tuple[Headers, bool | None]] = {
    "yes": ((("x-should-retry", "true"),), True),
    "no": ((("x-should-retry", "False"),), False),
    "not said": ((), None),
    "neither": ((("x-should-retry", "maybe"),), None),
}


@pytest.mark.parametrize(("headers", "expected"), SHOULD_RETRY.values(), ids=SHOULD_RETRY.keys())
def test_x_should_retry_is_yes_no_or_not_said(headers: Headers, expected: object) -> None:
    assert should_retry(headers) is expected


def limits(remaining: str | None, reset: str | None) -> Headers:
    lines = (("x-ratelimit-remaining-tokens", remaining), ("x-ratelimit-reset-tokens", reset))
    return tuple((name, value) for name, value in lines if value is not None)


ALLOWANCES = {  # remaining, reset, what is known at 100 s
    "some left": ("7", "2s", Allowance(remaining=7, resets_at=102)),
    "some left, no word of when": ("7", None, Allowance(remaining=7, resets_at=100)),
    "none left": ("0", "2s", Allowance(remaining=0, resets_at=102)),
    "plain seconds": ("0", "12", Allowance(remaining=0, resets_at=112)),
    "with a fraction": ("0", "1.5s", Allowance(remaining=0, resets_at=101.5)),
    "milliseconds": ("0", "250ms", Allowance(remaining=0, resets_at=100.25)),
    "minutes and seconds": ("0", "0m20s", Allowance(remaining=0, resets_at=120)),
    "hours count as a minute": ("0", "7h12m0s", Allowance(remaining=0, resets_at=160)),
    "-1 is unknown": ("-1", "2s", None),
    "-1 without a time": ("-1", None, None),
    "0 without a time is unknown": ("0", None, None),
    "0 with an empty time": ("0", "", None),
    "0 with no time to wait": ("0", "0s", None),
    "0 with a negative time": ("0", "-5s", None),
    "0 with a time that is none": ("0", "soon", None),
    "0 with another unit": ("0", "3 fortnights", None),
    "0 with an absurd time": ("0", "1700000000", None),
    "0 with a time without end": ("0", "9" * 5000, None),
    "0 for more than a day": ("0", "2d", None),
    "missing": (None, None, None),
    "a time alone": (None, "2s", None),
    "not a number": ("many", "2s", None),
    "not a whole number": ("0.0", "2s", None),
    "absurdly many": ("9" * 5000, "2s", None),
    "empty": ("", "", None),
}


@pytest.mark.parametrize(("remaining", "reset", "expected"), ALLOWANCES.values(), ids=ALLOWANCES.keys())
def test_what_is_not_said_sensibly_is_unknown(
    remaining: str | None, reset: str | None, expected: Allowance | None
) -> None:
    known = Allowances().after(limits(remaining, reset), 100.0)
    assert known == Allowances(tokens=expected)
    assert known.is_exhausted(100.0) is (expected is not None and expected.remaining == 0)


def test_a_limit_is_used_up_only_until_it_is_reset() -> None:
    known = Allowances().after(limits("0", "2s"), 100.0)
    assert known.is_exhausted(101.9)
    assert not known.is_exhausted(102.0)


def test_one_limit_that_is_used_up_is_enough() -> None:
    headers = (*limits("5000", "1s"), ("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "1s"))
    assert Allowances().after(headers, 100.0).is_exhausted(100.0)


def test_what_an_answer_does_not_say_stays_as_it_was() -> None:
    known = Allowances().after(limits("0", "20s"), 100.0)
    for silent in ((), limits("-1", None), limits(None, None), (("x-ratelimit-remaining-requests", "9"),)):
        assert known.after(silent, 101.0).is_exhausted(102.0)
    assert not known.after(limits("1", None), 101.0).is_exhausted(102.0)


@given(remaining=st.text(max_size=20), reset=st.text(max_size=20) | st.from_regex(r"([0-9.]{1,9}(ms|s|m|h|d)){1,5}"))
def test_no_header_makes_a_deployment_look_used_up_for_long(remaining: str, reset: str) -> None:
    assert not Allowances().after(limits(remaining, reset), 100.0).is_exhausted(100.0 + LONGEST_WAIT_S)
    assert not Allowances().after(limits("0", reset), 100.0).is_exhausted(100.0 + LONGEST_WAIT_S)
