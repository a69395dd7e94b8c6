"""Count a month, kill the rollup three times, tell it of late and replaced calls, and compare with a recount.

    make bench-rollup ENTRIES=1000000

Exits with 1 where a single figure of a single row differs. What is measured is the rollup's own processes: CPU seconds, the
highest resident size, and requests to Table Storage; for a hundredth, a tenth and the whole of the entries.
"""

import argparse
import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import batched
from pathlib import Path

import httpx
import msgspec
from azure.data.tables.aio import TableServiceClient

from bench.rollup.count import LEDGER, USAGE
from bench.rollup.month import HOURS, Told, hours
from bench.rollup.recount import as_recounted, differences, recount
from bench.rollup.table_store import ACCOUNT
from devtools.azurite import Azurite
from devtools.launch import free_port
from shared.core.money.ledger import Span, UsageEntry
from shared.sinks.ledger import Ledger
from shared.storage.entities import properties_of
from shared.storage.table_wire import TRANSACTION_LIMIT, Change, submit
from shared.usage.table import UsageTable

_KEY = "bm9uZQ=="
_KILLS = (2, 1)
"""While the month is counted first, and once more is told of it."""


class Figures(msgspec.Struct, kw_only=True):
    """What counting a month took: all its processes together, those that were killed too."""

    entries: int
    rows: int = 0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    seconds: float = 0.0
    killed: int = 0
    hours: list[int] = []
    operations: Counter[str] = Counter()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench."""
    parser = argparse.ArgumentParser(prog="python -m bench.rollup", description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--hours", type=int, default=HOURS, help="that they are spread over; default: a month")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--single", action="store_true", help="not a hundredth and a tenth of it before")
    parser.add_argument("--store", choices=("local", "azurite"), default="local")
    options = parser.parse_args(arguments)
    parts = (1,) if options.single else (100, 10, 1)
    sizes = [options.entries // part for part in parts if options.entries // part >= 1000]
    print(f"store: {_STORES[options.store]}")
    print(
        f"{'entries':>9} {'rows':>8} {'CPU s':>7} {'us/entry':>8} {'peak MB':>7} {'seconds':>7}  hours counted, requests"
    )
    wrong = 0
    for size in sizes or [options.entries]:
        with _store(options.store) as connection:
            figures, found = asyncio.run(_month(connection, size, options.hours, options.seed))
        operations = ", ".join(f"{count} {name}" for name, count in sorted(figures.operations.items()))
        each = figures.cpu_s / size * 1e6
        print(
            f"{size:>9} {figures.rows:>8} {figures.cpu_s:>7.1f} {each:>8.1f} {figures.peak_mb:>7.0f} {figures.seconds:>7.1f}"
            f"  {' then '.join(map(str, figures.hours))}; {operations}; killed {figures.killed} times"
        )
        for difference in found[:10]:
            print(f"  differs: {difference}")
        wrong += len(found)
    print(
        "equal to the recount, in every figure of every row" if not wrong else f"{wrong} rows differ from the recount"
    )
    return 1 if wrong else 0


_STORES = {
    "local": "bench/rollup/table_store.py, a Table Storage in memory that speaks its protocol (--store azurite: the emulator)",
    "azurite": "Azurite",
}


@contextlib.contextmanager
def _store(kind: str) -> Iterator[str]:
    if kind == "azurite":
        with Azurite.start() as azurite:
            yield azurite.connection_string
        return
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "bench.rollup.table_store", "--port", str(port)])
    try:
        _wait_for(f"http://127.0.0.1:{port}/operations")
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        yield f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={_KEY};TableEndpoint={endpoint};"
    finally:
        server.kill()
        server.wait()


def _wait_for(url: str) -> None:
    for _ in range(200):
        with contextlib.suppress(httpx.TransportError):
            httpx.get(url)
            return
        time.sleep(0.1)
    raise TimeoutError(url)


async def _month(connection: str, entries: int, span: int, seed: int) -> tuple[Figures, list[str]]:
    figures, draw = Figures(entries=entries, operations=Counter()), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as folder:
        file = Path(folder) / "calls.ndjson"
        async with TableServiceClient.from_connection_string(connection) as tables:
            ledger, usage = Ledger(tables.get_table_client(LEDGER)), UsageTable(tables.get_table_client(USAGE))
            await asyncio.gather(ledger.prepare(), usage.prepare())
            again = await _tell_first(ledger, hours(entries, seed, span), file)
            _count(connection, figures, draw, _KILLS[0], span)
            for late in again:
                await _tell(ledger, late)
            _count(connection, figures, draw, _KILLS[1], len(again))
            rows = [row for span in Span async for row in usage.rows(span, "0", "9", None)]
            figures.rows = len(rows)
            return figures, differences(as_recounted(rows), recount(file))


async def _tell_first(ledger: Ledger, month: Iterator[list[Told]], file: Path) -> list[list[UsageEntry]]:
    """Puts in what is known first, writes what is known at last to the file, and returns what has to be told again, by hour."""
    again = []
    with file.open("wb") as out:
        for told in month:
            await _tell(ledger, [each.first for each in told if each.first])
            again.append([each.last for each in told if each.first is not each.last])
            out.write(b"".join(map(_line, told)))
    return [late for late in again if late]


def _line(told: Told) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(told.last) | {"hour": told.last.hour}) + b"\n"


async def _tell(ledger: Ledger, entries: list[UsageEntry]) -> None:
    """Writes entries of one hour as the ledger does."""
    for batch in batched(entries, TRANSACTION_LIMIT, strict=False):
        keys = ({"PartitionKey": entries[0].hour, "RowKey": entry.call_id} | properties_of(entry) for entry in batch)
        await submit(ledger._table, [Change("PATCH", entity) for entity in keys])  # noqa: SLF001 - no records, just lines
    if entries:
        await ledger.mark_dirty(entries[0].hour)


def _count(connection: str, figures: Figures, draw: random.Random, kills: int, marked: int) -> None:
    """Runs the rollup to its end, after it was killed so many times, each at another of its requests: an hour takes four."""
    for die_at in (*(draw.randrange(3, 3 + 2 * marked) for _ in range(kills)), None):
        command = [sys.executable, "-m", "bench.rollup.count", "--connection", connection]
        began = time.monotonic()
        dies = [] if die_at is None else ["--die-at", str(die_at)]
        with subprocess.Popen([*command, *dies], stdout=subprocess.PIPE) as process:
            output = process.stdout.read() if process.stdout else b""
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        figures.seconds += time.monotonic() - began
        figures.cpu_s += used.ru_utime + used.ru_stime
        if output:
            told = msgspec.json.decode(output)
            figures.hours = [*figures.hours, told["hours"]]
            figures.peak_mb = max(figures.peak_mb, told["peak_mb"])
            figures.operations.update(told["operations"])
        elif process.returncode < 0:
            figures.killed += 1
            figures.operations["before kills"] += die_at or 0
        else:
            raise SystemExit(f"the rollup failed: {process.returncode}")


if __name__ == "__main__":
    sys.exit(main())
