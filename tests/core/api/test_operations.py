"""What a URL means."""

import pytest

from shared.core.api.operations import CATALOGUE, UrlStyle, match
from shared.core.errors import GatewayError, MethodNotAllowed, NotFound

ROUTES = {
    "OpenAI": ("/v1/chat/completions", UrlStyle.OPENAI, None),
    "Azure": ("/openai/deployments/gpt-4o/chat/completions", UrlStyle.AZURE, "gpt-4o"),
    "Azure v1": ("/openai/v1/chat/completions", UrlStyle.AZURE_V1, None),
    "a deployment's name is percent-encoded": (
        "/openai/deployments/my%20model%2Fv2/chat/completions",
        UrlStyle.AZURE,
        "my model/v2",
    ),
    "not ASCII": ("/openai/deployments/gr%C3%BCn/chat/completions", UrlStyle.AZURE, "grün"),
    "encoded only once": ("/openai/deployments/a%252Fb/chat/completions", UrlStyle.AZURE, "a%2Fb"),
    "a deployment called v1": ("/openai/deployments/v1/chat/completions", UrlStyle.AZURE, "v1"),
}

UNKNOWN = {
    "root": "/",
    "empty": "",
    "a slash too many": "/v1/chat/completions/",
    "another prefix": "/v2/chat/completions",
    "no prefix": "/chat/completions",
    "the slash is encoded": "/v1/chat%2Fcompletions",
    "deployment without operation": "/openai/deployments/gpt-4o",
    "deployment's name with a bare slash": "/openai/deployments/my/model/chat/completions",
    "capitals": "/V1/chat/completions",
}


@pytest.mark.parametrize(("path", "style", "model"), ROUTES.values(), ids=ROUTES.keys())
def test_three_styles_of_url_lead_to_one_operation(path: str, style: UrlStyle, model: str | None) -> None:
    route = match("POST", path)
    assert (route.operation.name, route.style, route.model) == ("chat.completions", style, model)


@pytest.mark.parametrize("path", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_an_unknown_url_is_not_found(path: str) -> None:
    with pytest.raises(NotFound, match="Invalid URL"):
        match("POST", path)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "post"])
def test_the_wrong_method_is_told_the_right_one(method: str) -> None:
    with pytest.raises(MethodNotAllowed, match="make it POST") as caught:
        match(method, "/v1/embeddings")
    assert isinstance(caught.value, GatewayError)
    assert caught.value.code == "method_not_supported"


def test_each_operation_has_a_name_and_a_url_of_its_own() -> None:
    assert len({each.name for each in CATALOGUE}) == len(CATALOGUE)
    assert len({(each.method, each.path) for each in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/embeddings/x", "/openai/v1/something/new", "/openai/something"])
def test_an_operation_that_no_row_knows_is_called_unknown(path: str) -> None:
    route = match("POST", path)
    assert (route.operation.name, route.operation.method) == ("unknown", "POST")
    assert path.endswith(route.path)


@pytest.mark.parametrize("path", ["/v1/files/..", "/v1/files/%2e%2e", "/v1/a//b", "/v1/files/a%2Fb", "/v1/files/a;b"])
def test_a_path_that_an_upstream_could_take_for_another_is_not_passed_on(path: str) -> None:
    with pytest.raises(NotFound):
        match("GET", path)


STORED = {
    "/v1/files/file-abc": ("files.retrieve", "file-abc"),
    "/v1/files/file-abc/content": ("files.content", "file-abc"),
    "/openai/responses/resp_1/input_items": ("responses.input_items", "resp_1"),
    "/openai/v1/threads/thread_1/runs/run_2/steps/step_3": ("threads.runs.steps.retrieve", "thread_1"),
    "/v1/models/ft:gpt-4o:org::id": ("models.retrieve", "ft:gpt-4o:org::id"),
}


@pytest.mark.parametrize(("path", "expected"), STORED.items(), ids=STORED.keys())
def test_the_first_id_in_a_path_says_where_the_call_belongs(path: str, expected: tuple[str, str]) -> None:
    route = match("GET", path)
    assert (route.operation.name, route.object_id) == expected


def test_a_literal_wins_over_an_id() -> None:
    assert match("POST", "/v1/responses/input_tokens").operation.name == "responses.input_tokens"
    assert match("POST", "/v1/threads/runs").operation.name == "threads.create_and_run"


def test_a_body_passes_unread_only_where_it_can_name_no_other_object() -> None:
    """Guards that nobody reaches another client's file by hiding its id in a large form."""
    assert {each.name for each in CATALOGUE if each.passes} == {"files.create", "uploads.parts.create"}
