"""The benchmark runs end to end, and its JSON has what it promises. No time is asserted: the machine is not ours alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import gateway, imports, recorder, report
from bench.load import Measured, Percentiles
from bench.scenarios import Scenario, scenarios

CALLS = 20
FIELDS = {
    "calls", "failed", "first_failure", "seconds", "cpu_s", "response_bytes", "latency_ms", "first_byte_ms", "first_token_ms",
    "longest_gap_ms",
}  # fmt: skip


def cell(subject: str, ms: float, *, calls: int = 10) -> report.Cell:
    times = Percentiles(p50=ms, p95=2 * ms, p99=3 * ms, max=4 * ms)
    measured = Measured(
        calls=calls,
        failed=0,
        first_failure=None,
        seconds=1.0,
        cpu_s=0.1,
        response_bytes=1200,
        latency_ms=times,
        first_byte_ms=times,
        first_token_ms=None,
        longest_gap_ms=times,
    )
    return report.Cell(
        subject=subject,
        scenario=Scenario(name="JSON", connections=1, calls=calls),
        measured=measured,
        requests_per_s=calls / measured.seconds,
        cpu_s_per_1000_calls=None,
        peak_rss_mb=None,
        is_settled=True,
    )


@pytest.mark.timeout(300)
def test_a_run_measures_every_subject_under_every_scenario_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    only = ["--only", "empty function", "--only", "bare durable", "--scenario", "JSON", "--scenario", "SSE paced"]
    assert gateway.main(["--calls", str(CALLS), "--out", str(out), *only]) == 0
    document = json.loads(out.read_bytes())
    cells: list[dict[str, Any]] = document["cells"]
    asked = [scenario for scenario in scenarios(CALLS) if scenario.name in ("JSON", "SSE paced")]
    unpaced, paced = asked[:-1], asked[-1:]
    assert [(each["subject"], each["scenario"]["name"], each["scenario"]["connections"]) for each in cells] == [
        (subject, scenario.name, scenario.connections)
        for subject in ("direct", "empty function", "bare durable")
        for scenario in (*unpaced, *(() if subject == "empty function" else paced))
    ]
    for each in cells:
        assert each["measured"].keys() == FIELDS
        assert each["measured"]["calls"] == each["scenario"]["calls"]
        assert each["measured"]["failed"] == 0
        assert each["added_ms"].keys() == {"p50", "p95", "p99", "max"}
    assert document["skipped"] == {}
    table = capsys.readouterr().out
    assert "only ratios within one scenario of one run mean anything" in table
    assert "bare durable" in table
    for figure in ("rate", "added", "cpu", "memory"):
        assert "bare durable" in (tmp_path / f"bench.{figure}.svg").read_text()


def test_what_a_subject_adds_is_told_over_the_baseline_of_the_same_scenario() -> None:
    direct, tollgate = report.with_added([cell("direct", 1.0), cell("Tollgate", 3.5)])
    assert direct.added_ms == Percentiles(p50=0, p95=0, p99=0, max=0)
    assert tollgate.added_ms == Percentiles(p50=2.5, p95=5, p99=7.5, max=10)
    assert tollgate.added_first_token_ms is None


@pytest.mark.parametrize("scenario", scenarios(CALLS), ids=lambda scenario: f"{scenario.name}-{scenario.connections}")
def test_a_request_has_its_promised_size(scenario: Scenario) -> None:
    assert len(scenario.body) == scenario.request_bytes
    assert json.loads(scenario.body).get("stream", False) is scenario.stream


async def test_what_the_recorder_took_is_told_for_each_size() -> None:
    assert [(each.calls, each.batch) async for each in recorder.grown(8, (1, 4))] == [
        (calls, batch) for batch in (1, 4) for calls in (2, 4, 8)
    ]


@pytest.mark.parametrize("byte_code", [True, False])
def test_a_module_is_loaded_in_a_process_of_its_own(tmp_path: Path, byte_code: bool) -> None:
    loaded = imports.loaded("json", tmp_path, byte_code=byte_code, times=1)
    assert loaded.seconds > 0
    assert loaded.cpu_s > 0
    assert any(tmp_path.rglob("*.pyc")) is byte_code
