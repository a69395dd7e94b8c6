"""What was measured, as pictures beside the JSON. The rule: one picture a figure, one group of bars a scenario, on a log scale,
because subjects lie orders of magnitude apart."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.report import Cell, Report, key

_FIGURES: tuple[tuple[str, str, Callable[[Cell], float | None]], ...] = (
    ("rate", "Requests a second", lambda cell: cell.requests_per_s),
    ("added", "Added latency, p50, ms", lambda cell: cell.added_ms.p50 if cell.added_ms else None),
    ("cpu", "CPU seconds per 1,000 calls", lambda cell: cell.cpu_s_per_1000_calls),
    ("memory", "Peak memory, MB", lambda cell: cell.peak_rss_mb),
)


def draw(report: Report, out: Path) -> Sequence[Path]:
    """Writes an SVG a figure beside `out`, the JSON file. Returns where they are."""
    return [_draw(report, out.with_suffix(f".{name}.svg"), title, figure) for name, title, figure in _FIGURES]


def _draw(report: Report, path: Path, title: str, figure: Callable[[Cell], float | None]) -> Path:
    import pygal  # here, because it leaves an import hook of before Python 3.12 behind, which pytest's importer stumbles over

    loads = list(dict.fromkeys(map(key, report.cells)))
    chart = pygal.Bar(title=title, logarithmic=True, x_label_rotation=30, legend_at_bottom=True, js=[])
    chart.x_labels = [f"{name}, {connections}" for name, connections in loads]
    for subject in dict.fromkeys(cell.subject for cell in report.cells):
        values = {key(cell): figure(cell) for cell in report.cells if cell.subject == subject}
        chart.add(subject, [_positive(values.get(load)) for load in loads])
    chart.render_to_file(str(path))
    return path


def _positive(value: float | None) -> float | None:
    """None leaves a gap: a logarithm has no place for what is not above zero."""
    return value if value and value > 0 else None
