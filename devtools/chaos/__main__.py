"""`python -m devtools.chaos [--calls 500] [--seed 7] [--faults 30] [--transport event-hubs]`; exits 1 on a difference."""

import argparse
import asyncio
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from devtools.chaos.plan import Transport, outage, plan
from devtools.chaos.run import Result, run


def _table(result: Result) -> Iterator[tuple[str, object, str]]:
    """What, how many, of which kinds."""
    found, sources = result.comparison, result.comparison.sources
    faults = Counter(str(each.kind) for each in result.done)
    yield "faults", faults.total(), _kinds(faults)
    yield "calls", found.told.total(), _kinds(found.told)
    yield "while storage was away", found.told_meanwhile.total(), _kinds(found.told_meanwhile)
    yield "forwarded calls", found.forwarded, f"{found.asked} requests to upstreams"
    yield "ledger entries", found.outcomes.total(), _kinds(found.outcomes)
    yield "archived objects", found.archived, ""
    yield "analysis rows", found.analysed, f"{found.ingested} ingested"
    yield "lost", len(found.lost), ""
    yield "doubled", len(found.doubled), ""
    yield "wrong token counts", len(found.wrong), ""
    yield "incomplete", found.incomplete.total(), _kinds(found.incomplete)
    yield "estimated", found.estimated.total(), _kinds(found.estimated)
    yield "drained", sources["drained"], ""
    yield "events spilled", _logged(r"events took the other way", result.log), "to Blob, for the transport was away"
    yield "events outboxed", _logged(r"sink failed sink=\w+", result.log), "for a sink was away or did not come back"
    yield "not explained", len(found.differences), ""


def _logged(what: str, log: str) -> int:
    """Events that the host speaks of in lines of that kind."""
    return sum(map(int, re.findall(rf"{what} events=(\d+)", log)))


def _rate(result: Result) -> str:
    return f"{result.comparison.told.total() / result.calling_seconds:.0f} calls/s while they were made"


def _kinds(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda each: -each[1]))


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m devtools.chaos", description="Break everything, lose nothing.")
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--faults", type=int, help="default: one for each 16 calls, 60 at the most; each takes some seconds"
    )
    parser.add_argument(
        "--outage", type=float, metavar="S", help="no fault but this: the storage is gone for S seconds"
    )
    parser.add_argument("--transport", type=Transport, choices=list(Transport), default=Transport.STORAGE_QUEUE)
    parser.add_argument("--log", type=Path, help="where to keep what the host printed")
    given = parser.parse_args()
    planned = plan(given.calls, given.seed, given.transport, given.faults)
    if given.outage:
        planned = outage(planned, given.outage)
    result = asyncio.run(run(planned, given.seed, given.transport))
    print(f"chaos: {given.calls} calls, seed {given.seed}, {given.transport}, {result.seconds:.0f} s, {_rate(result)}")
    for name, count, kinds in _table(result):
        print(f"  {name:<24}{count:>7}  {kinds}")
    for each in result.done if result.comparison.differences else ():
        print(f"    {each.began:%H:%M:%S.%f} to {each.ended:%H:%M:%S.%f}  {each.kind}")
    for difference in result.comparison.differences:
        print(f"  ! {difference}")
    if given.log:
        given.log.write_text(result.log)
    return 1 if result.comparison.differences else 0


sys.exit(_main())
