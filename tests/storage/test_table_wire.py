"""Table Storage's own protocol, against a real one."""

import msgspec
import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.data.tables import TableTransactionError
from azure.data.tables.aio import TableClient

from shared.storage.entities import Entity
from shared.storage.table_wire import TRANSACTION_LIMIT, Change, Reader, columns_of, quoted, submit
from tests.emulator import Storage


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    row_key: str
    text: str = ""
    number: int = 0
    unset: int | None = None


THINGS = Reader(columns_of(Thing), lambda columns: msgspec.convert(columns, Thing, from_attributes=True))


@pytest.fixture
def table(storage: Storage) -> TableClient:
    return storage.usage._table


def entity(key: str, **properties: object) -> Entity:
    return {"PartitionKey": "p", "RowKey": key, **properties}


async def things(table: TableClient) -> list[Thing]:
    return [thing async for thing in THINGS.read(table, "PartitionKey eq 'p'")]


async def test_all_pages_are_read_and_only_what_is_asked_for(table: TableClient) -> None:
    keys = [f"{number:04}" for number in range(2100)]
    for start in range(0, len(keys), TRANSACTION_LIMIT):
        await submit(table, [Change("PUT", entity(key, Other=1)) for key in keys[start : start + TRANSACTION_LIMIT]])
    assert await things(table) == [Thing(row_key=key) for key in keys]


@pytest.mark.parametrize("text", ["o'hara & söhne", "\u2028 \r\n--changeset_tollgate--\r\n", '"\\', "100 % +/?#"])
async def test_any_text_comes_back_in_keys_and_properties(table: TableClient, text: str) -> None:
    key = text.translate(dict.fromkeys(map(ord, "/\\#?\r\n\u2028"), "_"))  # what a key must not have
    await submit(table, [Change("PUT", entity(key, Text=text))])
    assert await things(table) == [Thing(row_key=key, text=text)]
    wanted = f"PartitionKey eq 'p' and RowKey eq {quoted(key)}"
    assert [thing.text async for thing in THINGS.read(table, wanted)] == [text]


async def test_a_merge_keeps_what_it_does_not_name_and_a_replacement_does_not(table: TableClient) -> None:
    await submit(table, [Change("PUT", entity("k", Text="one", Number=1))])
    await submit(table, [Change("PATCH", entity("k", Number=2))])
    assert await things(table) == [Thing(row_key="k", text="one", number=2)]
    await submit(table, [Change("PUT", entity("k", Number=3))])
    assert await things(table) == [Thing(row_key="k", number=3)]
    await submit(table, [Change("DELETE", entity("k"))])
    assert await things(table) == []


async def test_a_transaction_whose_condition_does_not_hold_changes_nothing(table: TableClient) -> None:
    first = await submit(table, [Change("POST", entity("k", Number=1))])
    second = await submit(table, [Change("PUT", entity("k", Number=2), first)])
    assert second != first
    for change, status in (
        (Change("PUT", entity("k"), first), 412),
        (Change("DELETE", entity("k"), first), 412),
        (Change("POST", entity("k")), 409),
        (Change("DELETE", entity("gone"), first), 404),
    ):
        with pytest.raises(TableTransactionError) as caught:
            await submit(table, [Change("PUT", entity("other")), change])
        assert caught.value.status_code == status
    assert await things(table) == [Thing(row_key="k", number=2)]


async def test_what_is_no_filter_is_told(table: TableClient) -> None:
    with pytest.raises(HttpResponseError) as caught:
        [thing async for thing in THINGS.read(table, "nonsense eq")]
    assert caught.value.status_code in (400, 500, 501)


async def test_a_table_that_is_missing_is_told_as_the_sdk_tells_it(table: TableClient) -> None:
    await table.delete_table()
    with pytest.raises(ResourceNotFoundError):
        _ = [thing async for thing in THINGS.read(table, "PartitionKey eq 'a'")]
