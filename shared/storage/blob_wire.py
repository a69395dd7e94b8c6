"""Blob Storage's own protocol, for the one request that the recorder makes for every call: to put a small blob the SDK's way
costs five times the CPU.

Rule: what the account's key or the identity has to do is done once for many blobs: a signature for the container, or a token.
There are no retries here, and no proxy: what fails is put again by the SDK, which has them, and tells what is wrong.
Protocol: https://learn.microsoft.com/rest/api/storageservices/put-blob.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx
import msgspec
from azure.core.exceptions import AzureError
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from azure.storage.blob.aio import ContainerClient

from shared.http1 import Http1Transport, Origin

LARGEST = 1_000_000
"""Bytes: above it the request itself is what costs."""
_HEADERS = "x-ms-version: 2025-11-05\r\nx-ms-blob-type: BlockBlob\r\nContent-Type: application/octet-stream\r\n"
_AT_ONCE = 64
_IDLE_S = 30
_CONNECT_S, _ANSWER_S = 5, 20
_SIGNED_FOR = timedelta(hours=1)
_SPARE = timedelta(minutes=5)
"""Before a token or a signature ends."""
_AUDIENCE = "https://storage.azure.com/.default"


class _Right(msgspec.Struct, frozen=True):
    """What lets a request in: parameters of its address, or a header."""

    until: datetime
    query: str = ""
    header: str = ""


class BlobPutter:
    """Puts blobs into one container."""

    def __init__(self, container: ContainerClient) -> None:
        address = urlsplit(container.url)
        is_https = address.scheme == "https"
        self._origin: Origin = (address.scheme, address.hostname or "", address.port or (443 if is_https else 80))
        self._host, self._path, self._sas = address.netloc, address.path, address.query
        self._container = container
        self._right = _Right(until=datetime.min.replace(tzinfo=UTC))
        self._granting = asyncio.Lock()
        self._http = Http1Transport(connections=_AT_ONCE, idle_s=_IDLE_S)
        self._is_wanted = not getproxies()

    async def put(self, name: str, content: bytes) -> bool:
        """Whether the blob is there now, with that content whatever was there. `name` needs no escapes."""
        if not self._is_wanted:
            return False
        try:
            right = await self._let_in()
            head = (
                f"PUT {self._path}/{name}?{right.query} HTTP/1.1\r\nHost: {self._host}\r\n{right.header}{_HEADERS}"
                f"Content-Length: {len(content)}\r\n\r\n"
            )
            status, _ = await self._http.whole(
                self._origin, "PUT", head.encode() + content, connect_s=_CONNECT_S, patience_s=_ANSWER_S
            )
        except (AzureError, httpx.HTTPError, OSError):
            return False
        return status == httpx.codes.CREATED

    async def close(self) -> None:
        await self._http.aclose()

    async def _let_in(self) -> _Right:
        now = datetime.now(UTC)
        if self._right.until < now + _SPARE:
            async with self._granting:
                if self._right.until < now + _SPARE:
                    self._right = await self._granted(now)
        return self._right

    async def _granted(self, now: datetime) -> _Right:
        if self._sas:
            return _Right(until=datetime.max.replace(tzinfo=UTC), query=self._sas)
        credential: Any = self._container.credential
        if hasattr(credential, "get_token"):
            token = await credential.get_token(_AUDIENCE)
            return _Right(
                datetime.fromtimestamp(token.expires_on, UTC), header=f"Authorization: Bearer {token.token}\r\n"
            )
        until = now + _SIGNED_FOR
        signature = generate_container_sas(
            credential.account_name,
            self._container.container_name,
            account_key=credential.account_key,
            permission=ContainerSasPermissions(create=True, write=True),
            expiry=until,
        )
        return _Right(until, query=signature)
