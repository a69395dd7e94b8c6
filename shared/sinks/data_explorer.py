"""Azure Data Explorer: one batch of rows per write, into the table CallRecords (queries/tables.kql makes it).

Rule: at least once into the table, once in the view. A batch that is queued carries an ingest-by tag made of its call ids and
of when they ended, so that the same batch is not ingested again, and a later account of a call is; a call that comes again in
another batch, or by streaming, where there are no tags, is told by its id in the view Calls. Calls that are still open are
not in Data Explorer.

Only composition imports this module, and only where the sink is on: the Kusto packages take a while to import.
https://learn.microsoft.com/kusto/management/extent-tags
"""

import asyncio
import hashlib
import io
from collections.abc import Awaitable, Callable, Iterable, Sequence

from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential
from azure.kusto.data import KustoClient, KustoConnectionStringBuilder
from azure.kusto.data.data_format import DataFormat
from azure.kusto.data.exceptions import KustoError
from azure.kusto.ingest import BaseIngestClient, IngestionProperties, ManagedStreamingIngestClient, QueuedIngestClient

from shared.core.recording.archive import ArchivedCall
from shared.core.recording.conversation import has_words
from shared.core.recording.events import Closed, Record
from shared.core.recording.kusto_rows import Row, json_lines, row_of

TABLE = "CallRecords"
VIEW = "Calls"
MAPPING = "CallRecords_v1"
_IDS_AT_ONCE = 500


class NotIngested(ConnectionError):
    """The cluster is away, throttles, or lacks the table or the right to write to it. Not the rows' fault: they can wait."""


class DataExplorer:
    """Writes to one database of one cluster. `read` gives a call whose bodies went to the archive ahead of its event."""

    name = "data_explorer"

    def __init__(
        self, uri: str, database: str, read: Callable[[str], Awaitable[ArchivedCall | None]], *, managed: bool
    ) -> None:
        self._uri = uri
        self._database = database
        self._read = read
        self._managed = managed
        self._client: BaseIngestClient | None = None
        self._one_at_a_time = asyncio.Lock()

    async def write(self, events: Sequence[Record]) -> None:
        """Returns when the rows are stored, or queued. Raises NotIngested."""
        rows = [await self._row(event) for event in _latest(events)]  # one after another: bodies may be large
        if rows:
            async with self._one_at_a_time:  # the client keeps what it knows of the cluster without a lock
                await asyncio.to_thread(self._ingest, rows)

    async def forget(self, call_ids: Sequence[str]) -> None:
        """Deletes every row of these calls. Raises NotIngested: the identity has to be the database's admin or the table's.

        First the table's and then the view's (https://learn.microsoft.com/kusto/management/soft-delete-command): the view keeps
        rows of its own. What is queued right now may still come.
        """
        for start in range(0, len(call_ids), _IDS_AT_ONCE):
            ids = ", ".join(f"'{call_id}'" for call_id in call_ids[start : start + _IDS_AT_ONCE])
            for kind, name in (("table", TABLE), ("materialized-view", VIEW)):
                command = f".delete {kind} {name} records <| {name} | where CallId in ({ids})"
                await asyncio.to_thread(self._manage, command)

    def _manage(self, command: str) -> None:
        try:
            with KustoClient(connection_to(self._uri)) as client:
                client.execute_mgmt(self._database, command)
        except (KustoError, AzureError, OSError) as error:
            raise NotIngested(f"{self._database} at {self._uri}: {error!r}") from error

    async def prepare(self) -> None:
        """Nothing: the identity that ingests may not create tables."""

    async def close(self) -> None:
        if self._client:
            await asyncio.to_thread(self._client.close)

    async def _row(self, event: Closed) -> Row:
        kept = event.call
        if kept is None and has_words(event.record.operation):
            kept = await self._read(event.record.call_id)
        call = ArchivedCall(
            record=event.record,  # it may know more than the archived one: what a response used that was made in the background
            request=kept.request if kept else b"",
            response=kept.response if kept else b"",
        )
        return await asyncio.to_thread(row_of, call)

    def _ingest(self, rows: Sequence[Row]) -> None:
        tag = _digest(rows)
        properties = IngestionProperties(
            database=self._database,
            table=TABLE,
            data_format=DataFormat.MULTIJSON,
            ingestion_mapping_reference=MAPPING,
            ingest_by_tags=[tag],
            ingest_if_not_exists=[tag],
        )
        try:
            self._client = self._client or _connected(self._uri, managed=self._managed)
            self._client.ingest_from_stream(io.BytesIO(json_lines(rows)), properties)
        except (KustoError, AzureError, OSError) as error:
            raise NotIngested(f"{self._database} at {self._uri}: {error!r}") from error


def _latest(events: Iterable[Record]) -> Iterable[Closed]:
    """The later account of each call that has ended, in whatever order they came."""
    closed = [event for event in events if isinstance(event, Closed)]
    closed.sort(key=lambda event: event.record.closed_at or event.record.opened_at)
    return {event.record.call_id: event for event in closed}.values()


def _connected(uri: str, *, managed: bool) -> BaseIngestClient:
    connection = connection_to(uri)
    return ManagedStreamingIngestClient(connection) if managed else QueuedIngestClient(connection)


def connection_to(uri: str) -> KustoConnectionStringBuilder:
    """With the identity of the app, but to a plain http address, which only a local stand-in has."""
    if uri.startswith("http:"):
        return KustoConnectionStringBuilder.with_no_authentication(uri)
    return KustoConnectionStringBuilder.with_azure_token_credential(uri, DefaultAzureCredential())


def _digest(rows: Iterable[Row]) -> str:
    accounts = sorted(f"{row.call_id} {row.closed_at}" for row in rows)
    return hashlib.sha256("\n".join(accounts).encode()).hexdigest()
