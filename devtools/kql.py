"""KQL over the archive, with no cluster: the queries that run on Azure Data Explorer, run here by DuckDB.

    python -m devtools.kql                                  a prompt
    python -m devtools.kql queries/examples/chargeback.kql  a file's query
    python -m devtools.kql --query 'Calls | count'          this query; --json prints a line of JSON per row
    python -m devtools.kql --serve 8082                     the Kusto REST API on 127.0.0.1, for Kusto clients

Rule: the archive is read through the same rows, table, view and functions that Data Explorer gets (kusto_rows.py,
queries/). What was read is kept under .local/kql, so that each call is fetched once; what is no longer in the archive is no
longer answered. With the storage away, what was read before is answered.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from itertools import batched
from pathlib import Path
from typing import Any

import msgspec
from azure.core.exceptions import AzureError
from azure.storage.blob.aio import BlobServiceClient, ContainerClient
from duckdb_kql.server import Result

from devtools.azurite import ROOT
from devtools.kusto.server import KustoServer
from devtools.kusto.store import KustoError, Store
from devtools.launch import LOCAL
from devtools.run import RUN_INFO, RunInfo
from shared.core import call_ids
from shared.core.recording.kusto_rows import VERSION, Row, json_lines, row_of
from shared.sinks.archive import Archive

TABLE = "CallRecords"
SCHEMA = tuple(ROOT / "queries" / name for name in ("tables.kql", "views.kql", "functions.kql"))
AT_ONCE = 16
"""Calls that are fetched side by side."""
TO_A_FILE = 2000
REFRESH_S = 5.0
WIDEST = 60
"""Characters of a cell on a terminal."""


class Analysis:
    """The archive as a database. `folder` keeps what was read of it, a file of rows per `TO_A_FILE` calls at most."""

    def __init__(self, folder: Path) -> None:
        self.store = Store()
        for file in SCHEMA:
            self.store.manage(f".execute database script <|\n{file.read_text(encoding='utf-8')}")
        self._folder = folder / f"v{VERSION}"
        self._folder.mkdir(parents=True, exist_ok=True)
        files = sorted(self._folder.glob("*.jsonl"))
        if files:
            self.store.load(TABLE, files)

    @property
    def call_ids(self) -> set[str]:
        """The calls that are here."""
        return {row[0] for row in self.store.query(f"{TABLE} | distinct CallId").rows}

    async def refresh(self, container: ContainerClient) -> int:
        """Reads what has come into the archive and forgets what has gone. Returns how many calls came. Raises AzureError."""
        known, listed = self.call_ids, await _listed(container)
        self.store.retain(TABLE, "CallId", listed)
        archive = Archive(container)
        new = sorted(listed - known)
        for ids in batched(new, TO_A_FILE, strict=False):
            rows = [row async for row in _rows(archive, ids)]
            file = self._folder / f"{ids[0]}.jsonl"
            half = file.with_suffix(".half")
            half.write_bytes(json_lines(rows))
            half.rename(file)
            self.store.load(TABLE, [file])
        return len(new)


async def _listed(container: ContainerClient) -> set[str]:
    names = [name.rpartition("/")[2] async for name in container.list_blob_names()]
    return {name for name in names if _is_call_id(name)}


def _is_call_id(name: str) -> bool:
    try:
        call_ids.opened_at(name)
    except ValueError:
        return False
    return True


async def _rows(archive: Archive, ids: Sequence[str]) -> AsyncIterator[Row]:
    for few in batched(ids, AT_ONCE, strict=False):
        for call in await asyncio.gather(*(archive.get(each) for each in few)):
            if call:
                yield row_of(call)


# ---- printing


def printed(result: Result, width: int | None = WIDEST) -> Iterator[str]:
    """The lines of a table. Cells are cut to `width` characters, and line ends in them shown as spaces."""
    names = [column.name for column in result.columns]
    cells = [[_text(value, width) for value in row] for row in result.rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for line in (names, ["-" * wide for wide in widths], *cells):
        yield "  ".join(cell.ljust(wide) for cell, wide in zip(line, widths, strict=True)).rstrip()
    yield f"({len(cells)} row{'' if len(cells) == 1 else 's'})"


def as_json(result: Result) -> Iterator[str]:
    """A line of JSON per row; dynamic values are objects, not texts."""
    for row in result.rows:
        fields = {
            column.name: json.loads(value) if column.kql == "dynamic" and value is not None else value
            for column, value in zip(result.columns, row, strict=True)
        }
        yield json.dumps(fields, ensure_ascii=False, default=str)


def _text(value: Any, width: int | None) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03}"
    text = " ".join(str(value).splitlines())
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


# ---- running


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="devtools.kql", description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, help="file with a query")
    parser.add_argument("--query", help="a query")
    parser.add_argument("--json", action="store_true", help="print a line of JSON per row")
    parser.add_argument("--serve", type=int, metavar="PORT", help="serve the Kusto REST API instead")
    parser.add_argument("--connection", help="the Storage account (default: that of `make run`)")
    parser.add_argument("--prefix", default="tollgate", help="the gateway's TOLLGATE_PREFIX")
    parser.add_argument("--cache", type=Path, help="where to keep what was read (default: under .local/kql)")
    return parser.parse_args()


def _connection(given: str | None) -> str | None:
    """The Storage account, if one is given or `make run` runs."""
    if given or not RUN_INFO.exists():
        return given
    return msgspec.json.decode(RUN_INFO.read_bytes(), type=RunInfo).storage_connection_string


async def _refreshed(analysis: Analysis, connection: str | None, prefix: str) -> str:
    """What came of reading the archive, in words."""
    began = time.monotonic()
    if connection is None:
        return f"`make run` does not run here: {len(analysis.call_ids)} calls as they were read before"
    try:
        async with _container(connection, prefix) as container:
            new = await analysis.refresh(container)
    except AzureError as error:
        reason = str(error).splitlines()[0]
        return f"the storage cannot be read ({reason}): {len(analysis.call_ids)} calls as they were read before"
    return f"{len(analysis.call_ids)} calls, {new} of them new, read in {time.monotonic() - began:.1f} s"


@contextlib.asynccontextmanager
async def _container(connection: str, prefix: str) -> AsyncIterator[ContainerClient]:
    async with BlobServiceClient.from_connection_string(connection, retry_total=0) as account:
        yield account.get_container_client(f"{prefix}-archive")


def _answer(analysis: Analysis, query: str, form: Callable[[Result], Iterator[str]]) -> int:
    """The exit status."""
    try:
        for line in form(analysis.store.query(query)):
            print(line)
    except KustoError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _prompt(analysis: Analysis, form: Callable[[Result], Iterator[str]]) -> None:
    """Asks until Ctrl-D. An empty line ends a query."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - importing it gives input() a history; not every Python has it
    print("Ask Calls, UsageHourly, ApiManagementGatewayLlmLog, ...; an empty line runs the query, Ctrl-D ends.")
    lines: list[str] = []
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            line = input("  ... " if lines else "kql> ")
            if line.strip():
                lines.append(line)
            elif lines:
                _answer(analysis, "\n".join(lines), form)
                lines = []
    print()


async def _serve(analysis: Analysis, arguments: argparse.Namespace) -> None:
    connection = _connection(arguments.connection)
    async with KustoServer(port=arguments.serve, store=analysis.store) as server:
        print(f"ready {server.url} (database tollgate)", flush=True)
        while True:
            await asyncio.sleep(REFRESH_S)
            await _refreshed(analysis, connection, arguments.prefix)


def main() -> int:
    """0, or 1 where a query could not be answered."""
    arguments = _arguments()
    connection = _connection(arguments.connection)
    analysis = Analysis(arguments.cache or LOCAL / "kql" / arguments.prefix)
    print(f"tollgate: {asyncio.run(_refreshed(analysis, connection, arguments.prefix))}", file=sys.stderr)
    query = arguments.file.read_text(encoding="utf-8") if arguments.file else arguments.query
    form = as_json if arguments.json else lambda result: printed(result, WIDEST if sys.stdout.isatty() else None)
    if arguments.serve is not None:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(analysis, arguments))
        return 0
    if query:
        return _answer(analysis, query, form)
    _prompt(analysis, form)
    return 0


if __name__ == "__main__":
    sys.exit(main())
