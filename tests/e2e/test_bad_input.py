"""What is wrong is told in OpenAI's shape with the right status, and leaves nothing behind."""

import contextlib
import json
from typing import Any

import httpx
import openai
import pytest

from shared.core.call_record import Outcome
from tests.stack import ADMIN_KEY, Stack

GOOD: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}

CASES: dict[str, tuple[str, str, str | None, Any, int, str | None]] = {
    # method, path, key (None: the client's own), body, status, code
    "no key": ("POST", "/v1/chat/completions", "", GOOD, 401, "invalid_api_key"),
    "a wrong key": ("POST", "/v1/chat/completions", "tg-00000000-" + "x" * 43, GOOD, 401, "invalid_api_key"),
    "a key that is none": ("POST", "/v1/chat/completions", "sk-live", GOOD, 401, "invalid_api_key"),
    "the admin key": ("POST", "/v1/chat/completions", ADMIN_KEY, GOOD, 401, "invalid_api_key"),
    "an unknown model": ("POST", "/v1/chat/completions", None, GOOD | {"model": "gpt-9"}, 404, "model_not_found"),
    "an unknown model in the path": (
        "POST", "/openai/deployments/gpt-9/chat/completions?api-version=2024-10-21", None, GOOD, 404, "model_not_found",
    ),
    "no model": ("POST", "/v1/chat/completions", None, {"messages": []}, 400, None),
    "a model that is no text": ("POST", "/v1/chat/completions", None, GOOD | {"model": 4}, 400, None),
    "stream that is no boolean": ("POST", "/v1/chat/completions", None, GOOD | {"stream": "yes"}, 400, None),
    "broken JSON": ("POST", "/v1/chat/completions", None, b'{"model": "gpt-4o", ', 400, "invalid_json"),
    "JSON that is no object": ("POST", "/v1/chat/completions", None, b"[1, 2]", 400, "invalid_json"),
    "bytes that are no text": ("POST", "/v1/chat/completions", None, b'{"model": "\xff\xfe"}', 400, None),
    "no body": ("POST", "/v1/chat/completions", None, b"", 400, "invalid_json"),
    "a wrong method": ("PUT", "/v1/chat/completions", None, None, 405, "method_not_supported"),
    "an unknown URL": ("POST", "/v1/chat/complections", None, GOOD, 404, "unknown_url"),
    "an unknown Azure URL": ("POST", "/openai/chat/completions", None, GOOD, 404, "unknown_url"),
}  # fmt: skip


@pytest.mark.parametrize(("method", "path", "key", "body", "status", "code"), CASES.values(), ids=CASES.keys())
async def test_bad_input_is_told_in_openais_shape(
    stack: Stack, method: str, path: str, key: str | None, body: Any, status: int, code: str | None
) -> None:
    before = len(stack.simulator.calls())
    content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
    headers = {"content-type": "application/json"}
    if key != "":
        headers["authorization"] = f"Bearer {stack.key() if key is None else key}"
    async with httpx.AsyncClient(base_url=stack.host.base_url) as http:
        answer = await http.request(method, path, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    if code:
        assert error["code"] == code
    assert len(stack.simulator.calls()) == before, "nothing was forwarded"


async def test_a_known_clients_mistakes_are_on_record_as_rejected(own_stack: Stack) -> None:
    """Under the name of a model only where there is one, so that no client can fill reports with names of its own."""
    stack = own_stack
    async with httpx.AsyncClient(base_url=stack.host.base_url, headers={"api-key": stack.key()}) as http:
        wrong = [
            await http.post("/v1/chat/completions", json=GOOD | {"model": "gpt-9"}),
            await http.post("/v1/chat/completions", json=[1]),
            await http.post("/v1/chat/completions", json=GOOD | {"stream": "yes"}),
            await http.post("/v1/chat/complections", json=GOOD),
            await http.put("/v1/chat/completions", json=GOOD),
            await http.get("/v1/models/gpt-9"),
        ]
        await http.post("/v1/chat/completions", json=GOOD, headers={"api-key": "tg-00000000-" + "x" * 43})
    assert [answer.status_code for answer in wrong] == [404, 400, 400, 404, 405, 404]
    for answer in wrong:
        record = (await stack.archived(answer.headers["x-tollgate-call-id"])).record
        assert (record.outcome, record.status, record.model) == (Outcome.REJECTED, answer.status_code, "")
        assert record.attempts == ()
        assert record.error == answer.json()["error"]["message"]
    report = await stack.usage_when(lambda report: report["total"]["rejected"] == len(wrong))
    assert report["total"]["calls"] == 0


async def test_the_sdk_raises_its_own_errors(stack: Stack) -> None:
    wrong = {
        openai.AuthenticationError: ("tg-00000000-" + "x" * 43, "gpt-4o"),
        openai.NotFoundError: (stack.key(), "gpt-9"),
    }
    for error, (key, model) in wrong.items():
        async with openai.AsyncOpenAI(api_key=key, base_url=f"{stack.host.base_url}/v1") as client:
            with pytest.raises(error):
                await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])


async def test_usage_needs_a_key(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.host.base_url) as http:
        assert (await http.get("/usage")).status_code == 401
        wrong = await http.get("/usage", params={"group_by": "colour"}, headers={"api-key": ADMIN_KEY})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "group_by")


async def test_a_client_cannot_choose_the_hosts_invocation_id(stack: Stack) -> None:
    """A forged one would strand the invocation."""
    headers = {"api-key": stack.key(), "x-ms-invocation-id": "00000000-0000-0000-0000-000000000000"}
    async with httpx.AsyncClient(base_url=stack.host.base_url, timeout=10) as http:
        for _ in range(2):
            answer = await http.post("/v1/chat/completions", json=GOOD, headers=headers)
            assert answer.status_code == 200


async def test_no_secret_and_no_content_is_logged(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.host.base_url) as http:
        body = GOOD | {"messages": [{"role": "user", "content": "the launch code is mauve"}]}
        await http.post("/v1/chat/completions?code=query-secret", json=body, headers={"api-key": stack.key()})
        with contextlib.suppress(httpx.HTTPError):
            await http.get("/usage", headers={"api-key": ADMIN_KEY})
    for secret in (stack.key(), ADMIN_KEY, "upstream-key-of-the-tests", "mauve", "query-secret"):
        assert secret not in stack.host.log
