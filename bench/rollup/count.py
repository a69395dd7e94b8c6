"""One run of the rollup, as a process that can be killed: at the request of a given number it kills itself."""

import argparse
import asyncio
import os
import signal
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any, override

import msgspec
from azure.data.tables.aio import TableServiceClient

from bench.rollup.month import END
from shared.core.money.prices import sheet_of
from shared.sinks.ledger import Ledger
from shared.storage.entities import TableTransport
from shared.usage import rollup
from shared.usage.shipped_prices import shipped_prices
from shared.usage.table import UsageTable

LEDGER, USAGE = "benchLedger", "benchUsage"


class Counting(TableTransport):
    """Counts the requests, and ends the process at one of them."""

    def __init__(self, die_at: int | None) -> None:
        super().__init__(use_env_settings=False)  # as the app does where no proxy is set
        self.sent: Counter[str] = Counter()
        self._die_at = die_at

    @override
    async def send(self, request: Any, **options: Any) -> Any:
        is_batch = request.url.partition("?")[0].endswith("$batch")
        self.sent["transactions" if is_batch else "reads" if request.method == "GET" else "single writes"] += 1
        if self.sent.total() == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().send(request, **options)


async def count(connection: str, die_at: int | None) -> None:
    """Counts what is marked."""
    transport = Counting(die_at)
    async with TableServiceClient.from_connection_string(connection, transport=transport) as tables:
        hours = await rollup.run(
            Ledger(tables.get_table_client(LEDGER)),
            UsageTable(tables.get_table_client(USAGE)),
            _not_archived,
            sheet_of((), shipped_prices(), "USD"),
            now=END + timedelta(hours=1),
            incomplete_after=timedelta(minutes=35),
        )
    sys.stdout.buffer.write(
        msgspec.json.encode({"hours": hours, "operations": dict(transport.sent), "peak_mb": _peak_mb()})
    )


def _peak_mb() -> float:
    """The highest resident size of this program. What the system tells a parent has the parent's own size in it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


async def _not_archived(call_id: str) -> bool:  # noqa: ARG001 - the archive is not part of this bench
    return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--connection", required=True)
    parser.add_argument("--die-at", type=int)
    asked = parser.parse_args()
    asyncio.run(count(asked.connection, asked.die_at))
