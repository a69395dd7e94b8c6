"""What a URL means."""

import pytest

from shared.core.errors import GatewayError, MethodNotAllowed, NotFound
from shared.core.operations import CATALOGUE, UrlStyle, match

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
    "no such operation": "/v1/chat",
    "one thing too many": "/v1/embeddings/x",
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
