"""Where tests keep things: parts of a Storage account that nothing else uses, and one that is away."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient

from devtools.azurite import Ports, connection_string
from shared.core.money.ledger import Span, UsageEntry, UsageHour
from shared.core.recording.events import Record
from shared.recording.chains import Chains
from shared.recording.quarantine import Quarantine
from shared.recording.shelf import Shelf
from shared.sinks.archive import Archive
from shared.sinks.ledger import Ledger
from shared.usage.table import UsageTable

AWAY = connection_string(Ports(blob=9, queue=9, table=9))  # the discard port: nobody listens


@dataclass(frozen=True)
class Storage:
    """The parts that keep."""

    archive: Archive
    ledger: Ledger
    usage: UsageTable
    quarantine: Quarantine
    shelf: Shelf
    chains: Chains

    async def entry(self, event: Record) -> UsageEntry:
        """The call's ledger line."""
        (entry,) = [each for each in await self.entries(event) if each.call_id == event.record.call_id]
        return entry

    async def entries(self, event: Record) -> list[UsageEntry]:
        """All lines of the call's hour."""
        return [entry async for entry in self.ledger.entries(f"{event.record.opened_at:%Y%m%d%H}")]

    async def quarantined(self) -> dict[bytes, str]:
        """What was set aside, and why."""
        container, kept = self.quarantine._container, {}
        async for name in container.list_blob_names():
            download = await container.download_blob(name)
            kept[await download.readall()] = download.properties.metadata["reason"]
        return kept

    async def dirty(self) -> list[str]:
        """The hours that wait to be counted."""
        return [dirty.period for dirty in await self.ledger.dirty(Span.HOUR)]

    async def count(self, period: str, rows: Sequence[UsageHour]) -> None:
        """Makes `rows` the usage of an hour, day or month."""
        assert await self.usage.replace(await self.usage.stored(period), rows)


@asynccontextmanager
async def storage_at(connection: str, prefix: str, **options: Any) -> AsyncIterator[Storage]:
    """Parts named after `prefix`, not prepared."""
    blobs = BlobServiceClient.from_connection_string(connection, **options)
    tables = TableServiceClient.from_connection_string(connection, **options)
    async with blobs, tables:
        parts = Storage(
            archive=Archive(blobs.get_container_client(f"{prefix}-archive")),
            ledger=Ledger(tables.get_table_client(f"{prefix}Ledger")),
            usage=UsageTable(tables.get_table_client(f"{prefix}Usage")),
            quarantine=Quarantine(blobs.get_container_client(f"{prefix}-quarantine")),
            shelf=Shelf(blobs.get_container_client(f"{prefix}-shelf"), lambda: datetime.now(UTC)),
            chains=Chains(blobs.get_container_client(f"{prefix}-chains")),
        )
        yield parts
        for part in (parts.archive, parts.ledger, parts.usage, parts.quarantine, parts.shelf, parts.chains):
            await part.close()
