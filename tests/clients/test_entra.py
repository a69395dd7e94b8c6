"""Tokens of Entra ID, against an issuer that runs here."""

import asyncio
import base64
import hmac
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shared.clients.entra import EntraTokens, looks_like_token
from shared.core.configuration import Entra
from shared.core.errors import NotReady, Unauthenticated
from tests.entra import TENANT, Issuer, public_jwk

STRANGER = rsa.generate_private_key(65537, 2048)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer.start() as started:
        yield started


class Clock:
    """The wall clock and a monotonic one, which a test sets forward."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return self.passed_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> EntraTokens:
    return EntraTokens(clock.now, clock.monotonic)


def trust_in(issuer: Issuer) -> Entra:
    return msgspec.convert(issuer.trust(), Entra)


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def hmac_with_public_key(issuer: Issuer) -> str:
    """RFC 8725 §2.1: the public key taken for the secret of an HMAC. PyJWT will not make one, so it is made by hand."""
    pem = (
        issuer.keys["key-1"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'key-1'})}.{part(issuer.claims())}"
    signature = base64.urlsafe_b64encode(hmac.digest(pem, signed.encode(), "sha256")).rstrip(b"=").decode()
    return f"{signed}.{signature}"


def with_payload(token: str, **changes: Any) -> str:
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "==")) | changes
    return f"{header}.{part(claims)}.{signature}"


FORGED: dict[str, Callable[[Issuer], str]] = {
    "expired": lambda issuer: issuer.token(exp=1_000_000_000),
    "not yet": lambda issuer: issuer.token(nbf=4_000_000_000, exp=4_100_000_000),
    "without an end": lambda issuer: issuer.token(exp=None),
    "for another audience": lambda issuer: issuer.token(aud="https://graph.microsoft.com"),
    "for no audience": lambda issuer: issuer.token(aud=None),
    "for one like ours": lambda issuer: issuer.token(aud="api://tollgate/"),
    "of another tenant": lambda issuer: issuer.token(iss="https://login.microsoftonline.com/other/v2.0"),
    "of nobody": lambda issuer: issuer.token(iss=None),
    "signed with another's key": lambda issuer: jwt.encode(issuer.claims(), STRANGER, "RS256", {"kid": "key-1"}),
    "signed with another's key, sent along": lambda issuer: jwt.encode(
        issuer.claims(), STRANGER, "RS256", {"kid": "key-1", "jwk": public_jwk("key-1", STRANGER)}
    ),
    "with keys of its own place": lambda issuer: jwt.encode(
        issuer.claims(), STRANGER, "RS256", {"kid": "mine", "jku": "http://127.0.0.1:9/keys"}
    ),
    "unsigned": lambda issuer: f"{part({'alg': 'none', 'kid': 'key-1'})}.{part(issuer.claims())}.",
    "unsigned, with its signature": lambda issuer: ".".join(
        [part({"alg": "none", "kid": "key-1"}), *issuer.token().split(".")[1:]]
    ),
    "HMAC with the public key": hmac_with_public_key,
    "another RSA signature": lambda issuer: jwt.encode(
        issuer.claims(), issuer.keys["key-1"], "RS512", {"kid": "key-1"}
    ),
    "PSS": lambda issuer: jwt.encode(issuer.claims(), issuer.keys["key-1"], "PS256", {"kid": "key-1"}),
    "an elliptic curve": lambda issuer: jwt.encode(
        issuer.claims(), ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": "key-1"}
    ),
    "other claims under the signature": lambda issuer: with_payload(issuer.token(), roles=["Admin"]),
    "no key id": lambda issuer: jwt.encode(issuer.claims(), issuer.keys["key-1"], "RS256"),
    "a key id that is a path": lambda issuer: issuer.token({"kid": "../../keys"}),
    "a key id that is a query": lambda issuer: issuer.token({"kid": "key-1' OR '1'='1"}),
    "a key id that is no text": lambda issuer: (
        f"{part({'alg': 'RS256', 'kid': ['key-1']})}.{issuer.token().partition('.')[2]}"
    ),
    "critical extensions": lambda issuer: issuer.token({"crit": ["exp"], "b64": False}),
    "huge": lambda issuer: issuer.token(padding="x" * 20_000),
    "no JSON": lambda _: "eyJ.eyJ.x",
    "empty parts": lambda _: "eyJ..",
    "not ASCII": lambda _: "eyJü.é.ß",
    "a header that is a list": lambda issuer: f"{part([1])}.{part(issuer.claims())}.x",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
async def test_a_token_that_is_not_right_in_every_way_is_refused(
    issuer: Issuer, tokens: EntraTokens, forge: Callable[[Issuer], str]
) -> None:
    token = forge(issuer)
    for _ in range(2):  # not even the second time
        with pytest.raises(Unauthenticated) as caught:
            await tokens.claims(token, trust_in(issuer))
        assert (caught.value.status, caught.value.code) == (401, "invalid_token")
        assert token not in caught.value.message


_JUST_NOW = object()
"""As seen when the test runs, which may be long after it was collected."""

RIGHT: dict[str, dict[str, Any]] = {
    "version 2": {"azp": "app-1"},
    "version 1": {"iss": f"https://sts.windows.net/{TENANT}/", "appid": "app-1"},
    "for the client id": {"aud": "client-id", "azp": "app-1"},
    "just expired: clocks differ": {"exp": _JUST_NOW, "azp": "app-1"},
}


@pytest.mark.parametrize("claims", RIGHT.values(), ids=RIGHT.keys())
async def test_a_token_that_is_right_tells_its_claims(
    issuer: Issuer, tokens: EntraTokens, claims: dict[str, Any]
) -> None:
    if claims.get("exp") is _JUST_NOW:
        claims = claims | {"exp": int(datetime.now(UTC).timestamp()) - 5}
    found = await tokens.claims(issuer.token(**claims, roles=["Reader"]), trust_in(issuer))
    assert (found.apps, found.roles) == (("app-1",), ("Reader",))


async def test_a_token_is_verified_once_until_it_expires(issuer: Issuer, tokens: EntraTokens, clock: Clock) -> None:
    token, trust = issuer.token(azp="a"), trust_in(issuer)
    first = await tokens.claims(token, trust)
    assert await tokens.claims(token, trust) is first
    clock.passed_s = 3600 + 61
    with pytest.raises(Unauthenticated, match="expired"):
        await tokens.claims(token, trust)


async def test_no_more_tokens_are_remembered_than_there_is_room_for(
    issuer: Issuer, tokens: EntraTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.clients.entra._MAX_KNOWN", 2)
    for app in ("a", "b", "c"):
        await tokens.claims(issuer.token(azp=app), trust_in(issuer))
    assert [claims.apps for claims in tokens._known.values()] == [("b",), ("c",)]


async def test_another_configuration_is_not_served_from_what_the_last_one_allowed(
    issuer: Issuer, tokens: EntraTokens
) -> None:
    token, trust = issuer.token(), trust_in(issuer)
    await tokens.claims(token, trust)
    with pytest.raises(Unauthenticated, match="another audience"):
        await tokens.claims(token, msgspec.structs.replace(trust, audiences=("api://other",)))
    with pytest.raises(Unauthenticated, match="another issuer"):
        await tokens.claims(token, msgspec.structs.replace(trust, tenant_id="other"))
    await tokens.claims(token, trust)


async def test_a_new_key_is_found_once_a_minute_at_most(issuer: Issuer, tokens: EntraTokens, clock: Clock) -> None:
    trust = trust_in(issuer)
    await tokens.claims(issuer.token(), trust)
    issuer.rotate("key-2")
    token = issuer.token(azp="new")
    for _ in range(5):
        with pytest.raises(Unauthenticated, match="does not have"):
            await tokens.claims(token, trust)
    assert issuer.requests == 1
    clock.passed_s = 61
    assert (await tokens.claims(token, trust)).apps == ("new",)
    assert issuer.requests == 2


async def test_calls_at_once_wait_for_one_fetch(issuer: Issuer, tokens: EntraTokens) -> None:
    trust = trust_in(issuer)
    asked = (tokens.claims(issuer.token(azp=f"app-{n}"), trust) for n in range(20))
    assert len(await asyncio.gather(*asked)) == 20
    assert issuer.requests == 1


async def test_a_caller_that_hangs_up_does_not_end_the_fetch_for_others(issuer: Issuer, tokens: EntraTokens) -> None:
    trust = trust_in(issuer)
    first = asyncio.create_task(tokens.claims(issuer.token(), trust))
    second = asyncio.create_task(tokens.claims(issuer.token(azp="b"), trust))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).apps == ("b",)
    assert issuer.requests == 1


async def test_keys_that_we_have_are_kept_while_their_place_is_away(
    issuer: Issuer, tokens: EntraTokens, clock: Clock
) -> None:
    trust = trust_in(issuer)
    await tokens.follow(trust)
    issuer.is_away = True
    for passed_s in (3601, 7300):
        clock.passed_s = passed_s
        await tokens.follow(trust)
        assert (await tokens.claims(issuer.token(exp=20_000_000_000, azp=f"{passed_s}"), trust)).apps
    assert issuer.requests == 3


DOCUMENTS: dict[str, bytes] = {
    "no JSON": b"<html>",
    "no set": b"[]",
    "no keys": b'{"keys": []}',
    "keys of other kinds only": b'{"keys": [{"kty": "oct", "kid": "key-1", "k": "c2VjcmV0"}]}',
    "keys without ids": b'{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}',
    "nonsense": b'{"keys": [{"kty": 7}, 1]}',
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
async def test_what_is_no_set_of_keys_replaces_none(
    issuer: Issuer, tokens: EntraTokens, clock: Clock, document: bytes
) -> None:
    trust = trust_in(issuer)
    await tokens.follow(trust)
    issuer.document, clock.passed_s = document, 3601.0
    await tokens.follow(trust)
    assert issuer.requests == 2
    assert (await tokens.claims(issuer.token(exp=20_000_000_000, azp="a"), trust)).apps


async def test_without_any_key_the_gateway_is_not_ready_and_recovers(
    issuer: Issuer, tokens: EntraTokens, clock: Clock
) -> None:
    issuer.is_away = True
    for _ in range(3):
        with pytest.raises(NotReady, match="try again later"):
            await tokens.claims(issuer.token(), trust_in(issuer))
    assert issuer.requests == 1
    issuer.is_away, clock.passed_s = False, 3.0
    assert (await tokens.claims(issuer.token(azp="a"), trust_in(issuer))).apps


async def test_tokens_of_a_key_that_was_withdrawn_are_forgotten(
    issuer: Issuer, tokens: EntraTokens, clock: Clock
) -> None:
    token, trust = issuer.token(), trust_in(issuer)
    await tokens.claims(token, trust)
    issuer.rotate("key-2", keep=False)
    clock.passed_s = 3601.0
    await tokens.follow(trust)
    with pytest.raises(Unauthenticated, match="does not have"):
        await tokens.claims(token, trust)


async def test_keys_are_fetched_before_a_call_needs_them(issuer: Issuer, tokens: EntraTokens) -> None:
    await tokens.follow(trust_in(issuer))
    await tokens.follow(trust_in(issuer))
    await tokens.claims(issuer.token(), trust_in(issuer))
    assert issuer.requests == 1


async def test_nothing_is_fetched_where_no_tokens_are_taken(tokens: EntraTokens) -> None:
    await tokens.follow(None)


TEXTS = {"tg-0011aabb-" + "x" * 43: False, "sk-a.b.c": False, "eyJhbGciOiJ9.e30.": True, "eyJ.a": False, "": False}


@pytest.mark.parametrize(("text", "expected"), TEXTS.items())
def test_what_looks_like_a_token(text: str, *, expected: bool) -> None:
    assert looks_like_token(text) is expected
