"""Metering: batches, background responses, runs and fine-tuning jobs are asked what they used, until they have told it.

Rule: what was told is kept, then the sinks have it, then it is settled; each may be done again without harm. An
upstream that does not answer is asked again at the next run, and stops none of the others: the timer has usage to roll up.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import msgspec

from shared.core.api.upstream_requests import own_request
from shared.core.call_ids import opened_at
from shared.core.configuration import Configuration, Upstream
from shared.core.money.deferred import (
    Batch,
    BatchUsage,
    Deferred,
    LateUsage,
    Told,
    parse_batch,
    told_late,
)
from shared.core.recording.events import Closed
from shared.credentials import Credentials
from shared.gateway.upstream import UpstreamError, UpstreamResponse, Upstreams
from shared.recording.recorder import Recorder
from shared.sinks.ledger import Ledger
from shared.usage.deferred_table import DeferredUsage

_log = logging.getLogger(__name__)

_GONE = frozenset({404, 410})
_ANSWER_S = 30.0
"""How long an upstream may take to begin an answer: it only looks something up."""
_OBJECT_S = 300.0
"""How long an object may take in all: the output file of a batch has 200 MB at the most."""
_GIVEN_UP_AFTER = timedelta(days=31)
"""How long upstreams keep files and responses at the most, where nobody deletes them."""


class _Away(Exception):
    """An upstream that does not answer now."""


class Metering(msgspec.Struct, frozen=True, kw_only=True):
    """Asks upstreams by itself, beside the calls of clients."""

    upstreams: Upstreams
    credentials: Credentials
    deferred: DeferredUsage
    ledger: Ledger
    recorder: Recorder

    async def run(self, configuration: Configuration, now: datetime) -> int:
        """Asks each object whose usage is not settled. Returns how many now are. Raises AzureError."""
        upstreams = {target.upstream.name: target.upstream for target in configuration.home.targets}
        settled = 0
        away: set[str] = set()
        for made in await self.deferred.unsettled():
            if made.upstream in away:
                continue
            try:
                async with asyncio.timeout(_OBJECT_S):
                    settled += await self._settled(made, upstreams.get(made.upstream), now)
            except (_Away, UpstreamError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError) as error:
                if isinstance(error, _Away):
                    away.add(made.upstream)
                _log.warning("usage not told yet", extra={"call_id": made.call_id, "reason": repr(error)})
        return settled

    async def _settled(self, made: Deferred, upstream: Upstream | None, now: datetime) -> bool:
        told = await self._told(made, upstream, now)
        if told is None or (told := await self.deferred.keep(made, told)) is None:
            return False
        if told.late and not await self._add(made, told.late, now):
            return False
        await self.recorder.replay([Closed(record=record) for record in told.records])
        await self.deferred.settle(made)
        return True

    async def _told(self, made: Deferred, upstream: Upstream | None, now: datetime) -> Told | None:
        """What an object used; None where it does not say so yet. Raises _Away, UpstreamError, msgspec.DecodeError."""
        if made.told:
            return msgspec.json.decode(made.told, type=Told)
        if opened_at(made.call_id) < now - _GIVEN_UP_AFTER:
            return _never_told(made)
        if upstream is None:
            return None
        response = await self._get(upstream, made.path, made)
        if response is None:
            return _never_told(made)
        body = b"".join([chunk async for chunk in response.chunks()])
        if made.kind.read:
            return made.kind.read(made, body)
        return await self._told_by_file(made, upstream, parse_batch(body))

    async def _told_by_file(self, made: Deferred, upstream: Upstream, batch: Batch) -> Told | None:
        if not batch.has_ended:
            return None
        counted = BatchUsage(batch)
        if batch.output_file_id:
            output = await self._get(upstream, f"files/{batch.output_file_id}/content", made)
            if output is None:
                return _never_told(made)
            async for line in _lines(output):
                counted.add(line)
        return Told(records=counted.records(made, batch))

    async def _add(self, made: Deferred, late: LateUsage, now: datetime) -> bool:
        """Adds what a response used to the call that made it. False where the ledger does not know that yet."""
        if not await self.ledger.add_usage(made.call_id, late):
            return False
        try:
            head = await self.recorder.archive.head(made.call_id)
        except ValueError:
            head = None  # it is damaged: `verify` finds those
        if head and not head.header.purged_at:
            record = told_late(head.header.record, late, now)
            await self.recorder.replay([Closed(record=record, archive_sha256=head.sha256)])
        return True

    async def _get(self, upstream: Upstream, path: str, made: Deferred) -> UpstreamResponse | None:
        """The answer; None where there is no such thing. Raises _Away; UpstreamError for every other that is no success."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                credential = await self.credentials.current(upstream)
                response = await self.upstreams.send(own_request(upstream, path, credential, made.api_version))
        except (UpstreamError, TimeoutError) as error:
            raise _Away(repr(error)) from error
        if response.status == 200:
            return response
        await response.close()
        if response.status in _GONE:
            return None
        raise UpstreamError(f"status {response.status}", sent=True)


def _never_told(made: Deferred) -> Told:
    _log.error("usage was never told", extra={"call_id": made.call_id, "client_id": made.client_id})
    return made.kind.unknown(made)


async def _lines(response: UpstreamResponse) -> AsyncIterator[bytes]:
    """The lines of a body as they come."""
    left = b""
    async for chunk in response.chunks():
        *lines, left = (left + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
    if left.strip():
        yield left
