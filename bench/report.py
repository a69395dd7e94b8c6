"""What was measured, as a table and as JSON. The rule: every number stands beside its ratio to one of the same run."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from types import SimpleNamespace

import msgspec

from bench.load import Measured, Percentiles
from bench.scenarios import Scenario

BASELINE = "direct"
HOST_ALONE = "empty function"
_NOTE = (
    "Measured on one machine that other work may share, with the load generator, the upstream and the storage emulator on it:\n"
    "only ratios within one scenario of one run mean anything. 'added' is over the same calls straight to the upstream, and CPU\n"
    "is that of the subject's own processes until they are quiet again, recording to all sinks included. Peers record nothing."
)

_COLUMNS = {
    "calls": 6, "req/s": 8, "x direct": 10, "p50": 9, "p95": 9, "p99": 9, "added p50": 11, "p99 ": 9,
    "byte p50": 10, "p99  ": 9, "token p50": 11, "p99   ": 9, "gap max": 9, "CPU s/1000": 12, "MB": 6, "failed": 8,
}  # fmt: skip
"""Title and width. Times are in ms; `byte` and `token` are what is added to the time to the first of them."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One subject under one scenario."""

    subject: str
    scenario: Scenario
    measured: Measured
    requests_per_s: float
    added_ms: Percentiles | None = None
    """Latency over the baseline's, percentile by percentile."""
    added_first_byte_ms: Percentiles | None = None
    added_first_token_ms: Percentiles | None = None
    cpu_s_per_1000_calls: float | None
    peak_rss_mb: float | None
    """Of the subject so far: scenarios run in order in one process."""
    is_settled: bool
    """Whether the subject was quiet again when its CPU time was read; where not, work was left."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    began_at: datetime
    seconds: float
    cores: int
    load_average: tuple[float, float, float]
    """At the beginning, of what else the machine did."""
    versions: dict[str, str]
    skipped: dict[str, str]
    """Subjects that were not measured, and why."""
    cells: tuple[Cell, ...]


def with_added(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells with what each adds to the baseline."""
    base = {key(cell): cell.measured for cell in cells if cell.subject == BASELINE}
    return tuple(_added(cell, base[key(cell)]) if key(cell) in base else cell for cell in cells)


def table(report: Report) -> str:
    """The whole report, to be read."""
    lines = [_NOTE, f"{report.cores} cores, load average at the beginning {report.load_average[0]:.1f}."]
    lines += [f"Skipped: {name}: {why}" for name, why in report.skipped.items()]
    for load in dict.fromkeys(key(cell) for cell in report.cells):
        lines += ["", *_block([cell for cell in report.cells if key(cell) == load])]
    return "\n".join(lines)


def _block(cells: Sequence[Cell]) -> Iterator[str]:
    scenario = cells[0].scenario
    yield f"{scenario.name}, {scenario.connections} connection{'s' if scenario.connections > 1 else ''}"
    yield f"  {'':18}" + "".join(f"{name:>{width}}" for name, width in _COLUMNS.items())
    base = next((cell for cell in cells if cell.subject == BASELINE), None)
    for cell in cells:
        yield _row(cell, base)


def _row(cell: Cell, base: Cell | None) -> str:
    measured, latency = cell.measured, _texts(cell.measured.latency_ms)
    ratio = cell.requests_per_s / base.requests_per_s if base and base.requests_per_s else None
    added, byte, token = _texts(cell.added_ms), _texts(cell.added_first_byte_ms), _texts(cell.added_first_token_ms)
    gap = _texts(measured.longest_gap_ms if cell.scenario.paced else None)
    cpu = _text(cell.cpu_s_per_1000_calls) + ("" if cell.is_settled else "+")
    texts = (
        measured.calls, _text(cell.requests_per_s, 0), _text(ratio), latency.p50, latency.p95, latency.p99, added.p50, added.p99,
        byte.p50, byte.p99, token.p50, token.p99, gap.max, cpu, _text(cell.peak_rss_mb, 0), measured.failed,
    )  # fmt: skip
    return f"  {cell.subject:18}" + "".join(
        f"{text:>{width}}" for text, width in zip(texts, _COLUMNS.values(), strict=True)
    )


def _texts(percentiles: Percentiles | None) -> SimpleNamespace:
    return SimpleNamespace(
        **{name: _text(getattr(percentiles, name, None)) for name in Percentiles.__struct_fields__},
    )


def _text(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def key(cell: Cell) -> tuple[str, int]:
    """Which cells stand beside each other."""
    return cell.scenario.name, cell.scenario.connections


def _added(cell: Cell, base: Measured) -> Cell:
    measured = cell.measured
    return msgspec.structs.replace(
        cell,
        added_ms=_over(measured.latency_ms, base.latency_ms),
        added_first_byte_ms=_over(measured.first_byte_ms, base.first_byte_ms),
        added_first_token_ms=_over(measured.first_token_ms, base.first_token_ms),
    )


def _over(one: Percentiles | None, other: Percentiles | None) -> Percentiles | None:
    if one is None or other is None:
        return None
    return Percentiles(
        **{name: round(getattr(one, name) - getattr(other, name), 3) for name in Percentiles.__struct_fields__}
    )
