"""Who calls, from where, and as whom the gateway calls: tokens, principals, networks and identities in the running app."""

import base64
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from devtools.simulator.account import fingerprint
from shared.core.call_record import CallRecord, Outcome
from shared.core.clients.keys import RANDOM_BYTES, mint
from tests.e2e.conftest import SELDOM
from tests.entra import IdentityEndpoint, Issuer
from tests.stack import UPSTREAM_KEY, Stack, key_hash, running, upstream_of

KEY = mint(secrets.token_bytes(RANDOM_BYTES))
IDENTITY_TOKEN = "token-of-system-for-https://ai.azure.com"  # what the endpoint makes
OFFICE = {"x-azure-socketip": "10.1.2.3"}
STREET = {"x-azure-socketip": "198.51.100.7", "x-forwarded-for": "10.1.2.3"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer.start() as started:
        yield started


@pytest.fixture(scope="module")
def endpoint() -> Iterator[IdentityEndpoint]:
    with IdentityEndpoint.start() as started:
        started.refuses = lambda query: query.get("client_id") == "stranger"
        yield started


def document(simulator: Simulator, issuer: Issuer) -> dict[str, Any]:
    """gpt-4o by identity; o4-mini by an identity that there is not, and then by key."""
    keyed = upstream_of(simulator, "keyed", "azure")
    by_identity = {name: value for name, value in keyed.items() if name != "key"} | {"auth": "identity"}
    return {
        "entra": issuer.trust(),
        "upstreams": [
            keyed,
            by_identity | {"name": "identity", "scope": "https://ai.azure.com/.default"},
            by_identity | {"name": "stranger", "identity_client_id": "stranger"},
        ],
        "deployments": [
            {"name": "identity", "model": "gpt-4o", "upstream": "identity"},
            {"name": "stranger", "model": "o4-mini", "upstream": "stranger"},
            {"name": "keyed", "model": "o4-mini", "upstream": "keyed", "priority": 1},
        ],
        "clients": [
            {"id": "by-app", "apps": ["app-1"], "groups": ["group-1"], "roles": ["Tollgate.Caller"]},
            {"id": "office", "networks": ["10.0.0.0/8", "2001:db8::/32"], "keys": [key_hash(KEY)]},
        ],
    }


@pytest.fixture(scope="module")
async def stack(
    anyio_backend: str, azurite: Azurite, simulator: Simulator, issuer: Issuer, endpoint: IdentityEndpoint
) -> AsyncIterator[Stack]:
    settings = endpoint.settings | {
        "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
        "TOLLGATE_ADMIN_ROLE": "Tollgate.Admin",
        "TOLLGATE_CALLER_IP_HEADER": "X-Azure-SocketIP",
        "TOLLGATE_ROLLUP_SCHEDULE": SELDOM,
    }
    async with running(azurite, simulator, "identity", document(simulator, issuer), **settings) as started:
        yield started


async def chat(stack: Stack, headers: dict[str, str], model: str = "gpt-4o") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    async with httpx.AsyncClient(base_url=stack.host.base_url, timeout=30) as http:
        return await http.post("/v1/chat/completions", json=body, headers=headers)


async def get(stack: Stack, path: str, headers: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient(base_url=stack.host.base_url, timeout=30) as http:
        return await http.get(path, headers=headers)


async def record_of(stack: Stack, answer: httpx.Response) -> CallRecord:
    return (await stack.archived(answer.headers["x-tollgate-call-id"])).record


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@pytest.mark.parametrize(
    "claims", [{"azp": "app-1"}, {"groups": ["group-1"]}, {"roles": ["Tollgate.Caller"]}], ids=["app", "group", "role"]
)
async def test_a_token_is_as_good_as_a_key(stack: Stack, issuer: Issuer, claims: dict[str, Any]) -> None:
    answer = await chat(stack, bearer(issuer.token(**claims)))
    assert answer.status_code == 200
    assert (await record_of(stack, answer)).client_id == "by-app"


async def test_the_sdks_way_to_show_a_token_works(stack: Stack, issuer: Issuer) -> None:
    client = openai.AsyncAzureOpenAI(
        azure_endpoint=stack.host.base_url,
        api_version="2024-10-21",
        azure_ad_token_provider=lambda: issuer.token(azp="app-1"),
        max_retries=0,
    )
    async with client:
        answer = await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hello"}])
    assert answer.usage
    assert answer.usage.completion_tokens


async def test_strangers_cannot_have_us_ask_the_issuer_again_and_again(stack: Stack, issuer: Issuer) -> None:
    assert (await chat(stack, bearer(issuer.token(azp="app-1")))).status_code == 200
    asked = issuer.requests
    for _ in range(5):
        assert (await chat(stack, bearer(issuer.token({"kid": secrets.token_hex(8)}, azp="app-1")))).status_code == 401
    assert issuer.requests <= asked + 1


REFUSED: dict[str, dict[str, Any]] = {
    "expired": {"exp": 1_000_000_000},
    "for another audience": {"aud": "https://graph.microsoft.com"},
    "of another tenant": {"iss": "https://login.microsoftonline.com/other/v2.0"},
    "of an app that nobody knows": {"azp": "stranger"},
}


@pytest.mark.parametrize("claims", REFUSED.values(), ids=REFUSED.keys())
async def test_a_token_that_is_not_for_us_is_refused(stack: Stack, issuer: Issuer, claims: dict[str, Any]) -> None:
    answer = await chat(stack, bearer(issuer.token(**({"azp": "app-1"} | claims))))
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "invalid_request_error")


async def test_headers_of_app_service_are_nothing_without_it(stack: Stack) -> None:
    """Guards that headers which anyone can write are believed only behind App Service's authentication."""
    said = {"auth_typ": "aad", "claims": [{"typ": "appid", "val": "app-1"}, {"typ": "roles", "val": "Tollgate.Admin"}]}
    headers = {"x-ms-client-principal": base64.b64encode(json.dumps(said).encode()).decode()}
    assert (await chat(stack, headers)).status_code == 401
    assert (await get(stack, "/manage/clients", headers)).status_code == 401


async def test_a_client_calls_from_its_networks_only_and_a_refusal_is_recorded(stack: Stack) -> None:
    inside = await chat(stack, bearer(KEY.text) | OFFICE)
    outside = await chat(stack, bearer(KEY.text) | STREET)
    assert (inside.status_code, outside.status_code) == (200, 403)
    assert outside.json()["error"]["code"] == "network_not_allowed"
    record = await record_of(stack, outside)
    assert (record.outcome, record.status, record.client_id) == (Outcome.REJECTED, 403, "office")
    assert record.caller_ip == "198.51.100.7"
    assert (await record_of(stack, inside)).caller_ip == "10.1.2.3"


async def test_usage_is_told_to_a_client_in_its_networks_only(stack: Stack) -> None:
    assert (await get(stack, "/usage", bearer(KEY.text) | OFFICE)).status_code == 200
    assert (await get(stack, "/usage", bearer(KEY.text) | STREET)).status_code == 403


async def test_the_role_administrates(stack: Stack, issuer: Issuer) -> None:
    admin, caller = bearer(issuer.token(roles=["Tollgate.Admin"])), bearer(issuer.token(azp="app-1"))
    assert (await get(stack, "/manage/clients", admin)).status_code == 200
    assert (await get(stack, "/manage/clients", caller)).status_code == 401
    assert (await get(stack, "/usage", admin)).status_code == 200
    assert (await get(stack, "/usage", caller)).status_code == 200
    assert (await get(stack, "/usage", bearer(issuer.token(azp="stranger")))).status_code == 401


async def test_an_app_cannot_be_given_to_two_clients(stack: Stack, issuer: Issuer) -> None:
    admin = bearer(issuer.token(roles=["Tollgate.Admin"]))
    async with httpx.AsyncClient(base_url=stack.host.base_url, headers=admin, timeout=30) as http:
        refused = await http.put("/manage/clients/new", json={"apps": ["APP-1"]})
        taken = await http.put("/manage/clients/new", json={"apps": ["app-9"], "networks": ["127.0.0.0/8"]})
    assert (refused.status_code, taken.status_code) == (409, 201)
    assert "already means the client 'by-app'" in refused.json()["error"]["message"]
    answer = await chat(stack, bearer(issuer.token(azp="app-9")) | {"x-azure-socketip": "127.0.0.1:50123"})
    assert answer.status_code == 200
    assert (await record_of(stack, answer)).client_id == "new"


async def test_an_upstream_is_shown_the_identitys_token_and_no_token_of_the_client(
    stack: Stack, simulator: Simulator, issuer: Issuer, endpoint: IdentityEndpoint
) -> None:
    simulator.clear_account()
    answers = [await chat(stack, bearer(issuer.token(azp="app-1"))) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    entries = simulator.calls()
    assert {(entry.auth, entry.key_fingerprint) for entry in entries} == {("bearer", fingerprint(IDENTITY_TOKEN))}
    assert sum(query["resource"] == "https://ai.azure.com" for query in endpoint.asked) == 1


async def test_an_identity_that_cannot_be_had_costs_one_attempt_and_no_call(
    stack: Stack, simulator: Simulator, issuer: Issuer
) -> None:
    simulator.clear_account()
    answer = await chat(stack, bearer(issuer.token(azp="app-1")), "o4-mini")
    assert answer.status_code == 200
    [entry] = simulator.calls()
    assert (entry.auth, entry.key_fingerprint) == ("api-key", fingerprint(UPSTREAM_KEY))
    first, second = (await record_of(stack, answer)).attempts
    assert (first.deployment, first.status, second.deployment, second.status) == ("stranger", None, "keyed", 200)
    assert (first.error or "").startswith("no token: ")


async def test_app_service_is_believed_where_it_is_in_front(
    azurite: Azurite, simulator: Simulator, issuer: Issuer, prefix: str
) -> None:
    said = {"auth_typ": "aad", "claims": [{"typ": "appid", "val": "app-1"}]}
    headers = {"x-ms-client-principal": base64.b64encode(json.dumps(said).encode()).decode()}
    parts = document(simulator, issuer)
    settings = {"TOLLGATE_EASY_AUTH": "on", "TOLLGATE_ROLLUP_SCHEDULE": SELDOM}
    async with running(azurite, simulator, prefix, {"clients": parts["clients"]}, **settings) as app:
        answer = await chat(app, headers)
        assert answer.status_code == 200
        assert (await record_of(app, answer)).client_id == "by-app"
        assert (await chat(app, {})).status_code == 401
