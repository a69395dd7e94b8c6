"""The REST face of the fake Data Explorer, as azure-kusto-data and azure-kusto-ingest 6.0.4 call it.

Streaming ingestion is stored at once. Queued ingestion goes the real way: the client uploads to a container and queues a
message, both in the Storage account given (Azurite), and a pump here reads them; ingest-by tags are honoured there
only, as in the service. https://learn.microsoft.com/kusto/api/rest/
"""

import asyncio
import base64
import contextlib
import gzip
import json
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self, override

import uvicorn
from azure.core.exceptions import AzureError, ResourceExistsError
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from azure.storage.blob.aio import BlobClient, BlobServiceClient
from azure.storage.queue import QueueSasPermissions, generate_queue_sas
from azure.storage.queue.aio import QueueClient, QueueServiceClient
from duckdb_kql.server import RestColumn, Result, error_response, v1_response, v2_response
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from devtools.kusto.store import KustoError, Store

SHORTEST_POLL_S, LONGEST_POLL_S = 0.1, 1.0
_TAG = "ingest-by:"


@dataclass(slots=True)
class Faults:
    """What to get wrong on purpose.

    unavailable: every request is answered 503 while this is True; the pump stands still.
    throttled: the next N requests are answered 429.
    lost_answers: the next N streaming ingestions are stored and answered 503, so that the client repeats them.
    slow_s: every request, and every look of the pump, waits so long.
    """

    unavailable: bool = False
    throttled: int = 0
    lost_answers: int = 0
    slow_s: float = 0.0


class _Server(uvicorn.Server):
    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals belong to the program or the test around it


class KustoServer:
    """A cluster with one database on 127.0.0.1, as an async context manager.

    storage_connection_string: where queued ingestion passes through; without it only streaming ingestion works.
    store: a database that exists already; it is closed with the server.
    """

    def __init__(
        self,
        *,
        storage_connection_string: str | None = None,
        database: str = "tollgate",
        port: int = 0,
        store: Store | None = None,
    ) -> None:
        self.database = database
        self.faults = Faults()
        self._store = store or Store()
        self._storage = storage_connection_string
        self._name = f"kusto-{secrets.token_hex(4)}"  # clusters that share an account do not read each other's queues
        self._resources: list[tuple[str, str]] = []
        self._changed = asyncio.Condition()
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        routes = [
            Route("/v1/rest/auth/metadata", self._metadata),
            Route("/v1/rest/mgmt", self._manage, methods=["POST"]),
            Route("/v1/rest/query", self._query, methods=["POST"]),
            Route("/v2/rest/query", self._query, methods=["POST"]),
            Route("/v1/rest/ingest/{database}/{table}", self._ingest, methods=["POST"]),
        ]
        app = Starlette(routes=routes, exception_handlers={KustoError: _refusal})
        self._server = _Server(uvicorn.Config(app, lifespan="off", log_level="error", access_log=False, ws="none"))

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._server.serve(sockets=[self._listener]))]
        if self._storage:
            self._resources = await _create_resources(self._storage, self._name)
            self._tasks.append(asyncio.create_task(self._pump(self._storage)))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        for pump in self._tasks[1:]:
            pump.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._store.close()

    @property
    def queue(self) -> str:
        """What is queued for ingestion waits in this one."""
        return f"{self._name}-ready"

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Every row of a table, for assertions; dynamic values as JSON text."""
        return self._store.rows(table)

    def clear(self, table: str) -> None:
        """Take out every row of a table, and forget the tags of their batches."""
        self._store.clear(table)

    def manage(self, command: str) -> None:
        """Run a management command without HTTP. Raises KustoError."""
        self._store.manage(command)

    def query(self, kql: str) -> list[dict[str, Any]]:
        """Answer a query without HTTP. Raises KustoError."""
        result = self._store.query(kql)
        return [dict(zip((column.name for column in result.columns), row, strict=True)) for row in result.rows]

    async def stored(self, table: str, count: int) -> list[dict[str, Any]]:
        """Wait until a table holds at least `count` rows; returns all of them."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._store.rows(table)) >= count)
        return self._store.rows(table)

    # ---- requests

    async def _metadata(self, _request: Request) -> Response:
        return Response(status_code=404)  # what the clients take for a cluster without sign-in

    async def _manage(self, request: Request) -> Response:
        body = await self._admit(request)
        return JSONResponse(v1_response(self._resource_command(body["csl"].strip()) or self._store.manage(body["csl"])))

    def _resource_command(self, command: str) -> Result | None:
        if command == ".get ingestion resources":
            columns = [RestColumn.derived(name, "string") for name in ("ResourceTypeName", "StorageRoot")]
            return Result(columns, self._resources)
        if command == ".get kusto identity token":
            return Result([RestColumn.derived("AuthorizationContext", "string")], [("local",)])
        return None

    async def _query(self, request: Request) -> Response:
        body = await self._admit(request)
        properties = body.get("properties") or {}
        parsed = json.loads(properties) if isinstance(properties, str) else properties
        result = self._store.query(body["csl"], parsed.get("Parameters") or None)
        if request.url.path.startswith("/v1"):
            return JSONResponse(v1_response(result))
        return JSONResponse(v2_response(result, request.headers.get("x-ms-client-request-id", "")))

    async def _ingest(self, request: Request) -> Response:
        data = _inflated(await request.body())
        await self._refuse_if_faulty()
        self._check_database(request.path_params["database"])
        rows = self._store.ingest(request.path_params["table"], data, request.query_params.get("mappingName"))
        await self._notify()
        if self.faults.lost_answers:
            self.faults.lost_answers -= 1
            raise KustoError("The answer was lost.", "Unavailable")
        return JSONResponse(v1_response(Result([RestColumn.derived("RowCount", "long")], [(rows,)])))

    async def _admit(self, request: Request) -> Any:
        body = await request.json()
        await self._refuse_if_faulty()
        self._check_database(body.get("db"))
        return body

    async def _refuse_if_faulty(self) -> None:
        await asyncio.sleep(self.faults.slow_s)
        if self.faults.unavailable:
            raise KustoError("The service is unavailable.", "Unavailable")
        if self.faults.throttled:
            self.faults.throttled -= 1
            raise KustoError("The request was throttled.", "Throttled")

    def _check_database(self, name: str | None) -> None:
        if name not in (None, self.database, "NetDefaultDB"):
            raise KustoError(f"Entity ID '{name}' of kind 'Database' was not found.", "BadRequest_EntityNotFound")

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # ---- queued ingestion

    async def _pump(self, connection_string: str) -> None:
        async with QueueServiceClient.from_connection_string(connection_string) as service:
            ready = service.get_queue_client(self.queue)
            failed = service.get_queue_client(f"{self._name}-failed")
            pause = SHORTEST_POLL_S
            while True:
                found = False
                with contextlib.suppress(AzureError):  # Storage is away: its messages wait
                    found = await self._take_messages(ready, failed)
                pause = SHORTEST_POLL_S if found else min(2 * pause, LONGEST_POLL_S)
                await asyncio.sleep(pause + self.faults.slow_s)

    async def _take_messages(self, ready: QueueClient, failed: QueueClient) -> bool:
        """Whether there were any."""
        if self.faults.unavailable:
            return False
        found = False
        async for message in ready.receive_messages(messages_per_page=32):
            if failure := await self._ingest_blob(json.loads(base64.b64decode(message.content))):
                await failed.send_message(base64.b64encode(json.dumps(failure).encode()).decode())
            await ready.delete_message(message)
            found = True
        return found

    async def _ingest_blob(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Store what a queued message points at; returns what the service would report if it cannot."""
        properties = message["AdditionalProperties"]
        table = message["TableName"]
        unless = [_TAG + tag for tag in json.loads(properties.get("ingestIfNotExists", "[]"))]
        try:
            self._check_database(message["DatabaseName"])
            if not self._store.has_any_tag(table, unless):
                async with BlobClient.from_blob_url(message["BlobPath"]) as blob:
                    data = _inflated(await (await blob.download_blob()).readall())
                tags = json.loads(properties.get("tags", "[]"))
                self._store.ingest(table, data, properties.get("ingestionMappingReference"), tags)
        except KustoError as error:
            return {
                "IngestionSourceId": message["Id"],
                "Database": message["DatabaseName"],
                "Table": table,
                "FailedOn": datetime.now(UTC).isoformat(),
                "Details": str(error),
                "ErrorCode": error.code,
                "FailureStatus": "Permanent",
            }
        await self._notify()
        return None


def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, KustoError)
    status = {"Unavailable": 503, "Throttled": 429}.get(error.code, 400)
    body = error_response(str(error), code=error.code)
    body["error"]["@permanent"] = status == 400
    return JSONResponse(body, status)


def _inflated(data: bytes) -> bytes:
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


async def _create_resources(connection_string: str, name: str) -> list[tuple[str, str]]:
    """Make a cluster's container and queues; returns (kind, URL with SAS) as `.get ingestion resources` lists them."""
    parts = dict(part.split("=", 1) for part in connection_string.strip(";").split(";"))
    account, key, until = parts["AccountName"], parts["AccountKey"], datetime.now(UTC) + timedelta(days=1)
    found: list[tuple[str, str]] = []
    async with BlobServiceClient.from_connection_string(connection_string) as blobs:
        async with _ignoring_existing():
            await blobs.create_container(f"{name}-temp")
        sas = generate_container_sas(
            account,
            f"{name}-temp",
            key,
            permission=ContainerSasPermissions(read=True, write=True, create=True),
            expiry=until,
        )
        found.append(("TempStorage", f"{blobs.url.rstrip('/')}/{name}-temp?{sas}"))
    async with QueueServiceClient.from_connection_string(connection_string) as queues:
        kinds = {
            "SecuredReadyForAggregationQueue": f"{name}-ready",
            "FailedIngestionsQueue": f"{name}-failed",
            "SuccessfulIngestionsQueue": f"{name}-succeeded",
        }
        for kind, queue in kinds.items():
            async with _ignoring_existing():
                await queues.create_queue(queue)
            permission = QueueSasPermissions(read=True, add=True, process=True)
            sas = generate_queue_sas(account, queue, key, permission=permission, expiry=until)
            found.append((kind, f"{queues.url.rstrip('/')}/{queue}?{sas}"))
    return [*found, ("IngestionsStatusTable", f"{parts['TableEndpoint']}/kustostatus")]


@contextlib.asynccontextmanager
async def _ignoring_existing() -> AsyncIterator[None]:
    with contextlib.suppress(ResourceExistsError):
        yield
