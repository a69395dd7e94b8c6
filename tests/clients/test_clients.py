"""The clients table and the directory over it, on the real emulator; two directories stand for two instances."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import override

import pytest
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables.aio import TableClient

from devtools.azurite import Azurite
from shared.clients.clients_table import ClientTable, Directory
from shared.configuration_source import ConfigurationSource, Inline
from shared.core.clients.directory import Stored, StoredKey
from shared.core.clients.keys import RANDOM_BYTES, mint
from shared.core.configuration import Client, Configuration, Limits, OnDisconnect
from shared.core.errors import NotReady

AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
KEY, OTHER_KEY = mint(bytes([1]) * RANDOM_BYTES), mint(bytes([2]) * RANDOM_BYTES)
CLIENT = Client(
    id="team-blue",
    name="Blaü",
    models=("gpt-4o",),
    on_disconnect=OnDisconnect.CANCEL,
    limits=Limits(tokens_per_minute=5, money_per_month=Decimal("12.50")),
)
CONFIGURED = f"""
{{"clients": [{{"id": "team-red", "cost_center": "file",
  "keys": [{{"id": "{OTHER_KEY.hash.id}", "salt": "{OTHER_KEY.hash.salt}", "hash": "{OTHER_KEY.hash.hash}"}}]}}]}}
"""


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.at = AT

    def __call__(self) -> datetime:
        return self.at


def stored_key(client_id: str = "team-blue", expires_at: datetime | None = None) -> StoredKey:
    hashed = KEY.hash
    return StoredKey(
        id=hashed.id, client_id=client_id, salt=hashed.salt, hash=hashed.hash, created_at=AT, expires_at=expires_at
    )


def client_table(azurite: Azurite, prefix: str) -> TableClient:
    return TableClient.from_connection_string(azurite.connection_string, f"{prefix}Clients", retry_total=0)


@pytest.fixture
async def table(azurite: Azurite, prefix: str) -> AsyncIterator[ClientTable]:
    table = ClientTable(client_table(azurite, prefix))
    await table.prepare()
    yield table
    await table.close()


async def directory_over(table: ClientTable, now: Clock | None = None, document: str = CONFIGURED) -> Directory:
    source = ConfigurationSource(Inline(document), {}, now or Clock())
    await source.refresh()
    return Directory(table, source, now or Clock())


def opened(directory: Directory) -> dict[str, str]:
    """Whom each key opens the gateway for."""
    assert directory.current is not None
    return {key_id: client.id for key_id, (_, client) in directory.current.keys_by_id.items()}


async def test_what_is_written_is_read_as_it_was(table: ClientTable) -> None:
    await table.prepare()  # again: it exists
    written = await table.put_client(CLIENT)
    key = stored_key(expires_at=AT + timedelta(microseconds=1))
    await table.put_key(key)
    stored = await table.read()
    assert stored == Stored(clients={"team-blue": written}, keys={KEY.hash.id: key})
    assert written.client == CLIENT


async def test_a_client_is_written_only_over_what_was_read(table: ClientTable) -> None:
    with pytest.raises(ResourceNotFoundError):
        await table.put_client(CLIENT, etag="*")
    first = await table.put_client(CLIENT, create=True)
    with pytest.raises(ResourceExistsError):
        await table.put_client(CLIENT, create=True)
    second = await table.put_client(CLIENT, etag=first.etag)
    with pytest.raises(ResourceModifiedError):
        await table.put_client(CLIENT, etag=first.etag)
    assert (await table.put_client(CLIENT)).etag != second.etag


async def test_a_client_goes_with_more_keys_than_a_transaction_holds(table: ClientTable) -> None:
    await table.put_client(CLIENT)
    ids = [f"{number:08x}" for number in range(120)]
    for id_ in ids:
        await table.put_key(StoredKey(id=id_, client_id="team-blue", salt="", hash=""))
    await table.delete_client("team-blue", ids)
    assert await table.read() == Stored()


async def test_the_configurations_and_the_tables_clients_are_one_directory(table: ClientTable) -> None:
    directory = await directory_over(table)
    await table.put_client(CLIENT)
    await table.put_key(stored_key())
    await directory.refresh()
    assert opened(directory) == {KEY.hash.id: "team-blue", OTHER_KEY.hash.id: "team-red"}
    assert directory.current is not None
    assert set(directory.current.clients_by_id) == {"team-blue", "team-red"}


async def test_what_one_instance_does_holds_there_at_once_and_elsewhere_with_the_next_look(table: ClientTable) -> None:
    here, there = await directory_over(table), await directory_over(table)
    await here.refresh()
    await here.put_client(CLIENT)
    await here.put_key(stored_key())
    await there.refresh()
    assert KEY.hash.id in opened(here)
    assert KEY.hash.id in opened(there)
    await here.put_key(StoredKey(id=KEY.hash.id, client_id="team-blue", salt="", hash="", revoked_at=AT))
    assert KEY.hash.id not in opened(here)
    assert KEY.hash.id in opened(there)
    await there.refresh()
    assert KEY.hash.id not in opened(there)


class SlowTable(ClientTable):
    """Hands over what it has read only when it is told to: another write comes between."""

    def __init__(self, table: ClientTable) -> None:
        super().__init__(table._table)
        self.has_read = asyncio.Event()
        self.may_go_on = asyncio.Event()

    @override
    async def read(self) -> Stored:
        stored = await super().read()
        self.has_read.set()
        await self.may_go_on.wait()
        return stored


async def test_a_look_that_began_before_a_revocation_does_not_undo_it(table: ClientTable) -> None:
    await table.put_client(CLIENT)
    await table.put_key(stored_key())
    slow = SlowTable(table)
    directory = await directory_over(slow)
    look = asyncio.create_task(directory.refresh())
    await slow.has_read.wait()
    await directory.put_key(StoredKey(id=KEY.hash.id, client_id="team-blue", salt="", hash="", revoked_at=AT))
    slow.may_go_on.set()
    await look
    assert KEY.hash.id not in opened(directory)


async def test_a_key_expires_by_the_clock_alone(table: ClientTable) -> None:
    now = Clock()
    directory = await directory_over(table, now)
    await directory.refresh()
    await directory.put_client(CLIENT)
    await directory.put_key(stored_key(expires_at=AT + timedelta(hours=1)))
    now.at = AT + timedelta(minutes=59)
    directory.rebuild()
    assert KEY.hash.id in opened(directory)
    now.at = AT + timedelta(hours=1)
    directory.rebuild()
    assert KEY.hash.id not in opened(directory)


async def test_nothing_new_leaves_the_same_snapshot(table: ClientTable) -> None:
    directory = await directory_over(table)
    await directory.refresh()
    before = directory.current
    await directory.refresh()
    assert directory.current is before


async def test_whoever_something_unreadable_is_said_of_is_refused(
    table: ClientTable, caplog: pytest.LogCaptureFixture
) -> None:
    directory = await directory_over(table)
    await table.put_client(CLIENT)
    await table.put_key(stored_key())
    await table._table.create_entity({"PartitionKey": "team-red", "RowKey": f"key-{OTHER_KEY.hash.id}"})
    await table._table.create_entity(
        {"PartitionKey": "team-x", "RowKey": "client", "Document": '{"id": "team-x", "a": 1}'}
    )
    await directory.refresh()
    assert opened(directory) == {KEY.hash.id: "team-blue"}
    assert directory.status().unreadable == 2
    told = [record for record in caplog.records if record.message == "client unreadable"]
    assert {vars(record)["client_id"] for record in told} == {"team-red", "team-x"}
    await directory.refresh()
    assert len([record for record in caplog.records if record.message == "client unreadable"]) == 2, "told once"


async def test_without_a_first_look_everyone_is_refused(table: ClientTable) -> None:
    directory = await directory_over(table)
    directory.rebuild()
    assert directory.current is None
    status = directory.status()
    assert (status.refreshed_at, status.age_s) == (None, None)


async def test_without_a_configuration_everyone_is_refused(table: ClientTable) -> None:
    directory = await directory_over(table, document="{")
    await directory.refresh()
    assert directory.current is None


async def test_while_the_table_is_away_the_last_good_snapshot_stays(prefix: str) -> None:
    now = Clock()
    with Azurite.start() as own:
        table = ClientTable(client_table(own, prefix))
        await table.prepare()
        directory = await directory_over(table, now)
        await directory.refresh()
        await directory.put_client(CLIENT)
        await directory.put_key(stored_key(expires_at=AT + timedelta(hours=1)))
    now.at = AT + timedelta(seconds=90)
    with pytest.raises(NotReady):
        await directory.refresh()
    assert KEY.hash.id in opened(directory)
    status = directory.status()
    assert (status.refreshed_at, status.age_s) == (AT, 90)
    assert (status.problem or "").startswith("the clients table cannot be read")
    now.at = AT + timedelta(hours=2)
    with pytest.raises(NotReady):
        await directory.refresh()
    assert KEY.hash.id not in opened(directory)  # it has expired meanwhile
    with pytest.raises(AzureError):
        await directory.put_client(CLIENT)
    await table.close()


async def test_a_new_configuration_is_taken_with_everyones_keys(table: ClientTable) -> None:
    directory = await directory_over(table)
    await table.put_client(CLIENT)
    await table.put_key(stored_key())
    await directory.refresh()
    directory.source.current = Configuration(**_fields(await directory_over(table, document="{}")))
    directory.rebuild()
    assert opened(directory) == {KEY.hash.id: "team-blue"}


def _fields(directory: Directory) -> dict[str, object]:
    current = directory.source.current
    assert current is not None
    return {name: getattr(current, name) for name in current.__struct_fields__}
