"""Who calls."""

import pytest

from shared.core.clients.identity import identify, presented_key, presents_admin_key
from shared.core.clients.keys import RANDOM_BYTES, mint
from shared.core.configuration import Client
from shared.core.errors import Unauthenticated
from shared.core.headers import Headers

BLUE, RED = mint(bytes([1]) * RANDOM_BYTES), mint(bytes([2]) * RANDOM_BYTES)
CLIENT = Client(id="team-blue")
KEYS = {BLUE.hash.id: (BLUE.hash, CLIENT)}

PRESENTED: dict[str, tuple[Headers, str | None]] = {
    "OpenAI's way": ((("authorization", "Bearer k"),), "k"),
    "the scheme in any letters": ((("authorization", "bEARER  k "),), "k"),
    "Azure's way": ((("api-key", "k"),), "k"),
    "both: OpenAI's": ((("api-key", "a"), ("authorization", "Bearer b")), "b"),
    "another scheme leaves Azure's": ((("authorization", "Basic x"), ("api-key", "a")), "a"),
    "another scheme": ((("authorization", "Basic k"),), None),
    "no scheme": ((("authorization", "k"),), None),
    "none": ((), None),
}

STRANGERS: dict[str, tuple[Headers, str]] = {
    "no key": ((), "didn't provide"),
    "an empty key": ((("authorization", "Bearer "),), "didn't provide"),
    "a key of no form of ours": ((("api-key", "sk-proj-1"),), "Incorrect"),
    "a key that nobody has": ((("api-key", RED.text),), "Incorrect"),
    "a known id with another secret": ((("api-key", BLUE.text[:12] + RED.text[12:]),), "Incorrect"),
    "not ASCII": ((("api-key", "schlüssel"),), "Incorrect"),
}


@pytest.mark.parametrize(("headers", "key"), PRESENTED.values(), ids=PRESENTED.keys())
def test_the_key_that_a_request_carries(headers: Headers, key: str | None) -> None:
    assert presented_key(headers) == key


@pytest.mark.parametrize("headers", [(("authorization", f"Bearer {BLUE.text}"),), (("api-key", BLUE.text),)])
def test_a_known_key_names_its_client(headers: Headers) -> None:
    assert identify(headers, KEYS) is CLIENT


@pytest.mark.parametrize(("headers", "message"), STRANGERS.values(), ids=STRANGERS.keys())
def test_a_stranger_is_refused_without_saying_what_is_wrong_with_the_key(headers: Headers, message: str) -> None:
    with pytest.raises(Unauthenticated, match=message) as caught:
        identify(headers, KEYS)
    assert caught.value.status == 401
    assert not any(value.strip() in caught.value.message for _, value in headers if len(value) > len("Bearer "))


ADMINS: dict[str, tuple[Headers, str, bool]] = {
    "the key": ((("authorization", "Bearer k"),), "k", True),
    "Azure's way": ((("api-key", "k"),), "k", True),
    "another": ((("api-key", "j"),), "k", False),
    "the beginning of it": ((("api-key", "k"),), "kk", False),
    "not ASCII": ((("api-key", "schlüssel"),), "k", False),
    "none": ((), "k", False),
    "none, and there is none": ((), "", False),
    "an empty one, and there is none": ((("api-key", ""),), "", False),
    "some, and there is none": ((("api-key", "k"),), "", False),
}


@pytest.mark.parametrize(("headers", "admin_key", "is_admin"), ADMINS.values(), ids=ADMINS.keys())
def test_the_admin_key_is_its_whole_text_and_never_nothing(headers: Headers, admin_key: str, *, is_admin: bool) -> None:
    assert presents_admin_key(headers, admin_key) is is_admin
