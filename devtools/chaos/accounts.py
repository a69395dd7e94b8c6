"""What is kept: read once all is quiet. The rule: it is read from the stores themselves, not from the app."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import override

import httpx
import msgspec
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient, ContainerClient
from azure.storage.queue.aio import QueueServiceClient

from devtools.eventhubs import EventHubsServer
from devtools.kusto import KustoServer
from shared.core.call_record import CallRecord
from shared.core.money.ledger import Span, UsageEntry
from shared.core.recording import archive
from shared.core.recording.verification import Finding
from shared.recording import verifying
from shared.recording.chains import Chains
from shared.sinks.archive import Archive
from shared.sinks.ledger import Ledger

_PATIENCE_S = 180.0
"""Since anything moved: how long all takes is the machine's matter. Longer than a lease and than any wait for a retry."""
_LOOK_EVERY_S = 0.7
_CALM = 3
"""Looks at which nothing was on its way: what the host had prefetched has been worked off as well."""
_CHECKPOINTS = "azure-webjobs-eventhub"
_ANALYSED = "Calls | project CallId, Outcome, UsageSource, InputTokens, OutputTokens"


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """One object of the archive, its bodies as digests."""

    record: CallRecord
    request_sha256: str | None
    response_sha256: str | None


class Analysed(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One row of the view Calls."""

    call_id: str
    outcome: str
    usage_source: str
    input_tokens: int | None
    output_tokens: int | None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was kept."""

    ledger: tuple[UsageEntry, ...]
    archive: tuple[Archived, ...]
    analysis: tuple[Analysed, ...]
    ingested: int
    """Rows in Data Explorer before they are told apart."""
    quarantined: int
    findings: tuple[Finding, ...]
    """What `verify` finds."""
    usage: Mapping[str, int]
    """The total of the usage report."""
    restless: str | None
    """What was still going on when patience ended."""


class Stores:
    """The stores of one app."""

    def __init__(self, connection: str, prefix: str, hub: EventHubsServer, kusto: KustoServer) -> None:
        self._connection, self._prefix, self._hub, self._kusto = connection, prefix, hub, kusto

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Connects."""
        self._blobs = BlobServiceClient.from_connection_string(self._connection)
        self._queues = QueueServiceClient.from_connection_string(self._connection)
        tables = TableServiceClient.from_connection_string(self._connection)
        async with self._blobs, self._queues, tables:
            self._ledger = Ledger(tables.get_table_client(f"{self._prefix}Ledger"))
            yield

    async def read(self, began: datetime, base_url: str, admin_key: str) -> Kept:
        """Waits until nothing is on its way any more, then reads all."""
        restless = await self._quiet()
        hours = {began + timedelta(hours=number) for number in range(2)} | {datetime.now(UTC)}
        entries = [
            entry
            for hour in sorted({f"{each:%Y%m%d%H}" for each in hours})
            async for entry in self._ledger.entries(hour)
        ]
        async with httpx.AsyncClient(timeout=60) as http:
            answer = await http.get(f"{base_url}/usage", headers={"authorization": f"Bearer {admin_key}"})
        reading = _Reading(self._blobs.get_container_client(f"{self._prefix}-archive"))
        findings = await self._verified(reading, began)
        return Kept(
            ledger=tuple(entries),
            archive=tuple(reading.read),
            analysis=tuple(msgspec.convert(row, Analysed) for row in self._kusto.query(_ANALYSED)),
            ingested=len(self._kusto.query("CallRecords | project CallId")),
            findings=findings,
            quarantined=await self._blob_count("quarantine"),
            usage=answer.raise_for_status().json()["total"],
            restless=restless,
        )

    async def _verified(self, archive: Archive, began: datetime) -> tuple[Finding, ...]:
        chains = Chains(self._blobs.get_container_client(f"{self._prefix}-chains"))
        stores = verifying.Kept(archive, self._ledger, chains)
        now = datetime.now(UTC)
        return (await verifying.verify(stores, began.date(), now.date(), client_id=None, now=now)).findings

    async def _quiet(self) -> str | None:
        """None, or what still moved when patience ended."""
        moving, calm, deadline = "", 0, time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            before, moving = moving, await self._moving()
            if moving != before:
                deadline = time.monotonic() + _PATIENCE_S
            calm = 0 if moving else calm + 1
            if calm == _CALM:
                return None
            await asyncio.sleep(_LOOK_EVERY_S)
        return moving

    async def _moving(self) -> str:
        """What is on its way, and how much of it."""
        try:
            counts = await self._counts()
        except AzureError as error:
            return type(error).__name__
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    async def _counts(self) -> dict[str, int]:
        return {
            "in the queue": await self._message_count(f"{self._prefix}-calls"),  # those in somebody's hand as well
            "poison messages": await self._message_count(f"{self._prefix}-calls-poison"),
            "on the shelf": await self._blob_count("shelf"),
            "hours to roll up": len(await self._ledger.dirty(Span.HOUR)),
            "events behind": await self._events_behind(),
            "to ingest": await self._message_count(self._kusto.queue),
        }

    async def _message_count(self, queue: str) -> int:
        try:
            properties = await self._queues.get_queue_client(queue).get_queue_properties()
        except ResourceNotFoundError:
            return 0
        return properties.approximate_message_count or 0

    async def _blob_count(self, place: str) -> int:
        container = self._blobs.get_container_client(f"{self._prefix}-{place}")
        return len([name async for name in container.list_blob_names()])

    async def _events_behind(self) -> int:
        """Events that no checkpoint has passed."""
        behind = Counter(event.partition for event in self._hub.events("calls"))
        if not behind:
            return 0
        async for blob in self._blobs.get_container_client(_CHECKPOINTS).list_blobs(include=["metadata"]):
            if "/checkpoint/" in blob.name:
                behind[blob.name.rpartition("/")[2]] -= int(blob.metadata["sequencenumber"]) + 1
        return sum(behind.values())


class _Reading(Archive):
    """The archive, which keeps of each object that is read what is to be compared: all are read once, to be verified."""

    def __init__(self, container: ContainerClient) -> None:
        super().__init__(container)
        self.read: list[Archived] = []

    @override
    async def pieces(self, call_id: str) -> AsyncIterator[bytes]:
        reading = archive.Reading()
        async for piece in super().pieces(call_id):
            reading.feed(piece)
            yield piece
        with contextlib.suppress(ValueError):  # what is no object is found by who verifies
            header = reading.end().header
            self.read.append(
                Archived(
                    record=header.record,
                    request_sha256=header.request_sha256,
                    response_sha256=header.response_sha256,
                )
            )
