"""CSV that a spreadsheet may open."""

import csv
import io
from decimal import Decimal

import pytest

from shared.core.reports.csv_text import csv_line

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "\uff1d1+1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_never_becomes_a_formula(text: str) -> None:
    [[cell]] = csv.reader(io.StringIO(csv_line([text]).decode(), newline=""))
    assert cell == f"'{text}"


def test_numbers_are_written_as_they_are() -> None:
    assert csv_line([-1, Decimal("-0.5"), 0, None, True]) == b"-1,-0.5,0,,True\r\n"


TEXTS = ["plain", "a,b", 'say "no"', "two\r\nlines", "", " spaced ", "Zürich \u2028 東京", "a=b", "1-2"]


def test_what_is_written_is_what_is_read() -> None:
    line = csv_line(TEXTS).decode()
    assert next(csv.reader(io.StringIO(line, newline=""))) == TEXTS
