"""A Data Explorer that has what queries/ ships, and sinks that write to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from devtools.kusto import KustoServer
from shared.core.recording.archive import ArchivedCall
from shared.sinks.data_explorer import DataExplorer

QUERIES = Path(__file__).parents[1] / "queries"
SCHEMA = tuple(QUERIES / name for name in ("tables.kql", "views.kql", "functions.kql"))
EXAMPLES = sorted((QUERIES / "examples").glob("*.kql"))


@asynccontextmanager
async def cluster(storage: str | None = None) -> AsyncIterator[KustoServer]:
    """With no calls yet. Queued ingestion works where there is a Storage account for it to pass through."""
    async with KustoServer(storage_connection_string=storage) as server:
        for file in SCHEMA:
            server.manage(f".execute database script <|\n{file.read_text(encoding='utf-8')}")
        yield server


@asynccontextmanager
async def explorer(uri: str, *archived: ArchivedCall, managed: bool = True) -> AsyncIterator[DataExplorer]:
    """A sink that finds `archived` where it looks for the bodies of a call."""
    calls = {call.record.call_id: call for call in archived}

    async def read(call_id: str) -> ArchivedCall | None:
        return calls.get(call_id)

    sink = DataExplorer(uri, "tollgate", read, managed=managed)
    yield sink
    await sink.close()
