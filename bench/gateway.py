"""`make bench`, or `python -m bench.gateway [--calls N] [--peers] [--only NAME] [--out FILE]`: the gateway beside others.

The rule: subjects run one at a time, on the same upstream and the same calls, so that only the subject differs.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from bench import meter, plot, report, scenarios, subjects
from bench.load import Load, Measured
from bench.report import Cell, Report
from bench.scenarios import Scenario
from bench.subjects import NotHere, Running, Subject, Upstream
from devtools.azurite import ROOT, Azurite
from devtools.processes import ChildError

_DEFAULT_CALLS = 600
_MOST_WARM_UP_CALLS = 64
_SETTLE_S = 30.0
_LOAD_TIMEOUT_S = 600.0
_VERSIONS = ("azure-functions-runtime", "uvicorn", "httpx", "msgspec")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table and writes the JSON. Returns 1 where a call failed that was not a peer's."""
    options = _parse(arguments)
    began_at, began, busy = datetime.now(UTC), time.monotonic(), os.getloadavg()
    skipped: dict[str, str] = {}
    cells = list(_all_cells(options, skipped))
    outcome = Report(
        began_at=began_at,
        seconds=time.monotonic() - began,
        cores=os.cpu_count() or 0,
        load_average=busy,
        versions={"python": sys.version.split()[0]} | {name: version(name) for name in _VERSIONS},
        skipped=skipped,
        cells=report.with_added(cells),
    )
    out = options.out or subjects.WORK / f"{began_at:%Y%m%dT%H%M%SZ}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(outcome)))
    print(report.table(outcome))
    print(f"\n{outcome.seconds:.0f} s; all numbers: {out}", *plot.draw(outcome, out), sep="\n")
    peers = {peer.name for peer in subjects.PEERS}
    return 1 if any(cell.measured.failed and cell.subject not in peers for cell in cells) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description="Tollgate beside others, in one run.")
    parser.add_argument(
        "--calls", type=int, default=_DEFAULT_CALLS, help="of the busiest scenario; default: %(default)s"
    )
    parser.add_argument("--peers", action="store_true", help="LiteLLM and Portkey too, installed into .local/bench")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this subject; repeatable")
    parser.add_argument("--scenario", action="append", default=[], metavar="NAME", help="only these loads; repeatable")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="where the JSON goes; default: .local/bench/<time>.json"
    )
    return parser.parse_args(arguments)


def _all_cells(options: argparse.Namespace, skipped: dict[str, str]) -> Iterator[Cell]:
    """Every subject under every scenario; those that cannot be had are named in `skipped`."""
    chosen = [*subjects.SUBJECTS, *(subjects.PEERS if options.peers else ())]
    chosen = [subject for subject in chosen if not options.only or subject.name in options.only]
    with Azurite.start() as azurite, subjects.simulator(azurite.connection_string) as direct:
        upstream = Upstream(port=direct.port, storage=azurite.connection_string)
        baseline = Subject(
            name=report.BASELINE, what="straight to the simulator", start=lambda _: contextlib.nullcontext(direct)
        )
        for subject in (baseline, *chosen):
            _say(f"{subject.name}: {subject.what}")
            try:
                with subject.start(upstream) as running:
                    for scenario in scenarios.scenarios(max(1, round(options.calls * subject.share))):
                        is_asked = not options.scenario or scenario.name in options.scenario
                        if is_asked and (subject.asks_upstream or not scenario.paced):
                            yield _cell(subject, running, scenario)
            except (NotHere, ChildError) as error:
                skipped[subject.name] = str(error)
                _say(f"skipped {subject.name}: {error}")


def _cell(subject: Subject, running: Running, scenario: Scenario) -> Cell:
    warm_up = min(_MOST_WARM_UP_CALLS, scenario.calls)
    _load(running, msgspec.structs.replace(scenario, calls=warm_up, paced=False, ramp_s=0.0))
    meter.settled(running.session, running.has_work, _SETTLE_S)
    before = meter.cpu_s(running.session)
    measured = _load(running, scenario)
    is_settled = meter.settled(running.session, running.has_work, _SETTLE_S)
    after = meter.cpu_s(running.session)
    spent = None if before is None or after is None or not measured.calls else after - before
    if measured.first_failure:
        _say(
            f"{subject.name}, {scenario.name}: {measured.failed} calls failed; the first: {measured.first_failure.strip()}"
        )
    return Cell(
        subject=subject.name,
        scenario=scenario,
        measured=measured,
        requests_per_s=measured.calls / measured.seconds,
        cpu_s_per_1000_calls=None if spent is None else 1000 * spent / measured.calls,
        peak_rss_mb=meter.peak_rss_mb(running.session),
        is_settled=is_settled,
    )


def _load(running: Running, scenario: Scenario) -> Measured:
    load = Load(
        port=running.port,
        path=scenario.path,
        headers={**running.headers, "x-simulator-pace": scenario.pace},
        body=scenario.body,
        connections=scenario.connections,
        calls=scenario.calls,
        ramp_s=scenario.ramp_s,
    )
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=msgspec.json.encode(load),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        timeout=_LOAD_TIMEOUT_S,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Measured)


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
