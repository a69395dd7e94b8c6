"""Whom tokens and principals mean."""

import base64
import json
from typing import Any

import pytest

from shared.core.clients.claims import Claims, claims_of, clash, client_of, is_current, members_of, principal_claims
from shared.core.configuration import Client

CLIENTS = (
    Client(id="first", apps=("App-1",), groups=("Group-1",), roles=("Reader",)),
    Client(id="second", apps=("app-2",), groups=("group-2", "group-1"), roles=("Writer",)),
    Client(id="none"),
)
MEMBERS = members_of(CLIENTS)

PAYLOADS: dict[str, tuple[dict[str, Any], str | None]] = {
    "an app's token, version 1": ({"appid": "app-1"}, "first"),
    "an app's token, version 2": ({"azp": "APP-2"}, "second"),
    "an app that nobody has": ({"azp": "app-3"}, None),
    "a group": ({"groups": ["group-2"]}, "second"),
    "a role": ({"roles": ["Writer"]}, "second"),
    "a role in other letters is another": ({"roles": ["writer"]}, None),
    "an app before a group": ({"azp": "app-2", "groups": ["group-1"]}, "second"),
    "an unknown app, so the group": ({"azp": "app-3", "groups": ["group-2"]}, "second"),
    "a group before a role": ({"groups": ["group-2"], "roles": ["Reader"]}, "second"),
    "several groups: the client that is named first": ({"groups": ["group-2", "group-1"]}, "first"),
    "several groups of one client": ({"groups": ["x", "group-2", "group-2"]}, "second"),
    "a role as a text": ({"roles": "Reader"}, "first"),
    "a group's id as an app's": ({"azp": "group-1", "appid": "reader"}, None),
    "nobody": ({}, None),
    "an empty app": ({"azp": ""}, None),
    "claims of other types": ({"azp": 1, "groups": {"group-1": 1}, "roles": [["Reader"], None, 7]}, None),
    "two apps: version 1's word": ({"appid": "app-1", "azp": "app-2"}, "first"),
}


@pytest.mark.parametrize(("payload", "client_id"), PAYLOADS.values(), ids=PAYLOADS.keys())
def test_a_token_means_a_client(payload: dict[str, Any], client_id: str | None) -> None:
    client = client_of(claims_of(payload), MEMBERS)
    assert (client.id if client else None) == client_id


CLASHES: dict[str, tuple[Client, str | None]] = {
    "an app of another": (Client(id="new", apps=("APP-1",)), "apps: 'app-1' already means the client 'first'."),
    "a role of another": (Client(id="new", roles=("Writer",)), "roles: 'Writer' already means the client 'second'."),
    "its own": (Client(id="first", apps=("app-1",)), None),
    "none": (Client(id="new"), None),
}


@pytest.mark.parametrize(("client", "problem"), CLASHES.values(), ids=CLASHES.keys())
def test_what_means_one_client_cannot_mean_another(client: Client, problem: str | None) -> None:
    assert clash(client, (CLIENTS[0], Client(id="second", roles=("Writer",)))) == problem


INSTANTS: dict[str, tuple[dict[str, Any], bool]] = {
    "now": ({"nbf": 900, "exp": 1100}, True),
    "expired": ({"exp": 900}, False),
    "expired less than a minute ago: clocks differ": ({"exp": 941}, True),
    "not yet": ({"nbf": 1100, "exp": 2000}, False),
    "in less than a minute": ({"nbf": 1059, "exp": 2000}, True),
    "for ever is not said": ({"nbf": 900}, False),
    "an end that is no number": ({"exp": "9999"}, False),
    "an end that is not a number": ({"exp": float("nan")}, False),
    "a beginning that is not a number": ({"nbf": float("nan"), "exp": 2000}, False),
}


@pytest.mark.parametrize(("payload", "expected"), INSTANTS.values(), ids=INSTANTS.keys())
def test_a_token_holds_for_its_time(payload: dict[str, Any], *, expected: bool) -> None:
    assert is_current(claims_of(payload), 1000.0) is expected


def principal(*claims: tuple[str, str], auth_typ: str = "aad") -> str:
    said = {"auth_typ": auth_typ, "claims": [{"typ": typ, "val": val} for typ, val in claims], "name_typ": "n"}
    return base64.b64encode(json.dumps(said).encode()).decode()


MICROSOFT = "http://schemas.microsoft.com/ws/2008/06/identity/claims"
PRINCIPALS: dict[str, tuple[str, Claims | None]] = {
    "an app": (principal(("appid", "App-1"), ("ver", "1.0")), Claims(apps=("app-1",))),
    "a person": (
        principal(("groups", "g1"), ("groups", "g2"), ("roles", "Reader"), ("name", "n")),
        Claims(groups=("g1", "g2"), roles=("Reader",)),
    ),
    "with long names": (
        principal((f"{MICROSOFT}/groups", "g1"), (f"{MICROSOFT}/role", "Reader")),
        Claims(groups=("g1",), roles=("Reader",)),
    ),
    "another provider": (principal(("roles", "Reader"), auth_typ="google"), None),
    "no provider": (base64.b64encode(b'{"claims":[]}').decode(), None),
    "not base64": ("{}", None),
    "not JSON": (base64.b64encode(b"\xff").decode(), None),
    "not an object": (base64.b64encode(b"[]").decode(), None),
    "not ASCII": ("schlüssel", None),
    "too deep": (base64.b64encode(b'{"x":' + b"[" * 100_000).decode(), None),
    "claims of other types": (base64.b64encode(b'{"auth_typ":"aad","claims":[{"typ":1,"val":2}]}').decode(), None),
}


@pytest.mark.parametrize(("header", "claims"), PRINCIPALS.values(), ids=PRINCIPALS.keys())
def test_a_principal_has_the_same_claims(header: str, claims: Claims | None) -> None:
    assert principal_claims(header) == claims
