"""Every way to fail has a status, and OpenAI's shape."""

import json
from collections.abc import Iterator

import pytest

from shared.core import errors
from shared.core.errors import GatewayError, to_openai_json

LIMITS = {"RateLimited": "requests", "TokenRateLimited": "tokens", "BudgetExhausted": "insufficient_quota"}
"""OpenAI names the limit, and not whose fault it is."""


def leaves(base: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    for each in base.__subclasses__():
        yield each
        yield from leaves(each)


LEAVES = sorted(leaves(), key=lambda leaf: leaf.__name__)


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_says_its_own_status_and_whose_fault_it_is(leaf: type[GatewayError]) -> None:
    assert "status" in vars(leaf)
    fault = "invalid_request_error" if leaf.status < 500 else "server_error"
    assert leaf.type == LIMITS.get(leaf.__name__, fault)


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_stands_in_the_outline_with_its_status(leaf: type[GatewayError]) -> None:
    rows = [row.split() for row in (errors.__doc__ or "").splitlines()]
    assert [row[2] for row in rows if row[1:2] == [leaf.__name__]] == [str(leaf.status)]


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_has_openais_shape(leaf: type[GatewayError]) -> None:
    body = json.loads(to_openai_json(leaf("What is wrong.", param="model")))
    assert body == {
        "error": {"message": "What is wrong.", "type": leaf.type, "param": "model", "code": leaf.default_code}
    }


def test_a_code_of_its_own_goes_before_the_default() -> None:
    assert errors.NotFound("x", code="model_not_found").code == "model_not_found"
    assert errors.NotReady("x").code == "gateway_not_ready"
    assert str(errors.NotReady("x")) == "x"
