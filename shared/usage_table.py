"""The usage table: what each key used in each hour.

    PartitionKey    RowKey
    2026112109      SHA-256 of the key, in hex    the UsageHour

Rule: a partition is always written as a whole, from all the entries of its hour, so writing it again changes nothing.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence

import msgspec
from azure.data.tables import TransactionOperation, UpdateMode
from azure.data.tables.aio import TableClient

from shared.core.ledger import UsageHour, UsageKey
from shared.tables import Entity, create_if_missing, properties_of, value_of

_TRANSACTION_LIMIT = 100


class UsageTable:
    """One table."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    async def replace_hour(self, hour: str, rows: Sequence[UsageHour]) -> None:
        """Makes `rows` the hour's usage; rows of keys that are not among them go."""
        entities = {entity["RowKey"]: entity for entity in map(_entity, rows)}
        stored = self._table.query_entities("PartitionKey eq @hour", parameters={"hour": hour}, select=["RowKey"])
        gone = [
            {"PartitionKey": hour, "RowKey": row["RowKey"]} async for row in stored if row["RowKey"] not in entities
        ]
        operations = [
            *((TransactionOperation.UPSERT, entity, {"mode": UpdateMode.REPLACE}) for entity in entities.values()),
            *((TransactionOperation.DELETE, entity, {}) for entity in gone),
        ]
        for start in range(0, len(operations), _TRANSACTION_LIMIT):
            await self._table.submit_transaction(operations[start : start + _TRANSACTION_LIMIT])

    async def hours(self, start: str, end: str, client_id: str | None) -> AsyncIterator[UsageHour]:
        """The usage of the hours from `start` up to but not including `end` (`YYYYMMDDHH`), of one client or of all."""
        query = "PartitionKey ge @start and PartitionKey lt @end"
        parameters = {"start": start, "end": end}
        if client_id is not None:
            query += " and ClientId eq @client"
            parameters["client"] = client_id
        async for entity in self._table.query_entities(query, parameters=parameters):
            yield value_of(entity, UsageHour, {"hour": entity["PartitionKey"], "key": value_of(entity, UsageKey, {})})

    async def prepare(self) -> None:
        await create_if_missing(self._table)

    async def close(self) -> None:
        await self._table.close()


def _entity(usage: UsageHour) -> Entity:
    digest = hashlib.sha256(msgspec.json.encode(usage.key)).hexdigest()
    counters = properties_of(usage)
    del counters["Hour"], counters["Key"]
    return {"PartitionKey": usage.hour, "RowKey": digest} | properties_of(usage.key) | counters
