"""The composition root: the one place that reads the environment and knows every part.

Rule: importing does nothing. Parts are made on first use, within the event loop that uses them, and made again next time
where that failed; so a wrong setting or a storage account that is away shows on /health and mends itself.
"""

import asyncio
import logging
import os
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import random
from time import monotonic

import msgspec
from azure.core.exceptions import AzureError
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from shared.core.configuration import Configuration, parse
from shared.core.document_problems import ConfigurationInvalid
from shared.core.errors import NotReady
from shared.health_board import HealthBoard
from shared.objects import Objects
from shared.proxying import Gateway
from shared.publishing import Publisher
from shared.quarantine import Quarantine
from shared.settings import Settings, SettingsInvalid, read_settings
from shared.sinks import Sink
from shared.sinks.archive import Archive
from shared.sinks.ledger import Ledger
from shared.transports.storage_queue import StorageQueue
from shared.upstream import Upstreams
from shared.usage_table import UsageTable

_log = logging.getLogger(__name__)


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Every part, ready for use."""

    settings: Settings
    configuration: Configuration | None
    problems: tuple[str, ...]
    """Why there is no configuration, and so no gateway."""
    gateway: Gateway | None
    sinks: tuple[Sink, ...]
    quarantine: Quarantine
    ledger: Ledger
    usage: UsageTable


def now() -> datetime:
    """The one clock."""
    return datetime.now(UTC)


@cache
def settings_for_bindings() -> Settings:
    """The settings that triggers are declared with. Wrong ones become the defaults, so that indexing never fails."""
    try:
        return read_settings(os.environ)
    except SettingsInvalid as error:
        _log.error("settings invalid", extra={"problems": error.problems})
        return read_settings({})


def queue_name(settings: Settings) -> str:
    """The queue between gateway and recorder."""
    return f"{settings.prefix}-calls"


_making: asyncio.Task[Services] | None = None


async def services() -> Services:
    """The parts of this process. Raises NotReady, with what to do, where they cannot be had."""
    global _making  # noqa: PLW0603 - one set of parts per process, made once
    if _making is None or (_making.done() and _making.exception() is not None):
        _making = asyncio.create_task(_make())
    try:
        return await asyncio.shield(_making)
    except SettingsInvalid as error:
        raise NotReady(f"The gateway's settings are invalid: {error}") from error
    except AzureError as error:
        raise NotReady("The gateway's storage account cannot be reached; try again later.") from error


async def gateway() -> Gateway:
    """The gateway. Raises NotReady where there is no valid configuration."""
    parts = await services()
    if parts.gateway is None:
        raise NotReady("The gateway's configuration is invalid; /health says why.")
    return parts.gateway


async def _make() -> Services:
    settings = read_settings(os.environ)
    if not settings.storage:
        raise SettingsInvalid(("AzureWebJobsStorage is not set: add the connection string of a Storage account",))
    blobs = BlobServiceClient.from_connection_string(settings.storage)
    queues = QueueServiceClient.from_connection_string(settings.storage)
    tables = TableServiceClient.from_connection_string(settings.storage)
    transport = StorageQueue(queues.get_queue_client(queue_name(settings)))
    archive = Archive(blobs.get_container_client(f"{settings.prefix}-archive"))
    quarantine = Quarantine(blobs.get_container_client(f"{settings.prefix}-quarantine"))
    ledger = Ledger(tables.get_table_client(f"{settings.prefix}Ledger"))
    objects = Objects(tables.get_table_client(f"{settings.prefix}Objects"))
    usage = UsageTable(tables.get_table_client(f"{settings.prefix}Usage"))
    async with asyncio.TaskGroup() as group:
        for part in (transport, archive, quarantine, ledger, objects, usage):
            group.create_task(part.prepare())
    configuration, problems = _configuration(settings)
    gateway = (
        None
        if configuration is None
        else Gateway(
            settings=settings,
            configuration=configuration,
            upstreams=Upstreams(settings),
            board=HealthBoard(now=monotonic, random=random),
            publisher=Publisher(transport, archive),
            objects=objects,
            now=now,
        )
    )
    return Services(
        settings=settings,
        configuration=configuration,
        problems=problems,
        gateway=gateway,
        sinks=(archive, ledger),
        quarantine=quarantine,
        ledger=ledger,
        usage=usage,
    )


def _configuration(settings: Settings) -> tuple[Configuration | None, tuple[str, ...]]:
    source = settings.configuration
    if not source:
        return None, ("TOLLGATE_CONFIG is not set: add the path of a configuration file, or its JSON",)
    try:
        text = source if source.lstrip().startswith("{") else Path(source).read_text(encoding="utf-8")
        return parse(text, os.environ), ()
    except OSError as error:
        return None, (f"TOLLGATE_CONFIG names a file that cannot be read: {error}",)
    except ConfigurationInvalid as error:
        return None, error.problems
