"""What will tell its usage later: a row for each batch, background response, run and fine-tuning job.

    PartitionKey    RowKey
    deferred        <object id>     the Deferred, whether its usage is settled, and what it told until then

Rule: a row is made once, by the record of the call that made the object, and stays: a record that comes again finds it, settled
or not, and changes nothing. What an object told is kept before it is recorded, so that it is recorded as it was told whatever
becomes of the object and of us.
"""

import contextlib
from collections.abc import Sequence
from functools import partial

import msgspec
from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient

from shared.core.money.deferred import Deferred, Told, deferred_of
from shared.core.recording.events import Closed, Record
from shared.storage.entities import Entity, create_if_missing, properties_of
from shared.storage.table_wire import Reader, columns_of

_PARTITION = "deferred"
_LONGEST = 32_000
"""Characters of a property. A record has some 900, and a batch is of one model: what is longer is read again."""
_reader: Reader[Deferred] = Reader(columns_of(Deferred), partial(msgspec.convert, type=Deferred, from_attributes=True))


class DeferredUsage:
    """One table."""

    name = "deferred"

    def __init__(self, table: TableClient) -> None:
        self._table = table

    async def write(self, events: Sequence[Record]) -> None:
        for event in events:
            if isinstance(event, Closed) and (made := deferred_of(event.record)):
                with contextlib.suppress(ResourceExistsError):
                    await self._table.create_entity(_keys(made) | properties_of(made) | {"Settled": False})

    async def unsettled(self) -> list[Deferred]:
        """Those whose usage is still to be learnt."""
        wanted = f"PartitionKey eq '{_PARTITION}' and Settled eq false"
        return [made async for made in _reader.read(self._table, wanted)]

    async def keep(self, made: Deferred, told: Told) -> Told | None:
        """Keeps what an object told until it is recorded. Returns what counts: that, or what was kept before. None where
        another is at it, or was."""
        entity = await self._table.get_entity(_PARTITION, made.object_id)
        if entity["Settled"]:
            return None
        if kept := entity.get("Told"):
            return msgspec.json.decode(kept, type=Told)
        text = msgspec.json.encode(told).decode()
        if len(text) > _LONGEST:
            return told
        try:
            await self._table.update_entity(
                _keys(made) | {"Told": text},
                UpdateMode.MERGE,
                etag=entity.metadata["etag"],
                match_condition=MatchConditions.IfNotModified,
            )
        except ResourceModifiedError:
            return None
        return told

    async def settle(self, made: Deferred) -> None:
        """The usage is in the ledger."""
        await self._table.update_entity(_keys(made) | {"Settled": True, "Told": ""}, UpdateMode.MERGE)

    async def prepare(self) -> None:
        await create_if_missing(self._table)

    async def close(self) -> None:
        await self._table.close()


def _keys(made: Deferred) -> Entity:
    return {"PartitionKey": _PARTITION, "RowKey": made.object_id}
