"""The gateway: a request in, an answer out, an account of both published.

Rule: thin. It authenticates, chooses a deployment, moves bytes and hands over the record; it reads no more of a call than
that takes. No byte reaches the client before the call's `opened` event is durable.
"""

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec

from shared.core.accounting import Ending, Served, close_record, open_record
from shared.core.archive import ArchivedCall
from shared.core.call_ids import mint
from shared.core.call_record import Attempt, CallRecord, Outcome
from shared.core.calls import Call, InboundRequest, understand
from shared.core.configuration import Configuration, Pool, Target
from shared.core.errors import GatewayError, NotFound, NotReady, PayloadTooLarge, UpstreamFailed, to_openai_json
from shared.core.headers import Headers, for_client, get
from shared.core.identity import identify
from shared.core.operations import match
from shared.core.tap import StreamTap, read_body
from shared.core.upstream_requests import upstream_request
from shared.publishing import Publisher
from shared.relay import Relay
from shared.settings import Settings
from shared.transports import TransportDown
from shared.upstream import UpstreamError, UpstreamResponse, Upstreams

_log = logging.getLogger(__name__)

_TRY_NEXT = frozenset({429, 500, 502, 503, 504})
"""Answers that another deployment may better."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the client gets: a whole body, or a relay to read from and to finish."""

    status: int
    headers: Headers
    body: bytes | Relay


class Gateway:
    """One per process. Holds no state of any call."""

    def __init__(
        self,
        *,
        settings: Settings,
        configuration: Configuration,
        upstreams: Upstreams,
        publisher: Publisher,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._upstreams = upstreams
        self._publisher = publisher
        self._now = now

    async def handle(self, request: InboundRequest) -> Answer:
        """The answer to a request; every GatewayError becomes one."""
        try:
            return await self._serve(request)
        except GatewayError as error:
            return refusal(error)

    async def _serve(self, request: InboundRequest) -> Answer:
        client = identify(request.headers, self._configuration.keys_by_id)
        route = match(request.method, request.path)
        body = await _read(request, self._settings.max_request_bytes)
        opened_at = self._now()
        call_id = mint(opened_at, secrets.token_bytes(10))
        call = understand(call_id, opened_at, client, route, request, body)
        pool = _pool(self._configuration.pools, call.model)
        record = open_record(call)
        opened = asyncio.create_task(self._publisher.opened(record))
        served, response = await self._attempt(call, pool.targets)
        try:
            await opened
        except TransportDown as error:
            if response:
                await response.close()
            raise NotReady("The call could not be recorded, so it is not answered; try again later.") from error
        if response is None:
            await self._close(
                call, record, Ending(outcome=Outcome.UPSTREAM_ERROR, closed_at=self._now(), served=served)
            )
            raise UpstreamFailed(f"No deployment of the model '{call.model}' answered.")
        body_or_relay = await self._answer(call, record, served, response)
        headers = (*for_client(served.headers), ("x-tollgate-call-id", call.call_id))
        return Answer(status=served.status, headers=headers, body=body_or_relay)

    async def _attempt(self, call: Call, targets: Sequence[Target]) -> tuple[Served, UpstreamResponse | None]:
        """Tries the targets in turn. The answer is that of the last one asked, whatever its status."""
        attempts: list[Attempt] = []
        for target in targets:
            request = upstream_request(call, target)
            started_at = self._now()
            try:
                response = await self._upstreams.send(request)
            except UpstreamError as error:
                attempts.append(self._attempted(target, started_at, error=error.reason))
                if error.sent:
                    break  # it may have been billed: asking another could bill it twice
                continue
            attempts.append(self._attempted(target, started_at, status=response.status))
            if response.status in _TRY_NEXT and target is not targets[-1]:
                await response.close()
                continue
            served = Served(
                attempts=tuple(attempts),
                status=response.status,
                target=target,
                headers=response.headers,
                asked_usage=request.asks_usage,
            )
            return served, response
        return Served(attempts=tuple(attempts), status=UpstreamFailed.status), None

    def _attempted(
        self, target: Target, started_at: datetime, *, status: int | None = None, error: str | None = None
    ) -> Attempt:
        return Attempt(
            deployment=target.deployment.name,
            upstream=target.upstream.name,
            status=status,
            error=error,
            duration_ms=round((self._now() - started_at).total_seconds() * 1000),
        )

    async def _answer(
        self, call: Call, record: CallRecord, served: Served, response: UpstreamResponse
    ) -> bytes | Relay:
        encoding = get(served.headers, "content-encoding")
        if not (get(served.headers, "content-type") or "").startswith("text/event-stream"):
            return await self._whole_body(call, record, served, response)
        first_byte_at = self._now()

        async def close(relay: Relay) -> None:
            ending = Ending(
                outcome=relay.outcome,
                closed_at=self._now(),
                served=served,
                first_byte_at=first_byte_at,
                reading=relay.tap.reading,
                response=b"".join(relay.received),
                error=relay.error,
            )
            await self._close(call, record, ending)

        tap = StreamTap(call.route.operation, drop_usage_chunk=served.asked_usage, encoding=encoding)
        return Relay(response, tap, close, self._settings.drain_timeout_s)

    async def _whole_body(self, call: Call, record: CallRecord, served: Served, response: UpstreamResponse) -> bytes:
        received: list[bytes] = []
        error = None
        try:
            async for chunk in response.chunks():
                received.append(chunk)  # noqa: PERF401 - what came before a break is kept
        except UpstreamError as failure:
            error = failure.reason
        finally:
            await response.close()
        body = b"".join(received)
        ending = Ending(
            outcome=Outcome.UPSTREAM_ERROR if error or served.status in _TRY_NEXT else Outcome.COMPLETED,
            closed_at=self._now(),
            served=served,
            first_byte_at=None if error else self._now(),
            reading=read_body(call.route.operation, body, get(served.headers, "content-encoding")),
            response=body,
            error=error,
        )
        await self._close(call, record, ending)
        if error:
            raise UpstreamFailed("The upstream broke off in the middle of its answer.")
        return body

    async def _close(self, call: Call, record: CallRecord, ending: Ending) -> None:
        """Makes the end of the call durable. Raises NotReady where that cannot be had."""
        closed = ArchivedCall(record=close_record(record, ending), request=call.body, response=ending.response)
        try:
            await self._publisher.closed(closed)
        except TransportDown as error:
            _log.error("call not recorded as closed", extra={"call_id": call.call_id, "reason": str(error)})
            raise NotReady("The call was served but could not be recorded; try again later.") from error


def refusal(error: GatewayError) -> Answer:
    """An error as a client gets it."""
    headers: Headers = (("content-type", "application/json"),)
    if error.retry_after_s is not None:
        headers += (("retry-after", str(math.ceil(error.retry_after_s))),)
    return Answer(status=error.status, headers=headers, body=to_openai_json(error))


async def _read(request: InboundRequest, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.chunks():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise PayloadTooLarge(f"The request body is larger than {limit} bytes.")
    return b"".join(chunks)


def _pool(pools: Mapping[str, Pool], model: str) -> Pool:
    pool = pools.get(model)
    if pool is None:
        raise NotFound(
            f"The model '{model}' does not exist or you do not have access to it.",
            code="model_not_found",
            param="model",
        )
    return pool
