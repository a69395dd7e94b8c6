"""The Storage account: a client for each of its three services, by connection string or by the app's identity.

Rule: the same app setting that the host's bindings read decides here too, so triggers and parts never meet two accounts.
"""

from collections.abc import Sequence
from typing import Any
from urllib.request import getproxies

import msgspec
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from shared.credentials import app_identity
from shared.settings import Settings, SettingsInvalid
from shared.storage.entities import TableTransport

_SOON: dict[str, Any] = {"initial_backoff": 1, "increment_base": 1, "retry_total": 2}
"""Retries of a transport: clients wait for it, and what it does not take goes to the shelf. The SDK's first is after 15 s."""


class Account(msgspec.Struct, frozen=True):
    """One account."""

    blobs: BlobServiceClient
    queues: QueueServiceClient
    tables: TableServiceClient
    others: Sequence[Any] = ()
    """What is to be closed beside them: the credential."""

    async def close(self) -> None:
        for each in (self.blobs, self.queues, self.tables, *self.others):
            await each.close()


def connect(settings: Settings) -> Account:
    """The account that the settings name; nothing is asked yet. Raises SettingsInvalid."""
    if settings.storage:
        return _by_connection_string(settings.storage)
    if settings.storage_account:
        return _by_identity(settings.storage_account)
    raise SettingsInvalid(
        (
            "AzureWebJobsStorage is not set: add the connection string of a Storage account,"
            " or its name as AzureWebJobsStorage__accountName",
        )
    )


def _by_connection_string(connection: str) -> Account:
    try:
        return Account(
            BlobServiceClient.from_connection_string(connection, transport=AioHttpTransport(**_http())),
            QueueServiceClient.from_connection_string(connection, transport=AioHttpTransport(**_http()), **_SOON),
            TableServiceClient.from_connection_string(connection, transport=TableTransport(**_http())),
        )
    except ValueError as error:
        raise SettingsInvalid((f"AzureWebJobsStorage is no connection string: {error}",)) from error


def _by_identity(name: str) -> Account:
    credential = app_identity()
    blob, queue, table = (f"https://{name}.{service}.core.windows.net" for service in ("blob", "queue", "table"))
    return Account(
        BlobServiceClient(blob, credential, transport=AioHttpTransport(**_http())),
        QueueServiceClient(queue, credential, transport=AioHttpTransport(**_http()), **_SOON),
        TableServiceClient(table, credential=credential, transport=TableTransport(**_http())),
        (credential,),
    )


def _http() -> dict[str, Any]:
    """Where no proxy is set nothing is looked for in the environment with each request, nor ~/.netrc read for it."""
    return {"use_env_settings": bool(getproxies())}
