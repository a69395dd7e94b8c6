"""The limits table: what all instances know of each client's allowances.

    PartitionKey          RowKey
    minute-202611211012   <kind>-<SHA-256 of the client's id, in hex>    the Account
    month-202611          likewise

Rule: an account is written only over the very version that was read (its ETag), so no two instances take the same thing.
"""

import hashlib
from collections import defaultdict
from datetime import datetime, timedelta

import msgspec
from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import TableEntity, TransactionOperation, UpdateMode
from azure.data.tables.aio import TableClient

from shared.core.clients.limits import Account, Kind, Lease, window_of
from shared.storage.entities import Entity, create_if_missing, properties_of, value_of

_KEPT = timedelta(hours=1)
"""How long the accounts of minutes are kept. Those of months stay."""
_TRANSACTION_LIMIT = 100


class Place(msgspec.Struct, frozen=True):
    """Where an account stands."""

    window: str
    kind: Kind
    client_id: str

    @property
    def row(self) -> str:
        """The RowKey. A client's id may hold what a key must not."""
        return f"{self.kind}-{hashlib.sha256(self.client_id.encode()).hexdigest()}"


class Row(msgspec.Struct, frozen=True):
    """An account as it was read or written; no ETag: there is none yet."""

    account: Account = Account()
    etag: str | None = None


class _Columns(msgspec.Struct, frozen=True, kw_only=True):
    client_id: str
    kind: str
    spent: int
    proven: int
    leases: str
    """As JSON: a text of Table Storage holds 32 Ki characters, which is some 500 instances."""


class LimitsTable:
    """One table."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    async def read(self, place: Place) -> Row:
        """The account; an empty one where there is none."""
        try:
            entity = await self._table.get_entity(place.window, place.row)
        except ResourceNotFoundError:
            return Row()
        return Row(_account(entity), str(entity.metadata["etag"]))

    async def write(self, place: Place, account: Account, etag: str | None) -> Row | None:
        """Puts `account` in the place of the version `etag`. None where another was faster: read again."""
        entity = _entity(place, account)
        try:
            if etag is None:
                written = await self._table.create_entity(entity)
            else:
                written = await self._table.update_entity(
                    entity, UpdateMode.REPLACE, etag=etag, match_condition=MatchConditions.IfNotModified
                )
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
            return None
        return Row(account, str(written["etag"]))

    async def sweep(self, now: datetime) -> int:
        """Deletes the accounts of minutes long past. Returns how many."""
        last = window_of(Kind.REQUESTS_PER_MINUTE, now - _KEPT).key
        query = "PartitionKey ge 'minute-' and PartitionKey lt @last"
        old: dict[str, list[Entity]] = defaultdict(list)
        async for entity in self._table.query_entities(
            query, parameters={"last": last}, select=["PartitionKey", "RowKey"]
        ):
            old[entity["PartitionKey"]].append({"PartitionKey": entity["PartitionKey"], "RowKey": entity["RowKey"]})
        for entities in old.values():
            for start in range(0, len(entities), _TRANSACTION_LIMIT):
                batch = entities[start : start + _TRANSACTION_LIMIT]
                await self._table.submit_transaction([(TransactionOperation.DELETE, entity, {}) for entity in batch])
        return sum(map(len, old.values()))

    async def prepare(self) -> None:
        await create_if_missing(self._table)

    async def close(self) -> None:
        await self._table.close()


def _entity(place: Place, account: Account) -> Entity:
    columns = _Columns(
        client_id=place.client_id,
        kind=place.kind.value,
        spent=account.spent,
        proven=account.proven,
        leases=msgspec.json.encode(account.leases).decode(),
    )
    return {"PartitionKey": place.window, "RowKey": place.row} | properties_of(columns)


def _account(entity: TableEntity) -> Account:
    columns = value_of(entity, _Columns, {})
    leases = msgspec.json.decode(columns.leases, type=tuple[Lease, ...])
    return Account(spent=columns.spent, proven=columns.proven, leases=leases)
