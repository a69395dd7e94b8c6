"""One simulator for all tests, and the SDK's clients on it."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

from devtools.simulator import Simulator

API_VERSION = "2024-10-21"


@pytest.fixture(scope="session")
def running() -> Iterator[Simulator]:
    with Simulator.start() as started:
        yield started


@pytest.fixture
def simulator(running) -> Simulator:
    """The one simulator, healthy and with an empty account."""
    running.clear_faults()
    running.clear_account()
    return running


@pytest.fixture
async def client(simulator) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{simulator.base_url}/v1", api_key="sk-secret", max_retries=0) as made:
        yield made


@pytest.fixture
async def azure(simulator) -> AsyncIterator[AsyncAzureOpenAI]:
    async with AsyncAzureOpenAI(
        azure_endpoint=simulator.url("eastus"), api_key="azure-secret", api_version=API_VERSION, max_retries=0
    ) as made:
        yield made


@pytest.fixture
def sync_client(simulator) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{simulator.base_url}/openai/v1", api_key="sk-secret", max_retries=0) as made:
        yield made


@pytest.fixture
def sync_azure(simulator) -> Iterator[AzureOpenAI]:
    with AzureOpenAI(
        azure_endpoint=simulator.url("swe"), api_key="azure-secret", api_version=API_VERSION, max_retries=0
    ) as made:
        yield made


@pytest.fixture
async def wire(simulator) -> AsyncIterator[httpx.AsyncClient]:
    """The bytes, without an SDK between."""
    headers = {"authorization": "Bearer sk-secret"}
    async with httpx.AsyncClient(base_url=simulator.base_url, headers=headers, timeout=10) as made:
        yield made
