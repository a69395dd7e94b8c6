"""Which of the ways to say who one is counts, and for whom each is open."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from time import monotonic

import msgspec
import pytest

from shared.clients.entra import EntraTokens
from shared.clients.identifying import Identity
from shared.core.clients.keys import RANDOM_BYTES, mint
from shared.core.configuration import Configuration, parse
from shared.core.errors import Unauthenticated
from shared.core.headers import Headers, for_upstream
from shared.settings import read_settings
from tests.entra import Issuer

KEY = mint(bytes(RANDOM_BYTES))
ADMIN: Headers = (("api-key", "admin-key"),)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer.start() as started:
        yield started


def configuration(issuer: Issuer | None) -> Configuration:
    document = {
        "clients": [
            {"id": "by-key", "keys": [msgspec.to_builtins(KEY.hash)]},
            {"id": "by-app", "apps": ["app-1"]},
            {"id": "by-group", "groups": ["group-1"]},
        ]
    }
    return parse(json.dumps(document | ({"entra": issuer.trust()} if issuer else {})), {})


def identity(**settings: str) -> Identity:
    given = {"TOLLGATE_ADMIN_KEY": "admin-key"} | settings
    return Identity(read_settings(given), EntraTokens(lambda: datetime.now(UTC), monotonic))


def bearer(text: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {text}")


def signed_in(**claims: str) -> tuple[str, str]:
    said = {"auth_typ": "aad", "claims": [{"typ": typ, "val": val} for typ, val in claims.items()]}
    return ("x-ms-client-principal", base64.b64encode(json.dumps(said).encode()).decode())


async def test_keys_and_tokens_each_name_their_client(issuer: Issuer) -> None:
    clients, who = configuration(issuer), identity()
    shown = {
        "by-key": (bearer(KEY.text),),
        "by-app": (bearer(issuer.token(azp="app-1")),),
        "by-group": (bearer(issuer.token(groups=["group-1"])),),
    }
    assert {name: (await who.client_of(headers, clients)).id for name, headers in shown.items()} == {
        name: name for name in shown
    }


async def test_a_valid_token_that_means_nobody_is_refused(issuer: Issuer) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await identity().client_of((bearer(issuer.token(azp="stranger")),), configuration(issuer))
    assert caught.value.code == "unknown_client"


async def test_tokens_are_nothing_where_no_issuer_is_trusted(issuer: Issuer) -> None:
    with pytest.raises(Unauthenticated, match="Incorrect API key"):
        await identity().client_of((bearer(issuer.token(azp="app-1")),), configuration(None))


async def test_whom_a_new_configuration_means_counts_at_once(issuer: Issuer) -> None:
    who, headers = identity(), (bearer(issuer.token(azp="app-1")),)
    before = configuration(issuer)
    assert (await who.client_of(headers, before)).id == "by-app"
    after = msgspec.structs.replace(before, clients_by_id={"by-key": before.clients_by_id["by-key"]})
    with pytest.raises(Unauthenticated):
        await who.client_of(headers, after)


BELIEVED: dict[str, tuple[Headers, str]] = {
    "whom App Service has signed in": ((signed_in(appid="app-1"),), "by-app"),
    "also with the token that it checked": ((signed_in(groups="group-1"), bearer("eyJ.of.theirs")), "by-group"),
    "a key of ours before that": ((signed_in(appid="app-1"), ("api-key", KEY.text)), "by-key"),
    "from a page of the same site": ((signed_in(appid="app-1"), ("sec-fetch-site", "same-origin")), "by-app"),
}
NOT_BELIEVED: dict[str, Headers] = {
    "another site's page, with the browser's cookie": (signed_in(appid="app-1"), ("sec-fetch-site", "cross-site")),
    "someone whom we do not know": (signed_in(appid="stranger"),),
    "nonsense": (("x-ms-client-principal", "e30="),),
    "a name alone": (("x-ms-client-principal-name", "app-1"), ("x-ms-client-principal-id", "app-1")),
}


@pytest.mark.parametrize(("headers", "client_id"), BELIEVED.values(), ids=BELIEVED.keys())
async def test_app_service_is_believed_where_that_is_switched_on(headers: Headers, client_id: str) -> None:
    who = identity(TOLLGATE_EASY_AUTH="on")
    assert (await who.client_of(headers, configuration(None))).id == client_id


@pytest.mark.parametrize("headers", NOT_BELIEVED.values(), ids=NOT_BELIEVED.keys())
async def test_app_service_is_not_believed_about(headers: Headers) -> None:
    with pytest.raises(Unauthenticated):
        await identity(TOLLGATE_EASY_AUTH="on").client_of(headers, configuration(None))


@pytest.mark.parametrize("settings", [{}, {"TOLLGATE_EASY_AUTH": "off"}])
async def test_nobody_can_sign_themselves_in_where_it_is_off(settings: dict[str, str]) -> None:
    """Guards that headers which anyone can write are believed only behind App Service's authentication."""
    with pytest.raises(Unauthenticated):
        await identity(**settings).client_of((signed_in(appid="app-1"),), configuration(None))


def test_no_upstream_sees_whom_app_service_has_signed_in() -> None:
    names = (
        "x-ms-client-principal",
        "x-ms-client-principal-id",
        "x-ms-client-principal-name",
        "x-ms-token-aad-id-token",
    )
    assert for_upstream(tuple((name, "x") for name in names)) == ()


async def test_an_administrator_has_the_key_or_the_role(issuer: Issuer) -> None:
    clients, who = configuration(issuer), identity(TOLLGATE_ADMIN_ROLE="Tollgate.Admin")
    assert await who.is_admin(ADMIN, clients)
    assert await who.is_admin(ADMIN, None)
    assert await who.is_admin((bearer(issuer.token(roles=["Tollgate.Admin"])),), clients)
    assert not await who.is_admin((bearer(issuer.token(roles=["Tollgate.Reader"])),), clients)
    assert not await who.is_admin((bearer(issuer.token(roles=["Tollgate.Admin"])),), None)
    assert not await who.is_admin((bearer(KEY.text),), clients)
    assert not await who.is_admin((), clients)
    with pytest.raises(Unauthenticated, match="expired"):
        await who.is_admin((bearer(issuer.token(roles=["Tollgate.Admin"], exp=1)),), clients)


async def test_no_role_is_the_administrators_where_none_is_named(issuer: Issuer) -> None:
    assert not await identity().is_admin((bearer(issuer.token(roles=["", "Tollgate.Admin"])),), configuration(issuer))


async def test_app_service_can_say_who_administrates_where_that_is_switched_on() -> None:
    headers = (signed_in(roles="Tollgate.Admin"),)
    settings = {"TOLLGATE_ADMIN_ROLE": "Tollgate.Admin"}
    assert await identity(TOLLGATE_EASY_AUTH="on", **settings).is_admin(headers, configuration(None))
    assert not await identity(**settings).is_admin(headers, configuration(None))
