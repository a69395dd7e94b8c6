"""The composition root: the one place that knows every part, and hands each what it needs.

Rule: importing does nothing but load what the parts are made of, the Azure SDKs among it; so only wiring imports this, when
the parts are first used, and commands.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from azure.core.exceptions import AzureError
from azure.data.tables.aio import TableClient
from azure.storage.blob.aio import ContainerClient
from azure.storage.queue.aio import QueueServiceClient

from shared.clients.clients_table import ClientTable, Directory
from shared.clients.entra import EntraTokens
from shared.clients.identifying import Identity
from shared.clients.limits import Limits
from shared.clients.limits_table import LimitsTable
from shared.configuration_source import ConfigurationSource, origin_of
from shared.core.clients import keys
from shared.core.configuration import Configuration, Document
from shared.core.errors import NotReady
from shared.core.money.prices import PriceSheet
from shared.core.recording.events import Closed
from shared.credentials import Credentials, app_identity
from shared.gateway.attempting import Attempting
from shared.gateway.health_board import HealthBoard
from shared.gateway.objects import Objects
from shared.gateway.proxying import Gateway
from shared.gateway.upstream import Upstreams
from shared.log_lines import write_fields
from shared.managing import Management
from shared.readiness import Readiness
from shared.recording.chains import Chains
from shared.recording.gathering import Gathering
from shared.recording.publishing import Publisher, Sizes
from shared.recording.quarantine import Quarantine
from shared.recording.recorder import Recorder
from shared.recording.shelf import Shelf
from shared.settings import Settings, SettingsInvalid, Transports, read_settings
from shared.sinks import Forgetting
from shared.sinks.archive import Archive
from shared.sinks.ledger import Ledger
from shared.storage.account import Account, connect
from shared.telemetry import OFF, Telemetry, exporters_of
from shared.transports import Transport
from shared.transports.storage_queue import StorageQueue
from shared.usage.budgeting import Budgeting
from shared.usage.call_search import CallSearch
from shared.usage.deferred_table import DeferredUsage
from shared.usage.exporting import ExportStore
from shared.usage.metering import Metering
from shared.usage.rows import UsageSource
from shared.usage.table import UsageTable

if TYPE_CHECKING:
    from shared.sinks.data_explorer import DataExplorer

_log = logging.getLogger(__name__)

type Clock = Callable[[], datetime]
"""Tells the time, in UTC."""

_PATIENCE_S = 10.0
"""For Data Explorer: its SDK tries again for minutes where the cluster throttles or its storage is away."""
_MOST_WAITING_BYTES = 64 * 1024 * 1024
"""Of events that wait to be sent, in one process."""


class Stores(msgspec.Struct, frozen=True, kw_only=True):
    """The parts that keep calls, and clients, in the Storage account."""

    account: Account
    shelf: Shelf
    archive: Archive
    quarantine: Quarantine
    ledger: Ledger
    deferred: DeferredUsage
    usage: UsageTable
    chains: Chains
    clients: ClientTable
    recorder: Recorder
    forgetting: tuple[Forgetting, ...]
    """What keeps content beside the archive, and can let go of it."""

    settings: Settings
    environ: Mapping[str, str]
    now: Clock

    async def configuration(self) -> Configuration:
        """The configuration as it is now. Raises NotReady where there is none that can be used."""
        source = ConfigurationSource(origin_of(self.settings.configuration, self.account.blobs), self.environ, self.now)
        await source.refresh()
        if source.current is None:
            raise NotReady(f"The configuration cannot be used: {'; '.join(source.status.problems)}")
        return source.current

    @property
    def parts(self) -> tuple["_Part", ...]:
        """Those that have to be prepared."""
        return (
            self.shelf,
            self.archive,
            self.quarantine,
            self.ledger,
            self.deferred,
            self.usage,
            self.chains,
            self.clients,
        )


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Every part, ready for use."""

    settings: Settings
    directory: Directory
    management: Management
    gateway: Gateway
    identity: Identity
    following: asyncio.Task[None]
    """Keeps the directory and the configuration fresh; here so that it is not collected."""
    transport: Transport
    shelf: Shelf
    recorder: Recorder
    ledger: Ledger
    metering: Metering
    budgeting: Budgeting
    usage: UsageTable
    usage_rows: UsageSource
    """Where usage is read from."""
    chains: Chains
    calls: CallSearch
    exports: ExportStore
    objects: Objects
    limits: Limits
    limits_table: LimitsTable
    telemetry: Telemetry
    readiness: Readiness

    @property
    def configuration(self) -> Configuration | None:
        """The one in force, with everyone's keys."""
        return self.directory.current

    @property
    def prices(self) -> PriceSheet:
        """Those in force; none while there is no configuration."""
        return self.configuration.prices if self.configuration else PriceSheet()

    @property
    def currency(self) -> str:
        """Of all money."""
        return self.configuration.document.currency if self.configuration else Document().currency

    @property
    def problems(self) -> tuple[str, ...]:
        """Why there is no configuration, and so no gateway."""
        return () if self.directory.current else self.directory.source.status.problems


async def services(environ: Mapping[str, str], now: Clock) -> Services:
    """The parts of a running app. Raises SettingsInvalid, NotReady, AzureError."""
    settings = read_settings(environ)
    write_fields(logging.getLogger().handlers, as_json=settings.logs_json)
    account = connect(settings)
    tables, stores = account.tables, _stores(settings, account, environ, now)
    archive, shelf = stores.archive, stores.shelf
    transport = _transport(settings, account.queues)
    objects = Objects(tables.get_table_client(f"{settings.prefix}Objects"), now)
    limits_table = LimitsTable(tables.get_table_client(f"{settings.prefix}Limits"))
    limits = Limits(limits_table, instance=secrets.token_hex(4), now=now, allow_when_down=settings.allow_unchecked)
    source = ConfigurationSource(origin_of(settings.configuration, account.blobs), environ, now)
    directory = Directory(stores.clients, source, now)
    exports = ExportStore(account.blobs.get_container_client(f"{settings.prefix}-exports"))
    await _prepare((*stores.parts, transport, objects, limits_table, exports), account)
    await source.refresh()
    await directory.refresh()

    tokens = EntraTokens(now, monotonic)
    identity = Identity(settings, tokens)
    telemetry = _telemetry(settings, directory, environ, now)
    board = HealthBoard(now=monotonic, random=random)
    upstreams, credentials = Upstreams(settings), Credentials(now)
    gateway = Gateway(
        settings=settings,
        live=directory,
        identity=identity,
        attempting=Attempting(
            upstreams=upstreams,
            board=board,
            credentials=credentials,
            now=now,
            first_byte_timeout_s=settings.first_byte_timeout_s,
            idle_timeout_s=settings.idle_timeout_s,
        ),
        publisher=Publisher(
            transport,
            archive,
            shelf,
            Sizes(
                claim_check_bytes=settings.claim_check_bytes,
                is_gzip=settings.is_gzip,
                waiting_bytes=_MOST_WAITING_BYTES,
            ),
            telemetry,
        ),
        objects=objects,
        limits=limits,
        now=now,
        telemetry=telemetry,
    )
    return Services(
        settings=settings,
        directory=directory,
        management=Management(directory, board, now, _mint_key),
        gateway=gateway,
        identity=identity,
        following=asyncio.create_task(_follow(directory, tokens, settings.refresh_s)),
        transport=transport,
        shelf=shelf,
        recorder=msgspec.structs.replace(stores.recorder, telemetry=telemetry),
        ledger=stores.ledger,
        metering=Metering(
            upstreams=upstreams,
            credentials=credentials,
            deferred=stores.deferred,
            ledger=stores.ledger,
            recorder=stores.recorder,
        ),
        budgeting=Budgeting(
            usage=stores.usage,
            limits=limits,
            alerts=tables.get_table_client(f"{settings.prefix}Limits"),
            upstreams=upstreams,
            now=now,
        ),
        usage=stores.usage,
        usage_rows=_usage_source(settings, directory, stores.usage, now),
        chains=stores.chains,
        calls=CallSearch(tables.get_table_client(f"{settings.prefix}Ledger")),
        exports=exports,
        objects=objects,
        limits=limits,
        limits_table=limits_table,
        telemetry=telemetry,
        readiness=Readiness(
            directory=directory,
            transport=transport,
            shelf=shelf,
            quarantine=stores.quarantine,
            usage=stores.usage,
            board=board,
            now=now,
        ),
    )


@contextlib.asynccontextmanager
async def stores(environ: Mapping[str, str], now: Clock) -> AsyncIterator[Stores]:
    """The parts that keep, for a command, without a gateway. Raises SettingsInvalid, NotReady."""
    settings = read_settings(environ)
    account = connect(settings)
    made = _stores(settings, account, environ, now)
    await _prepare(made.parts, account)
    try:
        yield made
    finally:
        await made.archive.close()
        await account.close()


def _stores(settings: Settings, account: Account, environ: Mapping[str, str], now: Clock) -> Stores:
    def container(name: str) -> ContainerClient:
        return account.blobs.get_container_client(f"{settings.prefix}-{name}")

    def table(name: str) -> TableClient:
        return account.tables.get_table_client(f"{settings.prefix}{name}")

    shelf, archive, quarantine = (
        Shelf(container("shelf"), now),
        Archive(container("archive"), is_gzip=settings.is_gzip),
        Quarantine(container("quarantine")),
    )
    ledger, deferred = Ledger(table("Ledger")), DeferredUsage(table("Deferred"))
    explorer = _explorer(settings, archive)
    return Stores(
        settings=settings,
        environ=environ,
        now=now,
        account=account,
        shelf=shelf,
        archive=archive,
        quarantine=quarantine,
        ledger=ledger,
        deferred=deferred,
        usage=UsageTable(table("Usage")),
        chains=Chains(container("chains")),
        clients=ClientTable(table("Clients")),
        recorder=Recorder(
            archive=archive,
            sinks=(
                archive,
                Gathering(ledger),
                deferred,
                *(Gathering(each, only=Closed, patience_s=_PATIENCE_S) for each in explorer),
            ),
            patient=(archive, ledger, deferred, *explorer),
            quarantine=quarantine,
            shelf=shelf,
        ),
        forgetting=explorer,
    )


def _transport(settings: Settings, queues: QueueServiceClient) -> Transport:
    if settings.transport is Transports.STORAGE_QUEUE:
        name = settings.queue_name
        return StorageQueue(queues.get_queue_client(name), queues.get_queue_client(f"{name}-poison"))
    from azure.eventhub.aio import EventHubProducerClient  # a tenth of a second that others need not spend

    from shared.transports.event_hubs import EventHubs

    options: dict[str, Any] = {"eventhub_name": settings.event_hub_name, "retry_total": 1, "retry_backoff_factor": 0.2}
    if settings.event_hub:
        client = EventHubProducerClient.from_connection_string(settings.event_hub, **options)
    elif settings.event_hub_namespace:
        client = EventHubProducerClient(settings.event_hub_namespace, credential=app_identity(), **options)
    else:
        raise SettingsInvalid(
            (
                "TOLLGATE_EVENT_HUB is not set: add the namespace's connection string,"
                " or its host name as TOLLGATE_EVENT_HUB__fullyQualifiedNamespace",
            )
        )
    return EventHubs(client, settings.event_hub_message_bytes)


def _usage_source(settings: Settings, directory: Directory, table: UsageTable, now: Clock) -> UsageSource:
    if not settings.usage_from_kusto:
        return table
    if not settings.kusto_uri:
        raise SettingsInvalid(
            ("TOLLGATE_USAGE_FROM is data-explorer, and TOLLGATE_KUSTO_URI is not set: add the cluster",)
        )
    from shared.usage.explorer import UsageExplorer  # half a second that others need not spend

    return UsageExplorer(
        settings.kusto_uri,
        settings.kusto_database,
        lambda: directory.current.prices if directory.current else PriceSheet(),
        now,
    )


def _telemetry(settings: Settings, directory: Directory, environ: Mapping[str, str], now: Clock) -> Telemetry:
    if not exporters_of(settings):
        return OFF
    from shared.telemetry_export import OpenTelemetry  # a second, with Application Insights, that others need not spend

    service = {
        "service.name": environ.get("WEBSITE_SITE_NAME") or "tollgate",
        "service.instance.id": environ.get("WEBSITE_INSTANCE_ID") or secrets.token_hex(8),
    }
    return OpenTelemetry(settings, service=service, now=now, configuration=lambda: directory.current)


def _explorer(settings: Settings, archive: Archive) -> tuple["DataExplorer", ...]:
    """Data Explorer, where it is on."""
    if not settings.kusto_uri:
        return ()
    from shared.sinks.data_explorer import DataExplorer  # half a second that others need not spend

    return (DataExplorer(settings.kusto_uri, settings.kusto_database, archive.get, managed=settings.kusto_managed),)


class _Part(Protocol):
    async def prepare(self) -> None: ...


async def _prepare(parts: Sequence[_Part], account: Account) -> None:
    """Creates what the parts need. Raises NotReady where that cannot be had, and then leaves no connection behind."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part.prepare())
    except* AzureError as errors:
        await account.close()
        raise NotReady("The gateway's storage account cannot be reached; try again later.") from errors


async def _follow(directory: Directory, tokens: EntraTokens, interval_s: float) -> None:
    """Looks for changes for as long as the process lives."""
    while True:
        await tokens.follow(directory.current.document.entra if directory.current else None)
        await asyncio.sleep(interval_s)
        for failure in await asyncio.gather(directory.source.refresh(), directory.refresh(), return_exceptions=True):
            if failure is not None and not isinstance(failure, NotReady):  # a defect of ours: this has to outlive it
                _log.error("background look failed", exc_info=failure)
        directory.rebuild()  # also where the table is away: the configuration may be new, or a key have expired


def _mint_key() -> keys.MintedKey:
    return keys.mint(secrets.token_bytes(keys.RANDOM_BYTES))
