"""Client keys: their text, and the check."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.clients.keys import RANDOM_BYTES, SHORTEST_ADOPTED, KeyHash, adopt, key_id, looked_up_by, mint, verify

FRESH = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)

NO_KEYS = {
    "empty": "",
    "another service's": "sk-proj-0123456789",
    "id too short": "tg-abcdef0-" + "A" * 43,
    "id in capitals": "tg-ABCDEF01-" + "A" * 43,
    "secret too short": "tg-abcdef01-" + "A" * 42,
    "secret too long": "tg-abcdef01-" + "A" * 44,
    "not ASCII": "tg-abcdef01-" + "ä" * 43,
    "a line after it": "tg-abcdef01-" + "A" * 43 + "\n",
}


@given(FRESH)
def test_a_minted_key_verifies_and_names_its_hash(random_bytes: bytes) -> None:
    minted = mint(random_bytes)
    assert verify(minted.text, minted.hash)
    assert key_id(minted.text) == minted.hash.id


@given(FRESH, FRESH)
def test_another_key_does_not_verify(one: bytes, other: bytes) -> None:
    assert verify(mint(one).text, mint(other).hash) == (mint(one).text == mint(other).text)


def test_a_changed_secret_does_not_verify() -> None:
    minted = mint(bytes(RANDOM_BYTES))
    assert not verify(minted.text[:-1] + "B", minted.hash)


def test_the_hash_is_salt_then_key() -> None:
    minted = mint(bytes(range(RANDOM_BYTES)))
    assert minted.text == "tg-00010203-FBUWFxgZGhscHR4fICEiIyQlJicoKSorLC0uLzAxMjM"
    assert minted.hash == KeyHash(
        id="00010203",
        salt=bytes(range(4, 20)).hex(),
        hash=hashlib.sha256(bytes(range(4, 20)) + minted.text.encode()).hexdigest(),
    )


def test_what_is_kept_does_not_contain_the_key() -> None:
    minted = mint(bytes(range(RANDOM_BYTES)))
    assert minted.text.rsplit("-", 1)[1] not in msgspec.json.encode(minted.hash).decode()


@pytest.mark.parametrize("text", NO_KEYS.values(), ids=NO_KEYS.keys())
def test_a_text_that_is_no_key_has_no_id_and_never_verifies(text: str) -> None:
    assert key_id(text) is None
    assert not verify(text, KeyHash(id="abcdef01", salt="00" * 16, hash="00" * 32))


@pytest.mark.parametrize("count", [0, RANDOM_BYTES - 1, RANDOM_BYTES + 1])
def test_minting_takes_exactly_the_bytes_it_needs(count: int) -> None:
    with pytest.raises(ValueError, match="random bytes"):
        mint(bytes(count))


@given(st.text(min_size=SHORTEST_ADOPTED), st.binary(min_size=16, max_size=16))
def test_a_key_of_another_gateway_can_be_adopted_and_is_then_the_only_one_that_verifies(text: str, salt: bytes) -> None:
    kept = adopt(text, salt)
    assert kept.id == looked_up_by(text)
    assert verify(text, kept)
    assert not verify(text + "x", kept)


def test_one_of_our_own_keys_keeps_its_id_when_it_is_adopted() -> None:
    minted = mint(bytes(range(RANDOM_BYTES)))
    assert adopt(minted.text, bytes(16)).id == minted.hash.id


def test_a_key_that_could_be_guessed_is_not_adopted() -> None:
    with pytest.raises(ValueError, match="could be guessed"):
        adopt("x" * (SHORTEST_ADOPTED - 1), bytes(16))
