"""The rollup's bench tells a difference, and finds none: a day in small, killed three times."""

from decimal import Decimal

import pytest

from bench.rollup.__main__ import main
from bench.rollup.recount import as_recounted, differences
from shared.core.money.histogram import Histogram
from shared.core.money.ledger import UsageHour, UsageKey

KEY = UsageKey(client_id="a", cost_center="", operation="o", model="m", model_served="", deployment="")
ROW = UsageHour(hour="2026100100", key=KEY, calls=1, cost=Decimal("0.1"), duration_ms_histogram=Histogram.of([5]))


def test_what_is_counted_is_what_a_recount_finds(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the whole of it: the rollup as a process, killed, told of late and replaced calls, and recounted by other means."""
    assert main(["--entries", "1200", "--hours", "8"]) == 0
    printed = capsys.readouterr().out
    assert "killed 3 times" in printed
    assert "equal to the recount" in printed


@pytest.mark.parametrize(
    "other",
    [
        [],
        [UsageHour(hour="2026100101", key=KEY, calls=1, cost=Decimal("0.1"), duration_ms_histogram=Histogram.of([5]))],
        [UsageHour(hour="2026100100", key=KEY, calls=2, cost=Decimal("0.1"), duration_ms_histogram=Histogram.of([5]))],
        [
            UsageHour(
                hour="2026100100", key=KEY, calls=1, cost=Decimal("0.10000001"), duration_ms_histogram=Histogram.of([5])
            )
        ],
        [UsageHour(hour="2026100100", key=KEY, calls=1, cost=Decimal("0.1"), duration_ms_histogram=Histogram.of([6]))],
    ],
)
def test_any_figure_that_differs_is_told(other: list[UsageHour]) -> None:
    assert differences(as_recounted([ROW]), as_recounted([ROW])) == []
    assert differences(as_recounted(other), as_recounted([ROW]))
