"""The archive: one blob per call, named by its id, written whole (see shared/core/archive.py for its form).

Rule: the archive is the truth; everything else that is kept can be made again from it.
"""

import asyncio
from collections.abc import Sequence

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import ContainerClient

from shared.core import archive
from shared.core.archive import ArchivedCall
from shared.core.events import Closed, Event


class Archive:
    """Writes to one container."""

    name = "archive"

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    async def write(self, events: Sequence[Event]) -> None:
        async with asyncio.TaskGroup() as group:
            for event in events:
                if isinstance(event, Closed) and event.request and event.response:
                    call = ArchivedCall(
                        record=event.record, request=event.request.content, response=event.response.content
                    )
                    group.create_task(self.put(call))

    async def put(self, call: ArchivedCall) -> None:
        """Keeps one call. Putting it again writes the same bytes to the same name."""
        await self._container.upload_blob(
            archive.blob_name(call.record.call_id),
            archive.encode(call),
            overwrite=True,
            content_settings=ContentSettings(content_type="application/octet-stream"),
        )

    async def get(self, call_id: str) -> ArchivedCall | None:
        """The call, or None where it is not archived. Raises ValueError for an id that is none."""
        try:
            download = await self._container.download_blob(archive.blob_name(call_id))
        except ResourceNotFoundError:
            return None
        return archive.decode(await download.readall())

    async def prepare(self) -> None:
        try:
            await self._container.create_container()
        except ResourceExistsError:
            return

    async def close(self) -> None:
        await self._container.close()
