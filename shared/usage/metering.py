"""Metering: batches and background responses are asked what they used, until they have told it.

Rule: first the sinks, then the note that it is settled; both may be done again without harm. An upstream that does not answer
is asked again at the next run, and stops none of the others: the timer has usage to roll up.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta

import msgspec

from shared.core.api.upstream_requests import own_request
from shared.core.call_ids import opened_at
from shared.core.call_record import CallRecord, UsageSource
from shared.core.configuration import Configuration, Upstream
from shared.core.money.deferred import (
    BatchUsage,
    Deferred,
    LateUsage,
    late_usage,
    parse_batch,
    told_late,
    unknown_record,
)
from shared.core.recording.events import Closed
from shared.core.usage import TokenUsage
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
_UNKNOWN = LateUsage(usage_source=UsageSource.NONE, usage=TokenUsage())


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
        if opened_at(made.call_id) < now - _GIVEN_UP_AFTER:
            is_told = await self._give_up(made, now)
        else:
            is_told = upstream is not None and await self._tell(made, upstream, now)
        if is_told:
            await self.deferred.settle(made)
        return is_told

    async def _tell(self, made: Deferred, upstream: Upstream, now: datetime) -> bool:
        """Records what an object used. False where it has not ended. Raises _Away, UpstreamError, msgspec.DecodeError."""
        response = await self._get(upstream, made.path, made)
        if response is None:
            return await self._give_up(made, now)
        body = b"".join([chunk async for chunk in response.chunks()])
        if not made.is_batch:
            usage = late_usage(body)
            return usage is not None and await self._add(made, usage, now)
        batch = parse_batch(body)
        if not batch.has_ended:
            return False
        counted = BatchUsage(batch)
        if batch.output_file_id:
            output = await self._get(upstream, f"files/{batch.output_file_id}/content", made)
            if output is None:
                return await self._give_up(made, now)
            async for line in _lines(output):
                counted.add(line)
        await self._record(counted.records(made, batch))
        return True

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

    async def _record(self, records: Iterable[CallRecord]) -> None:
        await self.recorder.replay([Closed(record=record) for record in records])

    async def _give_up(self, made: Deferred, now: datetime) -> bool:
        _log.error("usage was never told", extra={"call_id": made.call_id, "client_id": made.client_id})
        if not made.is_batch:
            return await self._add(made, _UNKNOWN, now)
        await self._record([unknown_record(made)])
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
