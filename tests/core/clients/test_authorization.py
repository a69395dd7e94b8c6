"""What a client may do."""

from typing import Any

import msgspec
import pytest

from shared.core.api.upstream_requests import upstream_request
from shared.core.calls import Call
from shared.core.clients.authorization import Names, models_of, pool_of, with_models
from shared.core.configuration import Client, Pool, parse
from shared.core.errors import BadRequest, NotFound
from shared.core.headers import get
from tests.examples import call, inbound

POOLS = parse(
    """
    upstreams = [{name = "east", kind = "openai", url = "https://east.example/v1", key = "k"}]
    deployments = [{name = "a", model = "gpt-4o", upstream = "east"}, {name = "b", model = "o4-mini", upstream = "east"}]
    models = [{name = "gpt-4o", aliases = ["smart", "gpt-4o-2024-11-20"]}]
    """,
    {},
).pools
NAMES = ("gpt-4o", "smart", "gpt-4o-2024-11-20")


def names_of(*models: str) -> set[str]:
    return {model.id for model in models_of(Client(id="c", models=models), POOLS).data}


@pytest.mark.parametrize("allowed", NAMES)
def test_a_model_is_allowed_by_any_of_its_names(allowed: str) -> None:
    client = Client(id="c", models=(allowed,))
    pools: set[Pool] = {pool_of(client, POOLS, name) for name in NAMES}
    assert {pool.model.name for pool in pools} == {"gpt-4o"}
    assert names_of(allowed) == set(NAMES)


def test_a_model_that_is_not_allowed_does_not_exist() -> None:
    with pytest.raises(NotFound, match="'o4-mini' does not exist"):
        pool_of(Client(id="c", models=("smart",)), POOLS, "o4-mini")
    assert names_of("nothing") == set()


def test_a_client_without_a_list_may_use_all() -> None:
    assert pool_of(Client(id="c"), POOLS, "o4-mini").model.name == "o4-mini"


DRAWING = parse(
    """
    upstreams = [
      {name = "east", kind = "azure-v1", url = "https://east.example", key = "k"},
      {name = "west", kind = "azure-v1", url = "https://west.example", key = "k"},
    ]
    deployments = [
      {name = "a", model = "gpt-4o", upstream = "east"},
      {name = "b", model = "gpt-4o", upstream = "west", deployment = "writer"},
      {name = "c", model = "gpt-image-1", upstream = "west", deployment = "painter"},
      {name = "d", model = "o4-mini", upstream = "east"},
    ]
    """,
    {},
).pools


def response(tool: dict[str, Any], *allowed: str, **headers: str) -> Call:
    made = call(
        msgspec.json.encode({"model": "gpt-4o", "input": "Draw.", "tools": [tool]}), inbound("/v1/responses", **headers)
    )
    return msgspec.structs.replace(made, names=Names(Client(id="c", models=allowed or None), DRAWING))


@pytest.mark.parametrize(
    ("tool", "headers"),
    [
        ({"type": "image_generation", "model": "gpt-image-1"}, {}),
        ({"type": "image_generation"}, {"x_ms_oai_image_generation_deployment": "gpt-image-1"}),
    ],
)
def test_a_model_that_draws_for_a_response_is_one_like_any_other(tool: dict[str, Any], headers: dict[str, str]) -> None:
    """It is allowed or does not exist, decides where the call goes, and has the upstream's name there."""
    drawing = response(tool, **headers)
    (target,) = with_models(DRAWING["gpt-4o"], drawing).targets
    assert target.upstream.name == "west"
    sent = upstream_request(drawing, target, "k")
    assert isinstance(sent.body, bytes)
    assert b'"model":"writer"' in sent.body
    assert b'"painter"' in sent.body or get(sent.headers, "x-ms-oai-image-generation-deployment") == "painter"

    with pytest.raises(NotFound, match="'gpt-image-1' does not exist"):
        with_models(DRAWING["gpt-4o"], response(tool, "gpt-4o", **headers))
    with pytest.raises(BadRequest, match="gpt-image-1"):
        with_models(DRAWING["o4-mini"], drawing)


def test_a_response_without_such_a_model_goes_anywhere_as_it_is() -> None:
    plain = response({"type": "function", "name": "f"})
    assert with_models(DRAWING["gpt-4o"], plain) is DRAWING["gpt-4o"]
