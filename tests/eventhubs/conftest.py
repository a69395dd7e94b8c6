"""The stand-in under the official SDK: every test here speaks through azure-eventhub, as the app does."""

import gc
import warnings
from collections.abc import AsyncIterator, Iterator

import pytest

from devtools.eventhubs import EventHubsServer


@pytest.fixture(autouse=True)
def _leave_no_socket_to_the_next_test() -> Iterator[None]:
    """The SDK drops broken connections without closing their sockets: collect them here, and say nothing."""
    yield
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


@pytest.fixture
async def server(anyio_backend: str) -> AsyncIterator[EventHubsServer]:
    async with EventHubsServer({"calls": 4}) as running:
        yield running
