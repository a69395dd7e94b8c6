"""What every test may ask for. Rule: a session has one Azurite; whoever needs a place of their own in it takes a prefix."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from devtools.azurite import Azurite
from tests.emulator import AWAY, Storage, storage_at

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


@pytest.fixture
async def storage(azurite: Azurite, prefix: str) -> AsyncIterator[Storage]:
    """The parts that keep, ready and empty."""
    async with storage_at(azurite.connection_string, prefix) as parts:
        for part in (parts.archive, parts.ledger, parts.usage, parts.quarantine, parts.shelf, parts.chains):
            await part.prepare()
        yield parts


@pytest.fixture
async def storage_away(prefix: str) -> AsyncIterator[Storage]:
    """The parts that keep, with nothing there to keep in."""
    async with storage_at(AWAY, prefix, retry_total=0) as parts:
        yield parts
