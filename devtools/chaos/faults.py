"""Breaking things, one after another or at once. The rule: whatever is taken away is given back, and when is noted."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from datetime import UTC, datetime

import msgspec
from azure.core.exceptions import AzureError
from azure.storage.queue.aio import QueueClient

from devtools.azurite import Azurite
from devtools.chaos.plan import CHAT_MODELS, RESOURCES, Fault, Kind
from devtools.devhost.client import DevHost
from devtools.eventhubs import EventHubsServer
from devtools.kusto import KustoServer
from devtools.simulator import Fault as UpstreamFault
from devtools.simulator import Simulator


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """A fault, and from when to when it lasted (UTC)."""

    kind: Kind
    began: datetime
    ended: datetime


class Breaker:
    """What can be broken in one running stack. One fault at a time for each part of it."""

    def __init__(
        self,
        *,
        host: DevHost,
        azurite: Azurite,
        simulator: Simulator,
        hub: EventHubsServer,
        kusto: KustoServer,
        queue_name: str,
        keeper: Executor,
        seed: int,
    ) -> None:
        self.done: list[Done] = []
        self._host, self._azurite, self._simulator = host, azurite, simulator
        self._hub, self._kusto = hub, kusto
        self._queue_name = queue_name
        self._keeper = keeper
        """The thread that starts Azurite: a child ends with the thread that started it."""
        self._chance = random.Random(seed)
        self._host_lock, self._storage_lock = asyncio.Lock(), asyncio.Lock()
        self._hub_lock, self._kusto_lock = asyncio.Lock(), asyncio.Lock()

    async def run(self, faults: tuple[Fault, ...], begun: Callable[[], int]) -> None:
        """Breaks everything at its time; returns when all is given back."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                while begun() < fault.after:  # noqa: ASYNC110 - a counter, not an event
                    await asyncio.sleep(0.01)
                group.create_task(self._break(fault))

    async def _break(self, fault: Fault) -> None:
        if fault.kind in (Kind.WORKER_KILLED, Kind.HOST_KILLED):
            await self._kill_app(fault.kind)
        elif fault.kind in (Kind.STORAGE_KILLED, Kind.STORAGE_STOPPED):
            await self._take_storage_away(fault)
        elif fault.kind is Kind.HUB_AWAY:
            await self._take_hub_away(fault)
        elif fault.kind in (Kind.ANALYSIS_AWAY, Kind.ANALYSIS_SLOW):
            await self._hold_analysis_up(fault)
        else:
            with self._noted(fault.kind):
                await self._disturb(fault)

    async def _disturb(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.UPSTREAM_FAILED:
                how = self._chance.choice(({"status": 500}, {"status": 429}, {"status": 503}, {"drop": True}))
                target = f"{RESOURCES[0]}:{self._chance.choice(CHAT_MODELS)}"
                self._simulator.set_fault(target, msgspec.convert({"times": 3, **how}, UpstreamFault))
            case Kind.MESSAGES_DOUBLED:
                await self._double_messages()
            case Kind.ACKS_LOST:
                self._hub.faults.lost_acks += 3
            case Kind.SENDS_REFUSED:
                self._hub.faults.rejected_sends += 8
            case Kind.EVENTS_REPEATED:
                self._hub.faults.duplicate_deliveries += 20
            case Kind.ANALYSIS_THROTTLED:
                self._kusto.faults.throttled += 5
            case Kind.ANALYSIS_ANSWERS_LOST:
                self._kusto.faults.lost_answers += 3

    async def _take_hub_away(self, fault: Fault) -> None:
        async with self._hub_lock:
            with self._noted(fault.kind):
                self._hub.faults.refuse_connections = True
                self._hub.drop_connections()
                await asyncio.sleep(fault.seconds)
                self._hub.faults.refuse_connections = False

    async def _hold_analysis_up(self, fault: Fault) -> None:
        async with self._kusto_lock:
            with self._noted(fault.kind):
                if fault.kind is Kind.ANALYSIS_AWAY:
                    self._kusto.faults.unavailable = True
                else:
                    self._kusto.faults.slow_s = fault.seconds / 4
                await asyncio.sleep(fault.seconds)
                self._kusto.faults.unavailable, self._kusto.faults.slow_s = False, 0.0

    async def _kill_app(self, kind: Kind) -> None:
        async with self._host_lock:
            await self._host.wait_until_ready()
            with self._noted(kind):
                await (self._host.kill_worker() if kind is Kind.WORKER_KILLED else self._host.kill())
            if kind is Kind.HOST_KILLED:
                await self._host.begin()

    async def _take_storage_away(self, fault: Fault) -> None:
        async with self._storage_lock:
            with self._noted(fault.kind):
                if fault.kind is Kind.STORAGE_STOPPED:
                    os.kill(self._azurite.process.pid, signal.SIGSTOP)
                    await asyncio.sleep(fault.seconds)
                    os.kill(self._azurite.process.pid, signal.SIGCONT)
                else:
                    loop = asyncio.get_running_loop()
                    await loop.run_in_executor(self._keeper, self._azurite.kill)
                    await asyncio.sleep(fault.seconds)
                    await loop.run_in_executor(self._keeper, self._azurite.start_again)

    async def _double_messages(self) -> None:
        """Takes what waits, puts it back twice and in another order, and then lets go of it."""
        with contextlib.suppress(AzureError):  # a storage that has just come back may still refuse
            async with self._storage_lock, self._queue() as queue:
                pages = queue.receive_messages(messages_per_page=32, max_messages=32, visibility_timeout=30)
                messages = [message async for message in pages]
                twice = self._chance.sample(messages * 2, len(messages) * 2)
                for message in twice:
                    await queue.send_message(message.content, visibility_timeout=self._chance.randrange(3))
                for message in messages:
                    await queue.delete_message(message)

    @contextlib.asynccontextmanager
    async def _queue(self) -> AsyncIterator[QueueClient]:
        connection = self._azurite.connection_string
        async with QueueClient.from_connection_string(connection, self._queue_name, retry_total=0) as queue:
            yield queue

    @contextlib.contextmanager
    def _noted(self, kind: Kind) -> Iterator[None]:
        began = datetime.now(UTC)
        try:
            yield
        finally:
            self.done.append(Done(kind=kind, began=began, ended=datetime.now(UTC)))
