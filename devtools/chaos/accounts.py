"""What is kept: read once all is quiet. The rule: it is read from the stores themselves, not from the app."""

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from devtools.eventhubs import EventHubsServer
from shared.core.call_record import CallRecord
from shared.core.money.ledger import Span, UsageEntry
from shared.core.recording import archive
from shared.core.recording.verification import Finding
from shared.recording import verifying
from shared.recording.chains import Chains
from shared.sinks.archive import Archive
from shared.sinks.ledger import Ledger

_PATIENCE_S = 120.0
"""Since anything was worked off: how long that takes in all is the machine's matter."""
_CHECKPOINTS = "azure-webjobs-eventhub"


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """One object of the archive, its bodies as digests."""

    record: CallRecord
    request_sha256: str
    response_sha256: str


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was kept."""

    ledger: tuple[UsageEntry, ...]
    archive: tuple[Archived, ...]
    quarantined: int
    findings: tuple[Finding, ...]
    """What `verify` finds."""
    usage: Mapping[str, int]
    """The total of the usage report."""
    restless: str | None
    """What was still going on when patience ended."""


class Stores:
    """The stores of one app."""

    def __init__(self, connection: str, prefix: str, hub: EventHubsServer) -> None:
        self._connection, self._prefix, self._hub = connection, prefix, hub

    @asynccontextmanager
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
        async with httpx.AsyncClient(timeout=30) as http:
            answer = await http.get(f"{base_url}/usage", headers={"authorization": f"Bearer {admin_key}"})
        return Kept(
            ledger=tuple(entries),
            archive=tuple([each async for each in self._archived()]),
            findings=await self._verified(began),
            quarantined=await self._blob_count("quarantine"),
            usage=answer.raise_for_status().json()["total"],
            restless=restless,
        )

    async def _verified(self, began: datetime) -> tuple[Finding, ...]:
        container = self._blobs.get_container_client
        stores = verifying.Kept(
            Archive(container(f"{self._prefix}-archive")), self._ledger, Chains(container(f"{self._prefix}-chains"))
        )
        now = datetime.now(UTC)
        return (await verifying.verify(stores, began.date(), now.date(), client_id=None, now=now)).findings

    async def _quiet(self) -> str | None:
        """None, or what still moved when patience ended."""
        deadline, calm, least, moving = time.monotonic() + _PATIENCE_S, 0, math.inf, ""
        while time.monotonic() < deadline:
            try:
                counts = await self._moving()
            except AzureError as error:
                counts, moving = {}, repr(error)
            else:
                moving = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
                if (left := sum(counts.values())) < least:
                    deadline, least = time.monotonic() + _PATIENCE_S, left
            calm = 0 if moving else calm + 1
            if calm == 4:  # nothing for two seconds: what the host had prefetched has been worked off as well
                return None
            await asyncio.sleep(0.5)
        return moving

    async def _moving(self) -> dict[str, int]:
        return {
            "in the queue": await self._message_count(f"{self._prefix}-calls"),
            "poison messages": await self._message_count(f"{self._prefix}-calls-poison"),
            "on the shelf": await self._blob_count("shelf"),
            "hours to roll up": len(await self._ledger.dirty(Span.HOUR)),
            "events behind": await self._events_behind(),
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
        stored = self._hub.events("calls")
        last = {event.partition: event.sequence_number for event in stored}  # in order: the last one wins
        if not last:
            return 0
        async for blob in self._blobs.get_container_client(_CHECKPOINTS).list_blobs(include=["metadata"]):
            if (
                "/checkpoint/" in blob.name
                and int(blob.metadata["sequencenumber"]) >= last[blob.name.rpartition("/")[2]]
            ):
                del last[blob.name.rpartition("/")[2]]
        return len(last)

    async def _archived(self) -> AsyncIterator[Archived]:
        container = self._blobs.get_container_client(f"{self._prefix}-archive")
        async for name in container.list_blob_names():
            call = archive.decode(await (await container.download_blob(name)).readall())
            yield Archived(
                record=call.record,
                request_sha256=hashlib.sha256(call.request).hexdigest(),
                response_sha256=hashlib.sha256(call.response).hexdigest(),
            )
