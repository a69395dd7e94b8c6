"""The catalogue against the current openai SDK: every request that it can make has a row, a refusal, or a reason here.

The SDK's source is read, not imported: a resource that comes with a new version is found without a list of ours.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from shared.core.api.operations import CATALOGUE, REFUSED, match
from shared.core.errors import GatewayError

RESOURCES = Path(openai.__file__).parent / "resources"
METHODS = {
    "_get": "GET",
    "_get_api_list": "GET",
    "_post": "POST",
    "_delete": "DELETE",
    "_patch": "PATCH",
    "_put": "PUT",
}

BY_SETTING = {
    # The first parts of a path, and why it is left to `TOLLGATE_UNKNOWN_OPERATIONS`.
    "agents": "beta: agents that run upstream, with state and vaults of their own",
    "vaults": "beta: part of agents",
    "live": "beta: sessions of sound and pictures, over a connection of their own",
    "chatkit": "beta: what a ChatKit front end asks, with its own session's secret",
    "audio/voices": "by invitation: custom voices",
    "audio/voice_consents": "by invitation: custom voices",
    "decisions": "beta",
    "content_provenance_checks": "beta",
    "safety": "the account's own business",
}


def text_of(node: ast.expr) -> str:
    """A path as the SDK writes it: text, an f-string, or `path_template(text, ...)`; `{}` for each id."""
    match node:
        case ast.Constant(value=str(text)):
            return re.sub(r"\{.*?\}", "{}", text)
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part) if isinstance(part, ast.Constant) else "{}" for part in parts)
        case ast.Call(args=[first, *_]):
            return text_of(first)
    raise AssertionError(f"a path in other words: {ast.dump(node)}")


def requests_of(source: Path) -> Iterator[tuple[str, str]]:
    for call in ast.walk(ast.parse(source.read_text())):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in METHODS:
            methods = (word.value for word in call.keywords if word.arg == "method")
            stated = next((text_of(method).upper() for method in methods), None)
            yield stated or METHODS[call.func.attr], text_of(call.args[0]).partition("?")[0].strip("/")


REQUESTS = sorted({request for source in RESOURCES.rglob("*.py") for request in requests_of(source)})


def begins_with(path: str, beginnings: dict[str, str]) -> bool:
    return any(f"{path}/".startswith(f"{each}/") for each in beginnings)


def test_the_sdks_requests_are_found() -> None:
    assert len(REQUESTS) > 200
    assert {("POST", "chat/completions"), ("GET", "files/{}/content"), ("DELETE", "vector_stores/{}/files/{}")} <= set(
        REQUESTS
    )


@pytest.mark.parametrize(("method", "path"), REQUESTS, ids=[" ".join(each) for each in REQUESTS])
def test_every_request_of_the_sdk_has_a_row_a_refusal_or_a_reason(method: str, path: str) -> None:
    operation = match(method, f"/v1/{path.replace('{}', 'abc123DEF')}").operation
    is_refused = bool(operation.refusal)
    assert (operation in CATALOGUE) + (is_refused and operation not in CATALOGUE) + begins_with(path, BY_SETTING) == 1


def test_no_reason_outlives_its_cause() -> None:
    paths = [path for _, path in REQUESTS]
    assert all(any(begins_with(path, {each: ""}) for path in paths) for each in BY_SETTING)
    assert all(any(begins_with(path, {each: ""}) for path in paths) for each in REFUSED)


def test_what_is_refused_is_refused_with_any_method_and_setting() -> None:
    for beginning, (name, why) in REFUSED.items():
        for method in ("GET", "POST", "DELETE", "PATCH"):
            try:
                operation = match(method, f"/v1/{beginning}/abc123DEF/x").operation
            except GatewayError as error:  # pragma: no cover - says what went wrong
                raise AssertionError(beginning) from error
            assert (operation.name, operation.refusal) == (name, why)
