"""Run the fake Data Explorer as a program; it prints one ready line with its URL.

python -m devtools.kusto --port 8082 --storage "$AzureWebJobsStorage" --schema schema.kql
"""

import argparse
import asyncio
from pathlib import Path

from devtools.kusto.server import KustoServer


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="devtools.kusto", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8082)
    parser.add_argument("--database", default="tollgate")
    parser.add_argument("--storage", help="connection string of the account that queued ingestion passes through")
    parser.add_argument("--schema", type=Path, action="append", default=[], help="file of management commands to run")
    return parser.parse_args()


async def _main(arguments: argparse.Namespace) -> None:
    server = KustoServer(storage_connection_string=arguments.storage, database=arguments.database, port=arguments.port)
    for schema in arguments.schema:
        server.manage(f".execute database script <|\n{schema.read_text()}")
    async with server:
        print(f"ready {server.url}", flush=True)
        await asyncio.Event().wait()


try:
    asyncio.run(_main(_arguments()))
except KeyboardInterrupt:
    print("stopped")
