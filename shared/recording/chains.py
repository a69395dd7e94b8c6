"""The chains: an append blob for each client and UTC day, `2026/11/21/<client id>` (its lines: shared/core/recording/chain.py).

Rule: a chain is only ever added to, and only behind what was read of it: where another was quicker the service refuses
(https://learn.microsoft.com/rest/api/storageservices/append-block), and the next run looks again. So timers may run at once.
"""

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote, unquote

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import BlobClient, ContainerClient

from shared.core.recording import chain
from shared.core.recording.chain import Chain
from shared.sinks.ledger import Ledger

_LINES_AT_ONCE = 10_000
"""A block holds 4 MiB, and at least that many lines."""
_OVERTAKEN = 412


class Chains:
    """One container."""

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    async def read(self, client_id: str, day: date) -> Chain:
        """The chain; an empty one where there is none."""
        try:
            download = await self._blob(client_id, day).download_blob()
        except ResourceNotFoundError:
            return chain.read(b"")
        return chain.read(await download.readall())

    async def append(
        self, client_id: str, day: date, archived: Sequence[tuple[str, str]], *, are_purged: bool = False
    ) -> bool:
        """Adds what the chain does not have yet of these calls (id, digest). False where another added meanwhile."""
        for start in range(0, len(archived), _LINES_AT_ONCE):
            before = await self.read(client_id, day)
            lines = chain.lines_after(before, archived[start : start + _LINES_AT_ONCE], are_purged=are_purged)
            if lines and not await self._add(client_id, day, lines, before.size):
                return False
        return True

    async def _add(self, client_id: str, day: date, lines: bytes, position: int) -> bool:
        blob = self._blob(client_id, day)
        try:
            if not position:
                with contextlib.suppress(ResourceExistsError):  # a run that died may have left an empty one
                    await blob.create_append_blob(match_condition=MatchConditions.IfMissing)
            await blob.append_block(lines, appendpos_condition=position)
        except HttpResponseError as error:
            if error.status_code != _OVERTAKEN:
                raise
            return False
        return True

    async def clients(self, day: date) -> AsyncIterator[str]:
        """Who has a chain for that day."""
        async for name in self._container.list_blob_names(name_starts_with=f"{day:%Y/%m/%d}/"):
            yield unquote(name.rpartition("/")[2])

    async def prepare(self) -> None:
        try:
            await self._container.create_container()
        except ResourceExistsError:
            return

    async def close(self) -> None:
        await self._container.close()

    def _blob(self, client_id: str, day: date) -> BlobClient:
        return self._container.get_blob_client(f"{day:%Y/%m/%d}/{quote(client_id, safe='')}")


async def chain_hours(ledger: Ledger, chains: Chains, *, now: datetime) -> int:
    """Chains the hours that are over and in which all calls have ended. Returns how many there were."""
    chained = 0
    for waiting in await ledger.unchained():
        hour = datetime.strptime(waiting.period, "%Y%m%d%H").replace(tzinfo=UTC)
        if now < hour + timedelta(hours=1):
            continue
        by_client: dict[str, list[tuple[str, str]]] = defaultdict(list)
        async for entry in ledger.entries(waiting.period):
            if entry.archive_sha256:
                by_client[entry.client_id].append((entry.call_id, entry.archive_sha256))
        if await _chain(chains, hour.date(), by_client.items()):
            await ledger.clear_unchained(waiting)
            chained += 1
    return chained


async def _chain(chains: Chains, day: date, archived: Iterable[tuple[str, Sequence[tuple[str, str]]]]) -> bool:
    """Whether all of it is in the chains."""
    return all([await chains.append(client_id, day, calls) for client_id, calls in archived])
