"""What keeps things: the Storage account, the transport, Data Explorer, and the clock that all of them agree on.

Rule: a right is proved by using it, on things of the doctor's own that are taken away again.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from azure.core.exceptions import AzureError, HttpResponseError

from shared.core.recording.kusto_rows import Row
from shared.credentials import app_identity
from shared.doctor.findings import Examined, Finding, error, ok, warning
from shared.settings import Settings, Transports
from shared.storage.account import Account

_PATIENCE_S = 20.0
_SKEW_S = 60.0
"""Tokens and signatures are refused from a few minutes on; limits by the minute are wrong before."""

_RIGHTS = {
    "Blob": "Storage Blob Data Owner",
    "Queue": "Storage Queue Data Contributor",
    "Table": "Storage Table Data Contributor",
}


async def storage(examined: Examined) -> Sequence[Finding]:
    """Whether each service of the account is there, and lets the app make, write and delete."""
    if examined.account is None:
        return ()
    account, name = examined.account, f"{examined.settings.prefix}doctor{secrets.token_hex(4)}"
    uses = {"Blob": _use_blob, "Queue": _use_queue, "Table": _use_table}
    return [await _tried(service, use(account, name)) for service, use in uses.items()]


async def _tried(service: str, using: Awaitable[None]) -> Finding:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await using
    except (AzureError, OSError) as failure:
        return _why(service, failure)
    return ok(f"{service}: the app may make, write and delete.")


def _why(service: str, failure: Exception) -> Finding:
    status = failure.status_code if isinstance(failure, HttpResponseError) else None
    reason = str(failure).partition("\n")[0][:200] or type(failure).__name__
    if status in (401, 403):
        return error(
            f"{service}: the account refuses the app: {reason}",
            f"Give the app's identity the role {_RIGHTS[service]} on the account, or mend the key in AzureWebJobsStorage; a"
            " firewall answers so too: let the app's network in. Roles take some minutes.",
        )
    if status is not None:
        return error(f"{service}: the account answers {status}: {reason}", "Look at the account in the portal.")
    return error(
        f"{service}: the account cannot be reached: {reason}",
        "Look at the account's name, at its private endpoint and its DNS zone, and whether this machine is in that network.",
    )


async def _use_blob(account: Account, name: str) -> None:
    async with account.blobs.get_container_client(name) as container:
        await container.create_container()
        try:
            await container.upload_blob("probe", b"probe")
        finally:
            await container.delete_container()


async def _use_queue(account: Account, name: str) -> None:
    async with account.queues.get_queue_client(name) as queue:
        await queue.create_queue()
        try:
            await queue.send_message("probe")
        finally:
            await queue.delete_queue()


async def _use_table(account: Account, name: str) -> None:
    async with account.tables.get_table_client(name) as table:
        await table.create_table()
        try:
            await table.upsert_entity({"PartitionKey": "probe", "RowKey": "probe"})
        finally:
            await table.delete_table()


async def clock(examined: Examined) -> Sequence[Finding]:
    """Whether this machine's clock agrees with the account's."""
    if examined.account is None:
        return ()
    stated: list[str] = []

    def note(response: Any) -> None:
        stated.append(response.http_response.headers.get("date", ""))

    try:
        async with asyncio.timeout(_PATIENCE_S):
            await examined.account.blobs.get_service_properties(raw_response_hook=note)
    except (AzureError, OSError):
        if not stated:
            return ()  # told by the check of the account
    theirs = parsedate_to_datetime(stated[0]) if stated and stated[0] else None
    if theirs is None:
        return ()
    skew = (examined.now() - theirs).total_seconds()
    if abs(skew) > _SKEW_S:
        return [
            error(
                f"This machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the account's.",
                "Let it follow a time server: tokens will be refused, and limits and hours counted wrongly.",
            )
        ]
    return [ok(f"The clock agrees with the account's within {max(abs(skew), 1):.0f} s.")]


async def transport(examined: Examined) -> Sequence[Finding]:
    """Whether the Event Hub is there, and takes events as large as they will be."""
    known = examined.settings
    if known.transport is not Transports.EVENT_HUBS or not (known.event_hub or known.event_hub_namespace):
        return ()
    from azure.eventhub.exceptions import EventHubError  # only where it is used

    try:
        async with asyncio.timeout(_PATIENCE_S):
            most, partitions = await _asked_hub(known)
    except (EventHubError, AzureError, OSError, ValueError) as failure:
        return [
            error(
                f"The Event Hub '{known.event_hub_name}' does not take events: {str(failure).partition('\n')[0][:200]}",
                "Make the hub; give the app's identity Azure Event Hubs Data Sender and Data Receiver; let its network in.",
            )
        ]
    found = [ok(f"The Event Hub '{known.event_hub_name}' takes events; it has {partitions} partitions.")]
    if known.event_hub_message_bytes > most:
        found.append(
            error(
                f"Events may have {most} bytes there, and TOLLGATE_EVENT_HUB_MESSAGE_BYTES is {known.event_hub_message_bytes}.",
                "Set it lower: 250000 on the Basic tier, 1000000 on Standard.",
            )
        )
    if partitions == 1:
        found.append(warning("The hub has one partition: one instance records all.", "Make it anew with more."))
    return found


async def _asked_hub(known: Settings) -> tuple[int, int]:
    """The largest event, and how many partitions there are. Opens a link to send by, so proves the right to."""
    from azure.eventhub.aio import EventHubProducerClient  # likewise

    options: dict[str, Any] = {"eventhub_name": known.event_hub_name, "retry_total": 0}
    if known.event_hub:
        client = EventHubProducerClient.from_connection_string(known.event_hub, **options)
    else:
        client = EventHubProducerClient(known.event_hub_namespace, credential=app_identity(), **options)
    async with client:
        batch = await client.create_batch()
        return batch.max_size_in_bytes, len(await client.get_partition_ids())


_FUNCTIONS = ("UsageHourly", "ApiManagementGatewayLlmLog", "ApiManagementGatewayLogs")
_RUN_QUERIES = "Run queries/tables.kql, views.kql and functions.kql in the database, in that order."


async def data_explorer(examined: Examined) -> Sequence[Finding]:
    """Whether the database has the table with every column, the mapping, the view and the functions."""
    known = examined.settings
    if not known.kusto_uri:
        return ()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await asyncio.to_thread(_asked_explorer, known)
    except (ValueError, OSError, AzureError) as failure:
        return [_unreachable(known, failure)]


def _unreachable(known: Settings, failure: Exception) -> Finding:
    reason = str(failure).partition("\n")[0][:200] or type(failure).__name__
    return error(
        f"Data Explorer at {known.kusto_uri} does not answer: {reason}",
        "Look at TOLLGATE_KUSTO_URI and TOLLGATE_KUSTO_DATABASE, whether the cluster runs, and that the app's identity is Viewer"
        " and Ingestor of the database.",
    )


def _asked_explorer(known: Settings) -> Sequence[Finding]:
    from azure.kusto.data import KustoClient
    from azure.kusto.data.exceptions import KustoError  # half a second, only where it is used

    from shared.sinks.data_explorer import MAPPING, TABLE, connection_to

    def ask(csl: str) -> list[Any]:
        run = client.execute_mgmt if csl.startswith(".") else client.execute_query
        return list(run(known.kusto_database, csl).primary_results[0])

    needed: dict[str, Callable[[], Sequence[str]]] = {
        f"table {TABLE}": lambda: _missing_columns(ask(f"{TABLE} | getschema | project ColumnName")),
        "set of ingestion mappings": lambda: _missing_names(
            ask(f".show table {TABLE} ingestion json mappings"), [MAPPING]
        ),
        "view Calls": lambda: ask("Calls | take 0"),
        "set of functions": lambda: _missing_names(ask(".show functions"), _FUNCTIONS),
    }
    found = []
    with KustoClient(connection_to(known.kusto_uri)) as client:
        try:
            ask("print 1")
        except KustoError as failure:
            return [_unreachable(known, failure)]
        for name, look in needed.items():
            try:
                lacking = look()
            except KustoError:
                found.append(error(f"The database has no {name} that can be read.", _RUN_QUERIES))
                continue
            if lacking:
                found.append(error(f"The {name} lacks {', '.join(lacking)}.", _RUN_QUERIES))
    return found or [ok("Data Explorer has the table, its mapping, the view and the functions.")]


def _missing_columns(rows: list[Any]) -> Sequence[str]:
    there = {row["ColumnName"] for row in rows}
    return [field.encode_name for field in msgspec.structs.fields(Row) if field.encode_name not in there]


def _missing_names(rows: list[Any], needed: Sequence[str]) -> Sequence[str]:
    there = {row["Name"] for row in rows}
    return [name for name in needed if name not in there]
