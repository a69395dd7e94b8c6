"""Blob Storage's own protocol, for the one request that the recorder makes for every call: to put a small blob the SDK's way
costs two and a half times the CPU.

Rule: transport, hosts and authentication are the SDK's own. There are no retries here: what fails is put again by the SDK, which
has them. Protocol: https://learn.microsoft.com/rest/api/storageservices/put-blob.
"""

from email.utils import formatdate
from typing import Any

from azure.core.exceptions import AzureError
from azure.core.pipeline import AsyncPipeline
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.storage.blob.aio import ContainerClient

LARGEST = 1_000_000
"""Bytes: above it the request itself is what costs."""
_HEADERS = {"x-ms-version": "2025-11-05", "x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}
_TIMEOUTS = {"connection_timeout": 5, "read_timeout": 20}


class BlobPutter:
    """Puts blobs into one container."""

    def __init__(self, container: ContainerClient) -> None:
        # The SDK has no public way to sign a request of one's own.
        policy: Any = container._credential_policy  # noqa: SLF001
        transport: Any = container._pipeline._transport  # noqa: SLF001
        self._container, _, self._sas = container.url.partition("?")
        self._pipeline: AsyncPipeline[HttpRequest, AsyncHttpResponse] = AsyncPipeline(
            transport, [policy] if policy else []
        )

    async def put(self, name: str, content: bytes) -> bool:
        """Whether the blob is there now, with that content whatever was there. `name` needs no escapes."""
        url = f"{self._container}/{name}" + (f"?{self._sas}" if self._sas else "")
        headers = _HEADERS | {"x-ms-date": formatdate(usegmt=True)}
        try:
            answer = await self._pipeline.run(HttpRequest("PUT", url, headers=headers, content=content), **_TIMEOUTS)
        except (AzureError, OSError):
            return False
        return answer.http_response.status_code == 201
