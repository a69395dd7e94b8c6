"""Counts by size: what percentiles over many hours are read from.

Rule: the buckets are the same everywhere and for ever, so histograms add up and their order does not matter. Sizes are whole
numbers from 0 on. Up to 32 a bucket is one number; from there each doubling has 16 buckets of equal width, so any value of a
bucket is within 1/32 (3.2 %) of its middle, and a percentile is within 3.2 % of a value that was counted. Whole-number
arithmetic only: every program finds the same bucket.
"""

import sys
from array import array
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Self, override

import msgspec

_EXACT = 32
_PER_DOUBLING = 16
_LANE = 64


class Histogram(msgspec.Struct, frozen=True):
    """How many values fell into each bucket."""

    counts: Mapping[int, int] = {}
    """By bucket; a bucket without values is not there."""

    @classmethod
    def of(cls, values: Iterable[int]) -> Self:
        """The histogram of these values."""
        counts: dict[int, int] = {}
        for value in values:
            bucket = bucket_of(value)
            counts[bucket] = counts.get(bucket, 0) + 1
        return cls(counts)

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` gave. Raises ValueError."""
        if not text:
            return cls()
        try:  # as JSON, because millions of numbers are read where much is added up
            return cls(_decoder.decode('{"' + text.replace(":", '":').replace(" ", ',"') + "}"))
        except msgspec.DecodeError as error:
            raise ValueError(f"no histogram: {text[:50]}") from error

    @override
    def __str__(self) -> str:
        """`bucket:count bucket:count`, the smallest first."""
        return " ".join(f"{bucket}:{self.counts[bucket]}" for bucket in sorted(self.counts))

    def __add__(self, other: "Histogram") -> "Histogram":
        return Histogram.sum_of((self, other))

    @classmethod
    def sum_of(cls, parts: Iterable["Histogram"]) -> Self:
        """The histogram of all values of the parts."""
        counts: dict[int, int] = {}
        for part in parts:
            for bucket, count in part.counts.items():
                counts[bucket] = counts.get(bucket, 0) + count
        return cls(counts)

    @classmethod
    def of_lanes(cls, lanes: int) -> Self:
        """The histogram of a sum of `lanes`."""
        numbers = array("Q", lanes.to_bytes(-(-lanes.bit_length() // _LANE) * (_LANE // 8), "little"))
        if sys.byteorder == "big":
            numbers.byteswap()
        return cls({bucket: count for bucket, count in enumerate(numbers) if count})

    @property
    def lanes(self) -> int:
        """The counts side by side in one whole number, 64 bits each. Such numbers add up as histograms do, at once."""
        numbers = array("Q", bytes(_LANE // 8 * (max(self.counts, default=0) + 1)))
        for bucket, count in self.counts.items():
            numbers[bucket] = count
        if sys.byteorder == "big":
            numbers.byteswap()
        return int.from_bytes(numbers.tobytes(), "little")

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(self.counts.values())

    def percentile(self, percent: int) -> int | None:
        """The nearest-rank percentile, by the middle of its bucket; None where nothing was counted."""
        rank = -(-self.total * percent // 100)
        for bucket in sorted(self.counts):
            rank -= self.counts[bucket]
            if rank <= 0:
                return middle_of(bucket)
        return None


_decoder = msgspec.json.Decoder(dict[int, int])


def bucket_of(value: int) -> int:
    """The bucket that a value falls into. What is below 0 (a clock that was set back) counts as 0."""
    if value < _EXACT:
        return max(value, 0)
    shift = value.bit_length() - 5  # five significant bits are left
    return _EXACT + (shift - 1) * _PER_DOUBLING + (value >> shift) - _PER_DOUBLING


def middle_of(bucket: int) -> int:
    """What a bucket's values are taken for."""
    if bucket < _EXACT:
        return bucket
    shift, step = divmod(bucket - _EXACT, _PER_DOUBLING)
    width = 2 << shift
    return (_PER_DOUBLING + step) * width + (width - 1) // 2


BOUND = Fraction(1, 2 * _PER_DOUBLING)
"""The most by which the middle of a bucket differs from one of its values, as a part of that value."""
