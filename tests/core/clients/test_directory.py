"""The table wins, client by client and key by key."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from shared.core.clients.directory import (
    KeyState,
    Source,
    Stored,
    StoredClient,
    StoredKey,
    clients_of,
    keys_of,
    open_keys,
    state_of,
    view_of,
)
from shared.core.clients.keys import RANDOM_BYTES, mint
from shared.core.configuration import Client, parse

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
KEY = mint(bytes(RANDOM_BYTES)).hash
DOCUMENT = {"clients": [{"id": "red", "cost_center": "file", "keys": [msgspec.to_builtins(KEY)]}, {"id": "blue"}]}
CONFIGURATION = parse(msgspec.json.encode(DOCUMENT).decode(), {})
OF_RED = StoredKey(id=KEY.id, client_id="red", salt=KEY.salt, hash=KEY.hash)


def stored(*keys: StoredKey, red: bool = False) -> Stored:
    client = StoredClient(client=Client(id="red", cost_center="table"), etag="1")
    return Stored(clients={"red": client} if red else {}, keys={key.id: key for key in keys})


def at(**fields: object) -> StoredKey:
    return msgspec.structs.replace(OF_RED, **fields)


STATES = {
    "nothing said": (at(), KeyState.ACTIVE),
    "expires later": (at(expires_at=NOW + SECOND), KeyState.ACTIVE),
    "expires now": (at(expires_at=NOW), KeyState.EXPIRED),
    "expired": (at(expires_at=NOW - SECOND), KeyState.EXPIRED),
    "revoked": (at(revoked_at=NOW), KeyState.REVOKED),
    "revoked, by a clock ahead of ours": (at(revoked_at=NOW + SECOND), KeyState.REVOKED),
    "revoked and expired": (at(revoked_at=NOW, expires_at=NOW), KeyState.REVOKED),
}


@pytest.mark.parametrize(("key", "state"), STATES.values(), ids=STATES.keys())
def test_the_state_of_a_key(key: StoredKey, state: KeyState) -> None:
    assert state_of(key, NOW) is state
    opened = open_keys(CONFIGURATION, stored(key), NOW)
    assert (KEY.id in opened) == (state is KeyState.ACTIVE)


def test_a_client_of_the_table_takes_the_place_of_the_configurations_and_keeps_its_keys() -> None:
    assert clients_of(CONFIGURATION, stored(red=True))["red"].cost_center == "table"
    kept, client = open_keys(CONFIGURATION, stored(red=True), NOW)[KEY.id]
    assert (kept, client.cost_center) == (KEY, "table")
    assert open_keys(CONFIGURATION, stored(), NOW)[KEY.id][1].cost_center == "file"


def test_a_client_of_the_configuration_may_have_keys_of_the_table() -> None:
    other = at(id="00000001", client_id="blue")
    opened = open_keys(CONFIGURATION, stored(other), NOW)
    assert {id_: client.id for id_, (_, client) in opened.items()} == {KEY.id: "red", "00000001": "blue"}


def test_a_key_of_nobody_opens_nothing() -> None:
    assert not open_keys(None, stored(at(client_id="gone")), NOW)


def test_whoever_cannot_be_read_about_is_refused() -> None:
    unreadable = msgspec.structs.replace(stored(), unreadable={"red": "why"})
    assert not open_keys(CONFIGURATION, unreadable, NOW)


def test_without_a_configuration_there_is_the_table() -> None:
    assert set(clients_of(None, stored(red=True))) == {"red"}
    assert set(keys_of(None, stored(OF_RED, red=True))) == {KEY.id}


def test_what_is_shown_of_a_key_holds_no_hash() -> None:
    for source, known in ((Source.TABLE, stored(OF_RED)), (Source.CONFIGURATION, stored())):
        view = view_of(OF_RED, known, NOW)
        assert view.source is source
        assert KEY.hash.encode() not in msgspec.json.encode(view)
        assert KEY.salt.encode() not in msgspec.json.encode(view)
