"""Histograms: what percentiles over many hours are read from."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.money.histogram import BOUND, Histogram, bucket_of, middle_of

sizes = st.integers(0, 2**40)
values = st.lists(sizes, max_size=200)


@given(sizes)
def test_every_value_is_near_the_middle_of_its_bucket(value: int) -> None:
    """Guards the error bound that is promised."""
    assert abs(middle_of(bucket_of(value)) - value) <= BOUND * value


@given(st.integers(0, 1000))
def test_buckets_follow_each_other_and_hold_their_middle(bucket: int) -> None:
    assert bucket_of(middle_of(bucket)) == bucket
    assert middle_of(bucket) < middle_of(bucket + 1)


@given(sizes, sizes)
def test_a_greater_value_has_no_smaller_bucket(one: int, other: int) -> None:
    assert (one <= other) <= (bucket_of(one) <= bucket_of(other))


@given(values, values)
def test_histograms_add_up_to_the_histogram_of_all(one: list[int], other: list[int]) -> None:
    assert Histogram.of(one) + Histogram.of(other) == Histogram.of(other + one)


@given(values)
def test_a_histogram_comes_back_from_its_text(some: list[int]) -> None:
    histogram = Histogram.of(some)
    assert Histogram.parse(str(histogram)) == histogram
    assert histogram.total == len(some)
    assert histogram.counts == Counter(map(bucket_of, some))


@given(values, values)
def test_lanes_add_up_as_histograms_do(one: list[int], other: list[int]) -> None:
    lanes = Histogram.of(one).lanes + Histogram.of(other).lanes
    assert Histogram.of_lanes(lanes) == Histogram.of(one + other)


@pytest.mark.parametrize("text", ["1", "1:", "1:2:3", "a:1", "1:2,3:4", "1:2  3:4", "1:null"])
def test_another_text_is_no_histogram(text: str) -> None:
    with pytest.raises(ValueError, match="no histogram"):
        Histogram.parse(text)


@given(st.lists(sizes, min_size=1, max_size=200), st.sampled_from([1, 50, 95, 99, 100]))
def test_a_percentile_is_near_the_nearest_rank(some: list[int], percent: int) -> None:
    exact = sorted(some)[-(-len(some) * percent // 100) - 1]
    found = Histogram.of(some).percentile(percent)
    assert found is not None
    assert abs(found - exact) <= BOUND * exact


def test_nothing_has_no_percentile_and_a_clock_that_was_set_back_counts_as_zero() -> None:
    assert Histogram().percentile(50) is None
    assert Histogram.of([-5]).percentile(50) == 0
