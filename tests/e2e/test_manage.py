"""Managing clients while the app runs: over HTTP and from the command line, on one instance and seen by another."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.storage.blob.aio import BlobServiceClient

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from tests.stack import ADMIN_KEY, APP, MODELS, UPSTREAM_KEY, Stack, configuration, running

ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
REVOKED_WITHIN_S = 30.0


@pytest.fixture(scope="module")
async def stack(azurite: Azurite, simulator: Simulator) -> AsyncIterator[Stack]:
    async with running(azurite, simulator, "manage") as started:
        yield started


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.host.base_url, headers=ADMIN, timeout=30) as client:
        yield client


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def cli(stack: Stack, *arguments: str) -> Done:
    """`python -m devtools.cli`."""
    own = ("--url", stack.host.base_url, "--admin-key", ADMIN_KEY)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "devtools.cli", *own, *arguments,
        cwd=APP, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return Done(code=process.returncode or 0, out=out.decode(), err=err.decode())


async def chat(stack: Stack, key: str) -> int:
    """The status of a call with the key."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    async with httpx.AsyncClient(base_url=stack.host.base_url, timeout=30) as client:
        answer = await client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
    return answer.status_code


async def chat_becomes(stack: Stack, key: str, status: int) -> float:
    """Seconds until a call with the key is answered so; fails after those that are promised."""
    began = asyncio.get_running_loop().time()
    while (took := asyncio.get_running_loop().time() - began) < REVOKED_WITHIN_S:
        if await chat(stack, key) == status:
            return took
        await asyncio.sleep(0.1)
    raise AssertionError(f"never {status} within {REVOKED_WITHIN_S} s")


async def test_a_client_made_from_the_command_line_calls_rotates_its_key_and_is_shut_out(
    stack: Stack, azurite: Azurite, simulator: Simulator
) -> None:
    async with running(azurite, simulator, stack.prefix) as other:
        made = await cli(stack, "clients", "create", "team-new", "--cost-center", "CC-9", "--json")
        assert (made.code, made.err) == (0, "")
        first = (await cli(stack, "keys", "create", "team-new", "--note", "first", "--json")).json
        assert await chat(stack, first["key"]) == 200
        await chat_becomes(other, first["key"], 200)

        second = (await cli(stack, "keys", "create", "team-new", "--json")).json
        await chat_becomes(other, second["key"], 200)
        assert await chat(stack, first["key"]) == await chat(stack, second["key"]) == 200

        revoked = await cli(stack, "keys", "revoke", "team-new", first["id"])
        assert revoked.code == 0
        assert await chat(stack, first["key"]) == 401
        assert await chat_becomes(other, first["key"], 401) < REVOKED_WITHIN_S
        assert await chat(stack, second["key"]) == await chat(other, second["key"]) == 200


async def test_a_revoked_key_of_the_configuration_is_refused(stack: Stack, http: httpx.AsyncClient) -> None:
    key = stack.keys["team-b"]
    assert await chat(stack, key.text) == 200
    answer = await http.delete(f"/manage/clients/team-b/keys/{key.hash.id}")
    assert (answer.status_code, answer.json()["state"], answer.json()["source"]) == (200, "revoked", "table")
    assert await chat(stack, key.text) == 401
    again = await http.delete(f"/manage/clients/team-b/keys/{key.hash.id}")
    assert again.json() == answer.json()


async def test_the_tables_word_on_a_client_of_the_configuration_wins_until_it_is_deleted(
    stack: Stack, http: httpx.AsyncClient
) -> None:
    before = (await http.get("/manage/clients/team-a")).json()
    assert (before["source"], before["etag"]) == ("configuration", None)
    put = await http.put("/manage/clients/team-a", json=before["client"] | {"models": ["o4-mini"]})
    assert (put.status_code, put.json()["source"]) == (200, "table")
    assert await chat(stack, stack.key("team-a")) == 404  # that model is not this client's any more
    assert (await http.delete("/manage/clients/team-a")).status_code == 204
    assert (await http.get("/manage/clients/team-a")).json() == before
    assert await chat(stack, stack.key("team-a")) == 200
    refused = await http.delete("/manage/clients/team-a")
    assert (refused.status_code, refused.json()["error"]["type"]) == (409, "invalid_request_error")


async def test_a_client_is_only_written_over_the_version_that_was_read(http: httpx.AsyncClient) -> None:
    path = "/manage/clients/team-etag"
    assert (await http.get(path)).status_code == 404
    assert (await http.put(path, json={}, headers={"if-match": "*"})).status_code == 412
    created = await http.put(path, json={"name": "one"}, headers={"if-none-match": "*"})
    assert (created.status_code, created.headers["etag"]) == (201, created.json()["etag"])
    assert (await http.put(path, json={}, headers={"if-none-match": "*"})).status_code == 412
    stale = created.headers["etag"]
    updated = await http.put(path, json={"name": "two"}, headers={"if-match": stale})
    assert (updated.status_code, updated.json()["client"]["name"]) == (200, "two")
    for other in (stale, '"no ETag of ours"', "W/x"):
        assert (await http.put(path, json={"name": "three"}, headers={"if-match": other})).status_code == 412
    assert (await http.delete(path, headers={"if-match": stale})).status_code == 412
    assert (await http.get(path)).json()["client"]["name"] == "two"
    assert (await http.get(path)).headers["etag"] == updated.headers["etag"]
    assert (await http.delete(path, headers={"if-match": updated.headers["etag"]})).status_code == 204
    assert (await http.delete(path)).status_code == 404


async def test_a_key_of_another_gateway_is_adopted_once(stack: Stack, http: httpx.AsyncClient) -> None:
    await http.put("/manage/clients/team-moved", json={})
    old = "a-key-that-another-gateway-made"
    made = await http.post("/manage/clients/team-moved/keys", json={"key": old})
    assert (made.status_code, made.json()["key"]) == (201, old)
    assert await chat(stack, old) == 200
    await http.put("/manage/clients/team-thief", json={})
    assert (await http.post("/manage/clients/team-thief/keys", json={"key": old})).status_code == 409
    assert (await http.delete(f"/manage/clients/team-moved/keys/{made.json()['id']}")).status_code == 200
    assert await chat(stack, old) == 401
    again = await http.post("/manage/clients/team-moved/keys", json={"key": old})
    assert again.status_code == 409, "what is revoked stays so"


async def test_a_deleted_client_and_its_keys_are_gone(stack: Stack, http: httpx.AsyncClient) -> None:
    await http.put("/manage/clients/team-gone", json={})
    key = (await http.post("/manage/clients/team-gone/keys")).json()["key"]
    assert await chat(stack, key) == 200
    assert (await http.delete("/manage/clients/team-gone")).status_code == 204
    assert await chat(stack, key) == 401
    await http.put("/manage/clients/team-gone", json={})
    assert (await http.get("/manage/clients/team-gone/keys")).json() == {"keys": []}
    assert await chat(stack, key) == 401


async def test_a_key_is_shown_once_and_its_hash_never(http: httpx.AsyncClient) -> None:
    await http.put("/manage/clients/team-shown", json={})
    body = {"note": "laptop", "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()}
    made = await http.post("/manage/clients/team-shown/keys", json=body)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    (listed,) = (await http.get("/manage/clients/team-shown/keys")).json()["keys"]
    assert (listed["id"], listed["state"], listed["note"], listed["revoked_at"]) == (
        made.json()["id"],
        "active",
        "laptop",
        None,
    )
    for path in ("/manage/clients", "/manage/clients/team-shown", "/manage/clients/team-shown/keys"):
        text = (await http.get(path)).text
        assert made.json()["key"] not in text
        assert "salt" not in text
        assert "hash" not in text


async def test_a_key_opens_nothing_once_it_has_expired(stack: Stack, http: httpx.AsyncClient) -> None:
    await http.put("/manage/clients/team-expiring", json={})
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    key = (await http.post("/manage/clients/team-expiring/keys", json={"expires_at": soon})).json()["key"]
    await chat_becomes(stack, key, 401)
    (listed,) = (await http.get("/manage/clients/team-expiring/keys")).json()["keys"]
    assert listed["state"] == "expired"


WRONG: dict[str, tuple[str, str, str, int, str | None]] = {
    "unknown field": ("PUT", "clients/x", '{"nmae": "x"}', 400, "nmae"),
    "wrong type": ("PUT", "clients/x", '{"limits": {"tokens_per_minute": "many"}}', 400, "limits.tokens_per_minute"),
    "in a list": ("PUT", "clients/x", '{"models": ["gpt-4o", 1]}', 400, "models[1]"),
    "no such choice": ("PUT", "clients/x", '{"on_disconnect": "shrug"}', 400, "on_disconnect"),
    "keys in it": ("PUT", "clients/x", '{"keys": []}', 400, "keys"),
    "another id": ("PUT", "clients/x", '{"id": "y"}', 400, "id"),
    "no JSON": ("PUT", "clients/x", "{", 400, None),
    "no object": ("PUT", "clients/x", "[]", 400, None),
    "an id that no table takes": ("PUT", "clients/a%2Fb", "{}", 400, "client_id"),
    "an id too long": ("PUT", "clients/" + "a" * 101, "{}", 400, "client_id"),
    "a client too large": ("PUT", "clients/x", json.dumps({"name": "n" * 40_000}), 400, None),
    "no such client": ("GET", "clients/nobody", "", 404, "client_id"),
    "a key for no client": ("POST", "clients/nobody/keys", "", 404, "client_id"),
    "no such key": ("DELETE", "clients/team-a/keys/00000000", "", 404, "key_id"),
    "a key that could be guessed": ("POST", "clients/team-a/keys", '{"key": "short"}', 400, "key"),
    "a key that no header holds": ("POST", "clients/team-a/keys", json.dumps({"key": "ä" * 30}), 400, "key"),
    "unknown field of a key": ("POST", "clients/team-a/keys", '{"days": 3}', 400, "days"),
    "a time without a zone": ("POST", "clients/team-a/keys", '{"expires_at": "2030-01-01T00:00:00"}', 400, "expires_at"),
    "a time that has passed": ("POST", "clients/team-a/keys", '{"expires_at": "2020-01-01T00:00:00Z"}', 400, "expires_at"),
    "a note too long": ("POST", "clients/team-a/keys", json.dumps({"note": "n" * 201}), 400, "note"),
    "no such thing": ("GET", "things", "", 404, None),
    "no such method": ("POST", "clients", "", 405, None),
}  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "param"), WRONG.values(), ids=WRONG.keys())
async def test_what_is_wrong_is_said_in_openais_shape(
    http: httpx.AsyncClient, method: str, path: str, body: str, status: int, param: str | None
) -> None:
    answer = await http.request(method, f"/manage/{path}", content=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["type"]) == (param, "invalid_request_error")


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer wrong"}, {"api-key": ""}, {"cookie": ADMIN_KEY}])
@pytest.mark.parametrize("path", ["clients", "clients/team-a/keys", "configuration", "nothing"])
async def test_nobody_manages_without_the_admin_key(stack: Stack, path: str, header: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=stack.host.base_url) as http:
        answer = await http.get(f"/manage/{path}", headers=header)
    assert answer.status_code == 401


async def test_a_clients_key_does_not_manage(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.host.base_url) as http:
        answer = await http.get("/manage/clients", headers={"api-key": stack.key()})
    assert answer.status_code == 401


async def test_the_configuration_is_shown_without_secrets(stack: Stack, http: httpx.AsyncClient) -> None:
    answer = await http.get("/manage/configuration")
    shown = answer.json()
    assert shown["configuration"]["upstreams"][0]["key"] == "$UPSTREAM_KEY"
    assert shown["status"]["problems"] == []
    assert shown["configuration"]["clients"][0]["keys"] == [stack.keys["team-a"].hash.id]
    for secret in (UPSTREAM_KEY, stack.keys["team-a"].hash.hash, stack.keys["team-a"].hash.salt, ADMIN_KEY):
        assert secret not in answer.text


async def test_deployments_are_listed(stack: Stack, http: httpx.AsyncClient) -> None:
    shown = (await http.get("/manage/deployments")).json()["deployments"]
    listed = {(each["name"], each["model"], each["upstream"], each["priority"]) for each in shown}
    assert listed == {(model, model, "simulator", 0) for model in MODELS}


async def _health_when(stack: Stack, beginning: str) -> dict[str, Any]:
    health: dict[str, Any] = {}
    for _ in range(300):
        async with httpx.AsyncClient(base_url=stack.host.base_url) as http:
            health = (await http.get("/health/ready")).json()
        if health["configuration"].startswith(beginning):
            return health
        await asyncio.sleep(0.1)
    raise AssertionError(f"never {beginning!r}: {health}")


def write(file: Path, text: str) -> None:
    """In one go, so that no half of it is ever read."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


async def test_a_file_is_followed_and_a_broken_version_changes_nothing(
    azurite: Azurite, simulator: Simulator, tmp_path: Path, stack: Stack
) -> None:
    file = tmp_path / "tollgate.json"
    document = configuration(simulator, stack.keys)
    without_b = document | {"clients": document["clients"][:1]}
    write(file, json.dumps(without_b))
    async with running(azurite, simulator, "followed", TOLLGATE_CONFIG=str(file), TOLLGATE_REFRESH_S="0.2") as app:
        assert await chat(app, stack.key("team-b")) == 401
        write(file, json.dumps(document))
        await chat_becomes(app, stack.key("team-b"), 200)

        write(file, json.dumps(document | {"deploymnets": []}, indent=1))
        health = await _health_when(app, "kept the version of ")
        assert health["status"] == "degraded"
        assert "; the new one is broken: line " in health["configuration"]
        assert "did you mean `deployments`?" in health["configuration"]
        assert await chat(app, stack.key("team-b")) == 200

        write(file, json.dumps(without_b, indent=2))
        await _health_when(app, "the version of ")
        await chat_becomes(app, stack.key("team-b"), 401)


async def test_a_blob_is_followed_and_may_come_later(azurite: Azurite, simulator: Simulator, stack: Stack) -> None:
    where = {"TOLLGATE_CONFIG": "blob:config-e2e/tollgate.json", "TOLLGATE_REFRESH_S": "0.2"}
    async with running(azurite, simulator, "blobbed", **where) as app:
        await _health_when(app, "none: TOLLGATE_CONFIG names blob:config-e2e/tollgate.json, which does not exist")
        assert await chat(app, stack.key()) == 503
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
            container = await blobs.create_container("config-e2e")
            document = json.dumps(configuration(simulator, stack.keys))
            await container.upload_blob("tollgate.json", document)
            await chat_becomes(app, stack.key(), 200)
            await container.delete_blob("tollgate.json")
        health = await _health_when(app, "kept the version of ")
        assert "does not exist: upload it" in health["configuration"]
        assert await chat(app, stack.key()) == 200


async def test_health_says_how_old_the_clients_are(stack: Stack) -> None:
    health = await _health_when(stack, "the version of ")
    assert health["status"] == "ready"
    assert health["clients"]["age_s"] <= REVOKED_WITHIN_S
    assert (health["clients"]["problem"], health["clients"]["unreadable"]) == (None, 0)
