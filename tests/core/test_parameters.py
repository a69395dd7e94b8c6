"""The query of a URL, read into values."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from shared.core.errors import BadRequest
from shared.core.parameters import Parameters, whole_hours

NOW = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)

LISTS = {
    "commas": ("a=1,2", ("1", "2")),
    "repeated": ("a=1&a=2", ("1", "2")),
    "with brackets, as the SDKs write lists": ("a%5B%5D=1&a[]=2", ("1", "2")),
    "spaces and empty ones": ("a=+1+,,+2,&a=", ("1", "2")),
    "none": ("b=1", ()),
}


@pytest.mark.parametrize(("query", "expected"), LISTS.values(), ids=LISTS.keys())
def test_a_list_may_be_written_in_every_way(query: str, expected: tuple[str, ...]) -> None:
    assert Parameters.of(query).listed("a") == expected


def test_the_last_of_several_values_counts_and_an_empty_one_is_none() -> None:
    assert Parameters.of("a=1&a=2").text("a") == "2"
    assert Parameters.of("a=").text("a") is None


INSTANTS = {
    "UTC where it names no zone": ("2026-11-01T02:03", "2026-11-01T02:03"),
    "a zone": ("2026-11-01T02:03%2B02:00", "2026-11-01T00:03"),
    "a zone whose + was not escaped": ("2026-11-01T02:03+02:00", "2026-11-01T00:03"),
    "a date": ("2026-11-01", "2026-11-01T00:00"),
}


@pytest.mark.parametrize(("text", "expected"), INSTANTS.values(), ids=INSTANTS.keys())
def test_an_instant_is_utc(text: str, expected: str) -> None:
    assert Parameters.of(f"a={text}").instant("a", NOW) == datetime.fromisoformat(expected + "+00:00")


REFUSED: dict[str, tuple[str, Callable[[Parameters], object]]] = {
    "no instant": ("a=soon", lambda asked: asked.instant("a", NOW)),
    "no number": ("a=many", lambda asked: asked.number("a", least=1, most=9, default=1)),
    "another script's digits": ("a=%D9%A3", lambda asked: asked.number("a", least=1, most=9, default=1)),
    "too small a number": ("a=0", lambda asked: asked.number("a", least=1, most=9, default=1)),
    "too large a number": ("a=10", lambda asked: asked.number("a", least=1, most=9, default=1)),
    "a number below zero": ("a=-0.5", lambda asked: asked.decimal("a", default=1.0)),
    "no decimal": ("a=nan", lambda asked: asked.decimal("a", default=1.0)),
    "a word that is none of these": ("a=x", lambda asked: asked.chosen("a", ("y", "z"), "y")),
    "a name that nobody knows": ("a=1&b=2", lambda asked: asked.only("b", "c")),
}


@pytest.mark.parametrize(("query", "read"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_read_is_refused_by_name(query: str, read: Callable[[Parameters], object]) -> None:
    with pytest.raises(BadRequest) as caught:
        read(Parameters.of(query))
    assert caught.value.param == "a"


def test_a_span_is_widened_to_whole_hours() -> None:
    start, end = whole_hours(NOW, NOW)
    assert (start.hour, start.minute, end.hour, end.minute) == (12, 0, 13, 0)
    assert whole_hours(start, end) == (start, end)
