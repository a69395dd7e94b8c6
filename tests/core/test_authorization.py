"""What a client may do."""

import pytest

from shared.core.authorization import models_of, pool_of
from shared.core.configuration import Client, Pool, parse
from shared.core.errors import NotFound

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
