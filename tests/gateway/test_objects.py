"""Who owns which object, as all instances of the gateway know it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from azure.data.tables.aio import TableClient

from devtools.azurite import Azurite
from shared.core.api.references import StoredObject
from shared.core.configuration import Client
from shared.core.errors import NotFound
from shared.gateway.objects import Objects
from shared.gateway.stickiness import PassingIds
from tests.examples import NOON

ITEM, RESPONSE = "msg_67ccd2bf17f0819081ff3bb2cf6508e6", "resp_67ccd2bf17f0819081ff3bb2cf6508e6"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> object:
        return self.time


@pytest.fixture
async def instances(azurite: Azurite) -> AsyncIterator[tuple[Objects, Objects, Clock]]:
    """Two of them, on one table."""
    clock, name = Clock(), f"Objects{uuid4().hex}"
    one, two = (
        Objects(TableClient.from_connection_string(azurite.connection_string, name), clock)  # type: ignore[arg-type]
        for _ in range(2)
    )
    await one.prepare()
    yield one, two, clock
    await one.close()
    await two.close()


def of(client_id: str, *ids: str) -> list[StoredObject]:
    return [StoredObject(object_id=each, client_id=client_id, upstream="east") for each in ids]


async def test_an_object_belongs_to_its_first_owner_everywhere(instances: tuple[Objects, Objects, Clock]) -> None:
    one, two, _ = instances
    await one.register(of("a", RESPONSE, ITEM))
    await two.register(of("b", ITEM))
    for objects in instances[:2]:
        assert {each.object_id: each.client_id for each in await objects.find_all([ITEM, RESPONSE, "msg_0"])} == {
            ITEM: "a",
            RESPONSE: "a",
        }


async def test_what_was_nobodys_is_the_clients_from_the_moment_it_is_known_here(
    instances: tuple[Objects, Objects, Clock],
) -> None:
    one, two, clock = instances
    assert not await one.find_all([ITEM])
    assert not await two.find_all([ITEM])
    await one.register(of("a", ITEM))
    assert await one.find_all([ITEM])
    clock.time += timedelta(minutes=2)
    assert await two.find_all([ITEM]), "elsewhere it is looked for again after a while"


async def test_what_becomes_the_clients_while_it_is_looked_for_is_not_taken_for_nobodys(
    instances: tuple[Objects, Objects, Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, look = instances[0], instances[0].find

    async def slowly(object_id: str) -> StoredObject | None:
        found = await look(object_id)
        await objects.register(of("a", ITEM))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(objects, "find", slowly)
        assert await objects.find_all([ITEM]) == []
    assert await objects.find_all([ITEM]) == of("a", ITEM)


async def test_an_item_is_forgotten_with_its_response_but_not_with_its_conversation(
    instances: tuple[Objects, Objects, Clock],
) -> None:
    one, two, clock = instances
    await one.register(of("a", RESPONSE, ITEM))
    await one.register(of("a", f"{ITEM}1"), in_conversation=True)
    clock.time += timedelta(days=32)
    assert await one.remove_expired() == 2
    assert [each.object_id for each in await two.find_all([RESPONSE, ITEM, f"{ITEM}1"])] == [f"{ITEM}1"]


@pytest.mark.parametrize(
    "written", [RESPONSE, ITEM, "\\u0072esp" + RESPONSE[4:]], ids=["an object", "an item", "escaped"]
)
async def test_an_id_in_a_file_that_passes_through_is_seen_wherever_it_is_cut(
    instances: tuple[Objects, Objects, Clock], written: str
) -> None:
    objects = instances[0]
    await objects.register(of("a", RESPONSE, ITEM))
    line = b'{"body":{"previous_response_id":"' + written.encode() + b'"}}'

    async def passes(client_id: str, *pieces: bytes) -> None:
        ids = PassingIds(Client(id=client_id), objects)
        for piece in pieces:
            await ids.feed(piece)

    for cut in range(len(line)):
        with pytest.raises(NotFound):
            await passes("b", line[:cut], line[cut:])
    await passes("a", line)
