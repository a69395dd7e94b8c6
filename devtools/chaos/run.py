"""One run: the stack is started, called and broken at once, left alone until it is quiet, and then asked for its accounts."""

import asyncio
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec

from devtools import local_config
from devtools.azurite import ROOT, Azurite
from devtools.chaos.accounts import Stores
from devtools.chaos.calls import Teller, Told
from devtools.chaos.compare import Comparison, compare
from devtools.chaos.faults import Breaker, Done
from devtools.chaos.plan import MODELS, RESOURCES, Call, Plan, Transport
from devtools.devhost.client import DevHost
from devtools.eventhubs import EventHubsServer
from devtools.kql import SCHEMA
from devtools.kusto import KustoServer
from devtools.simulator import Simulator
from shared.core.configuration import OnDisconnect

PREFIX = "chaos"
_MOST_AT_ONCE = 48
"""Calls under way: most of what a call takes is the upstream's pace."""
_LEAST_AT_ONCE = 8
_TELL_EVERY = 1000
"""Calls, of a long run."""
INGESTION = {Transport.STORAGE_QUEUE: "queued", Transport.EVENT_HUBS: "managed"}
"""How calls get into Data Explorer: each way beside one transport."""

_LONGEST_BETWEEN_TIMERS_S = 30

_UNRECORDED = re.compile(r"call not recorded as closed call_id=(\S+)")

_SETTINGS = {
    "FUNCTIONS_WORKER_RUNTIME": "python",
    "TOLLGATE_PREFIX": PREFIX,
    "TOLLGATE_INCOMPLETE_AFTER_S": "6",  # shorter than some calls take: their end has to replace it
    "TOLLGATE_DRAIN_TIMEOUT_S": "10",
    "TOLLGATE_FIRST_BYTE_TIMEOUT_S": "20",
    "TOLLGATE_IDLE_TIMEOUT_S": "20",
    "TOLLGATE_HEARTBEAT_S": "3",
    "UPSTREAM_KEY": "key-of-the-upstream",
}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to."""

    comparison: Comparison
    done: tuple[Done, ...]
    seconds: float
    calling_seconds: float
    """Until the last client knew what became of its call."""
    log: str
    """The host's."""


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that runs."""

    host: DevHost
    simulator: Simulator
    hub: EventHubsServer
    kusto: KustoServer
    azurite: Azurite
    keeper: ThreadPoolExecutor
    keys: local_config.LocalKeys


async def run(planned: Plan, seed: int, transport: Transport) -> Result:
    """Carries out a plan; `seed` decides how its faults go about it."""
    began = datetime.now(UTC)
    async with _stack(transport, _rollup_schedule(len(planned.calls))) as stack:
        calling_began = datetime.now(UTC)
        breaker = Breaker(
            host=stack.host,
            azurite=stack.azurite,
            simulator=stack.simulator,
            hub=stack.hub,
            kusto=stack.kusto,
            queue_name=f"{PREFIX}-calls",
            keeper=stack.keeper,
            seed=seed,
        )
        clients = _Clients(planned.calls, stack)
        async with asyncio.TaskGroup() as group:
            group.create_task(breaker.run(planned.faults, lambda: clients.begun))
            group.create_task(clients.run())
        calling_seconds = (datetime.now(UTC) - calling_began).total_seconds()
        stores = Stores(stack.azurite.connection_string, PREFIX, stack.hub, stack.kusto)
        served = await stack.simulator.settled(timeout_s=60)
        async with stores.opened():
            kept = await stores.read(began, stack.host.base_url, stack.keys.admin_key)
        return Result(
            comparison=compare(clients.told, served, kept, breaker.done, _UNRECORDED.findall(stack.host.log)),
            done=tuple(breaker.done),
            seconds=(datetime.now(UTC) - began).total_seconds(),
            calling_seconds=calling_seconds,
            log=stack.host.log,
        )


class _Clients:
    """All calls, so many at once."""

    def __init__(self, calls: tuple[Call, ...], stack: Stack) -> None:
        self.begun = 0
        self.told: list[Told] = []
        self._waiting = iter(calls)
        self._keys = [client.key.text for client in stack.keys.clients]
        self._base_url = stack.host.base_url
        self._at_once = min(_MOST_AT_ONCE, max(_LEAST_AT_ONCE, len(calls) // 50))

    async def run(self) -> None:
        """Returns when every client knows what became of its calls."""
        async with (
            httpx.AsyncClient(base_url=self._base_url, timeout=60, limits=httpx.Limits(max_connections=None)) as http,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(self._at_once):
                group.create_task(self._one_after_another(http))

    async def _one_after_another(self, http: httpx.AsyncClient) -> None:
        for call in self._waiting:
            self.begun += 1
            if self.begun % _TELL_EVERY == 0:
                print(f"{datetime.now(UTC):%H:%M:%S} {self.begun} calls", file=sys.stderr, flush=True)
            self.told.append(await Teller(call).ask(http, self._keys[call.client]))


@contextlib.asynccontextmanager
async def _stack(transport: Transport, rollup_schedule: str) -> AsyncIterator[Stack]:
    loop = asyncio.get_running_loop()
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as folder,
        ThreadPoolExecutor(max_workers=1) as keeper,
        Simulator.start() as simulator,
    ):
        keys = local_config.load_keys(Path(folder) / "keys.json")
        azurite = await loop.run_in_executor(keeper, _azurite, Path(folder) / "azurite")
        try:
            async with (
                EventHubsServer({"calls": 4}) as hub,
                KustoServer(storage_connection_string=azurite.connection_string) as kusto,
            ):
                for file in SCHEMA:
                    kusto.manage(f".execute database script <|\n{file.read_text(encoding='utf-8')}")
                settings = {
                    "AzureWebJobsStorage": azurite.connection_string,
                    "TOLLGATE_CONFIG": json.dumps(_configuration(simulator, keys)),
                    "TOLLGATE_ADMIN_KEY": keys.admin_key,
                    "TOLLGATE_TRANSPORT": transport.value,
                    "TOLLGATE_EVENT_HUB": hub.connection_string,
                    "TOLLGATE_KUSTO_URI": kusto.url,
                    "TOLLGATE_KUSTO_INGESTION": INGESTION[transport],
                    "TOLLGATE_ROLLUP_SCHEDULE": rollup_schedule,
                }
                # What a killed host had taken from the queue comes back after the lease: ten minutes in Azure.
                async with DevHost.start(ROOT, _SETTINGS | settings, arguments=("--queue-lease", "10")) as host:
                    yield Stack(
                        host=host,
                        simulator=simulator,
                        hub=hub,
                        kusto=kusto,
                        azurite=azurite,
                        keeper=keeper,
                        keys=keys,
                    )
        finally:
            await loop.run_in_executor(keeper, azurite.stop)


def _rollup_schedule(calls: int) -> str:
    """The more calls the less often: an hour is counted from all of its calls, and here all are in one."""
    return f"*/{min(_LONGEST_BETWEEN_TIMERS_S, max(1, calls // 500))} * * * * *"


def _azurite(data: Path) -> Azurite:
    return Azurite.start(data, crashes=True)


def _configuration(simulator: Simulator, keys: local_config.LocalKeys) -> dict[str, Any]:
    """Every model on two upstreams, so that calls move from one to the other; one client has its streams drained, one cut."""
    return {
        "upstreams": [
            {"name": name, "kind": "openai", "url": f"{simulator.url(name)}/v1", "key": "$UPSTREAM_KEY"}
            for name in RESOURCES
        ],
        "deployments": [
            {"name": f"{model}-{name}", "model": model, "upstream": name} for model in MODELS for name in RESOURCES
        ],
        "clients": [
            {"id": client.id, "keys": [msgspec.structs.asdict(client.key.hash)], "on_disconnect": on_disconnect}
            for client, on_disconnect in zip(keys.clients, OnDisconnect, strict=True)
        ],
    }
