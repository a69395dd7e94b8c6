"""One running app for all tests of this folder; each reads only its own calls."""

from collections.abc import AsyncIterator, Iterator

import pytest

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from shared.core.configuration import UpstreamKind
from tests.stack import Stack, running, upstream_of

SELDOM = "0 0 0 1 1 *"
"""A rollup schedule for apps whose usage is read seldom: `usage_when` has it rolled up."""


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    """As fast as it can; a test that needs a pace asks for it per request."""
    with Simulator.start() as started:
        yield started


@pytest.fixture(scope="session")
async def stack(anyio_backend: str, azurite: Azurite, simulator: Simulator) -> AsyncIterator[Stack]:
    async with running(azurite, simulator, "e2e", TOLLGATE_ROLLUP_SCHEDULE=SELDOM) as started:
        yield started


@pytest.fixture(scope="session", params=list(UpstreamKind))
def kind(request: pytest.FixtureRequest) -> UpstreamKind:
    return UpstreamKind(request.param)


@pytest.fixture(scope="session")
async def surface(anyio_backend: str, azurite: Azurite, kind: UpstreamKind) -> AsyncIterator[Stack]:
    """An app in front of a simulator of its own that is an upstream of that kind."""
    with Simulator.start() as simulator:
        prefix = f"surface{kind.replace('-', '')}"
        document = {"upstreams": [upstream_of(simulator, "simulator", kind)]}
        async with running(azurite, simulator, prefix, document, TOLLGATE_ROLLUP_SCHEDULE=SELDOM) as started:
            yield started


@pytest.fixture
async def own_stack(azurite: Azurite, simulator: Simulator, prefix: str) -> AsyncIterator[Stack]:
    """An app whose ledger holds this test's calls only."""
    simulator.clear_account()
    async with running(azurite, simulator, prefix) as started:
        yield started
