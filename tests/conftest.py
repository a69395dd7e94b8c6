"""What every test may ask for. Rule: a session has one Azurite; whoever needs a place of their own in it takes a prefix."""

import itertools
from collections.abc import Iterator

import pytest

from devtools.azurite import Azurite

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """A Storage account, in memory."""
    with Azurite.start() as running:
        yield running


@pytest.fixture
def prefix() -> str:
    """A TOLLGATE_PREFIX that no other test has."""
    return f"test{next(_numbers)}"
