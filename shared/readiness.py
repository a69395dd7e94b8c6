"""Readiness: whether this instance can serve calls, and what keeps records from being kept.

Rule: a problem is what calls fail of, and a load balancer should go elsewhere; a warning is what somebody should see to while
calls are served. What it looks at is looked at once for all who ask within some seconds; each look takes a moment at the most.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
from azure.core.exceptions import AzureError

from shared.core.configuration import Configuration
from shared.transports import Transport, TransportDown

if TYPE_CHECKING:  # what indexing does not have to load
    from shared.clients.clients_table import Directory, DirectoryStatus
    from shared.gateway.health_board import HealthBoard
    from shared.recording.quarantine import Quarantine
    from shared.recording.shelf import Shelf
    from shared.usage.table import UsageTable

_KEPT_S = 5.0
_MOMENT_S = 3.0
_MANY = 10_000
"""Messages in the queue: minutes of work for the recorder."""
_LATE_S = 3600.0
"""Since usage was last rolled up."""


class Status(StrEnum):
    """In a word."""

    READY = "ready"
    DEGRADED = "degraded"
    """Calls are served, and there are warnings."""
    NOT_READY = "not_ready"


class Deployments(msgspec.Struct, frozen=True, kw_only=True):
    """As this instance has learned: others may know better."""

    all: int
    available: int


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What waits to be kept; None: not known. Above a thousand blobs nobody counts on."""

    messages: int | None = None
    """In the queue; of Event Hubs Azure Monitor tells."""
    shelved: int | None = None
    """Blobs that the timer will deliver."""
    quarantined: int | None = None
    """Messages that nobody could read."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown to anyone who asks: nothing secret, no names but those of models."""

    status: Status
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    configuration: str = ""
    clients: "DirectoryStatus | None" = None
    deployments: Deployments | None = None
    backlog: Backlog = Backlog()
    rollup_age_s: float | None = None
    """Since everything in the ledger was counted; None: never, or not known."""


def not_ready(problem: str) -> Report:
    """Where there are not even parts to look at."""
    return Report(status=Status.NOT_READY, problems=(problem,))


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at; an exception is why it could not be."""

    messages: int | Exception | None
    shelved: int | Exception | None
    quarantined: int | Exception | None
    counted_at: datetime | Exception | None


class Readiness:
    """One per process."""

    def __init__(
        self,
        *,
        directory: "Directory",
        transport: Transport,
        shelf: "Shelf",
        quarantine: "Quarantine",
        usage: "UsageTable",
        board: "HealthBoard",
        now: Callable[[], datetime],
    ) -> None:
        self._directory = directory
        self._transport = transport
        self._shelf = shelf
        self._quarantine = quarantine
        self._usage = usage
        self._board = board
        self._now = now
        self._look: asyncio.Task[_Seen] | None = None
        self._looked_at = 0.0
        """An instant of the event loop's clock."""

    async def report(self) -> Report:
        """How things stand; of the storage account, how they stood a few seconds ago at most."""
        time = asyncio.get_running_loop().time()
        if self._look is None or time - self._looked_at > _KEPT_S:
            self._looked_at = time
            self._look = asyncio.create_task(self._seen())
        return self._judged(await asyncio.shield(self._look))

    async def _seen(self) -> _Seen:
        messages, shelved, quarantined, counted_at = await asyncio.gather(
            _within_a_moment(self._transport.backlog()),
            _within_a_moment(self._shelf.count()),
            _within_a_moment(self._quarantine.count()),
            _within_a_moment(self._usage.watermark()),
        )
        return _Seen(messages=messages, shelved=shelved, quarantined=quarantined, counted_at=counted_at)

    def _judged(self, seen: _Seen) -> Report:
        configuration, source = self._directory.current, self._directory.source.status
        clients = self._directory.status()
        age_s = _age_s(seen.counted_at, self._now())
        deployments, out = self._deployments(configuration)
        problems = (*_problems(seen), *(() if configuration else source.problems))
        refused = f"{clients.unreadable} clients are refused: what the table says of them cannot be read."
        warnings = (
            *_warnings(seen, age_s),
            *([refused] if clients.unreadable else []),
            *out,
            *(source.problems if configuration else ()),
        )
        served = Status.DEGRADED if warnings else Status.READY
        return Report(
            status=Status.NOT_READY if problems else served,
            problems=problems,
            warnings=warnings,
            configuration=source.summary,
            clients=clients,
            deployments=deployments,
            backlog=Backlog(
                messages=_known(seen.messages), shelved=_known(seen.shelved), quarantined=_known(seen.quarantined)
            ),
            rollup_age_s=age_s,
        )

    def _deployments(self, configuration: Configuration | None) -> tuple[Deployments | None, tuple[str, ...]]:
        if configuration is None:
            return None, ()
        names: dict[str, list[str]] = {}
        for deployment in configuration.document.deployments:
            names.setdefault(deployment.model, []).append(deployment.name)
        available = {model: sum(map(self._board.is_available, those)) for model, those in names.items()}
        out = tuple(
            f"Every deployment of the model '{model}' is out for now." for model, n in available.items() if not n
        )
        return Deployments(all=sum(map(len, names.values())), available=sum(available.values())), out


async def _within_a_moment[T](looking: Awaitable[T]) -> T | Exception:
    try:
        async with asyncio.timeout(_MOMENT_S):
            return await looking
    except (AzureError, TransportDown, OSError) as error:  # TimeoutError is an OSError
        return error


def _problems(seen: _Seen) -> tuple[str, ...]:
    """Each service of the account is asked by one of the looks."""
    services = {"Blob": seen.shelved, "Table": seen.counted_at}
    away = [name for name, found in services.items() if isinstance(found, Exception)]
    return tuple(f"The storage account's {name} service cannot be reached." for name in away)


def _warnings(seen: _Seen, age_s: float | None) -> tuple[str, ...]:
    found = {
        "The transport cannot be reached: records go to the shelf.": isinstance(seen.messages, Exception),
        f"{seen.messages} messages wait to be recorded.": (_known(seen.messages) or 0) > _MANY,
        f"{seen.shelved} blobs wait on the shelf: the transport or a sink was away.": bool(_known(seen.shelved)),
        f"{seen.quarantined} messages are in quarantine: nobody could read them.": bool(_known(seen.quarantined)),
        f"Usage was last rolled up {age_s or 0:.0f} s ago: is the timer running?": (age_s or 0) > _LATE_S,
    }
    return tuple(text for text, holds in found.items() if holds)


def _known(found: int | Exception | None) -> int | None:
    return None if isinstance(found, Exception) else found


def _age_s(at: datetime | Exception | None, now: datetime) -> float | None:
    return None if at is None or isinstance(at, Exception) else round((now - at).total_seconds(), 1)
