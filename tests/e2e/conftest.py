"""One running app for all tests of this folder; each reads only its own calls."""

from collections.abc import AsyncIterator, Iterator

import pytest

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from tests.stack import Stack, running


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    """As fast as it can; a test that needs a pace asks for it per request."""
    with Simulator.start() as started:
        yield started


@pytest.fixture(scope="session")
async def stack(azurite: Azurite, simulator: Simulator) -> AsyncIterator[Stack]:
    async with running(azurite, simulator, "e2e") as started:
        yield started
