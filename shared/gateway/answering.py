"""The way back: an upstream's answer to the client, and how the call ended into the record.

Rule: a stream is relayed as it comes; a JSON answer is passed on whole. Either way its end is durable before the client has
all of it, and so is the ownership of the objects that it speaks of.
"""

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal

import msgspec
from azure.core.exceptions import AzureError

from shared.clients.limits import Admission, Limits
from shared.core.api.completion_text import says_words
from shared.core.api.tap import PassTap, StreamTap, read_body
from shared.core.call_record import CallRecord, Outcome
from shared.core.calls import Call
from shared.core.configuration import OnDisconnect
from shared.core.content_encoding import decoded
from shared.core.errors import GatewayError, NotReady, UpstreamFailed
from shared.core.headers import get
from shared.core.money.prices import PriceSheet, Use, with_length
from shared.core.money.pricing import charge
from shared.core.recording.accounting import Ending, Served, close_record, tier_of
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.content_policy import keeps_all, kept
from shared.core.routing.verdicts import judge_error
from shared.core.usage import Reading, TokenUsage
from shared.gateway import stickiness
from shared.gateway.estimating import estimate
from shared.gateway.health_board import Lease
from shared.gateway.objects import Objects
from shared.gateway.receiving import Received
from shared.gateway.relay import Relay, Timing
from shared.gateway.upstream import Response, UpstreamError
from shared.recording.publishing import Publisher
from shared.settings import Settings
from shared.telemetry import OFF, Telemetry
from shared.transports import TransportDown

_log = logging.getLogger(__name__)
_FILTERED = "content_filter"


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A call that a deployment has answered: the headers are in, the body is still to be read."""

    call: Call
    record: CallRecord
    served: Served
    response: Response
    lease: Lease
    admission: Admission
    prices: PriceSheet
    deadline: float
    """An instant of the event loop's clock."""
    is_client_gone: bool = False
    """Whether the client left before there was an answer."""

    @property
    def encoding(self) -> str | None:
        return get(self.served.headers, "content-encoding")

    @property
    def is_content(self) -> bool:
        """Whether it is the content of a file, in which nothing is read, whatever it looks like."""
        return self.call.route.operation.is_content and self.served.status < 300

    @property
    def media_type(self) -> str:
        return (get(self.served.headers, "content-type") or "").partition(";")[0].strip().lower()


class Answering:
    """One per process. Of calls it holds only those whose end is being recorded while nobody waits for it."""

    def __init__(
        self,
        *,
        publisher: Publisher,
        objects: Objects,
        limits: Limits,
        now: Callable[[], datetime],
        settings: Settings,
        telemetry: Telemetry = OFF,
    ) -> None:
        self._publisher = publisher
        self._objects = objects
        self._limits = limits
        self._now = now
        self._settings = settings
        self._telemetry = telemetry
        self._unawaited: set[asyncio.Task[None]] = set()

    async def answer(self, exchange: Exchange) -> bytes | Relay:
        """What the client gets. Raises UpstreamFailed, or NotReady where the end could not be recorded."""
        is_json = exchange.media_type == "application/json" and not exchange.is_content
        if is_json or exchange.call.route.operation.lists:
            return await self._whole(exchange)
        await self._remember(exchange, exchange.response.peeked)  # a response can be asked for while it streams
        return self._relayed(exchange)

    async def close(self, call: Call, record: CallRecord, ending: Ending, received: Received | None = None) -> None:
        """Makes the end of a call durable. Raises NotReady where that cannot be had. `received` is an answer that may have
        passed through; where the archive does not take the rest of what passed, the account of the call is kept without it."""
        closed = ArchivedCall(record=close_record(call, record, ending), request=call.body, response=ending.response)
        digest, away = await _archived(call, closed, received)
        if away and not self._settings.allow_unrecorded:
            closed = _broken_off(closed)
        self._telemetry.ended(closed.record)
        try:
            if digest:
                await self._publisher.archived(closed.record, digest)
            else:
                await self._publisher.closed(kept(call, closed))
        except TransportDown as error:
            _log.error("call not recorded as closed", extra={"call_id": call.call_id, "reason": str(error)})
            away = error
        if away and not self._settings.allow_unrecorded:
            raise NotReady("The call was served but could not be recorded; try again later.") from away

    async def _closed(self, exchange: Exchange, ending: Ending) -> None:
        """Closes a call; waits for that where its client waits too."""
        closing = self.close(exchange.call, exchange.record, ending)
        if self._settings.durable:
            await closing
            return
        task = asyncio.create_task(closing)
        self._unawaited.add(task)
        task.add_done_callback(self._unawaited.discard)

    def _relayed(self, exchange: Exchange) -> Relay:
        call, served = exchange.call, exchange.served
        first_byte_at = self._now()

        async def close(relay: Relay) -> None:
            response = relay.received.body
            estimate = await self._estimate(exchange, relay, response)
            told = relay.tap.reading
            known = told if estimate is None else msgspec.structs.replace(told, usage=estimate)
            self._end(exchange, known, is_broken=relay.is_broken)
            ending = Ending(
                outcome=_stream_outcome(exchange, relay),
                estimate=estimate,
                closed_at=self._now(),
                served=served,
                first_byte_at=first_byte_at,
                reading=told,
                response=response,
                passed=relay.received.passed,
                error=relay.error,
            )
            closing = self.close(call, exchange.record, ending, relay.received)
            await _both(self._remember(exchange, response), closing)

        is_events = exchange.media_type == "text/event-stream" and not exchange.is_content
        operation = call.route.operation
        tap = (
            StreamTap(operation, drop_usage_chunk=served.asked_usage, encoding=exchange.encoding)
            if is_events
            else PassTap()
        )
        passes = not is_events and call.upload is None
        drains = call.client.on_disconnect is OnDisconnect.DRAIN
        timing = Timing(
            deadline=exchange.deadline,
            drain_s=self._settings.drain_timeout_s if drains else 0,
            heartbeat_s=self._settings.heartbeat_s,
            holds_end=self._settings.durable,
        )
        relay = Relay(exchange.response, tap, close, timing, self._received(call) if passes else None)
        if exchange.is_client_gone:
            relay.outcome = Outcome.CLIENT_CLOSED
        return relay

    def _received(self, call: Call) -> Received:
        """Where the answer is kept: it passes through where it is larger than a body that is held."""
        return Received(
            self._settings.replay_bytes,
            request=call.body,
            writer=lambda: self._publisher.writer(call.call_id) if keeps_all(call) else None,
            may_be_lost=self._settings.allow_unrecorded,
        )

    async def _estimate(self, exchange: Exchange, relay: Relay, response: bytes) -> TokenUsage | None:
        """What a stream that was stopped had produced by then."""
        operation, reading = exchange.call.route.operation, relay.tap.reading
        if not relay.was_stopped or reading.usage or not says_words(operation) or relay.received.is_passing:
            return None  # pictures, sound and what is not here cannot be counted: no tokens of output would be invented
        model = reading.model or exchange.call.model
        try:
            return await estimate(operation, model, exchange.call.body, response, exchange.encoding)
        except Exception:  # noqa: BLE001 - what cannot be counted is unknown, and its call is closed all the same
            _log.exception("call not estimated", extra={"call_id": exchange.call.call_id})
            return None

    async def _whole(self, exchange: Exchange) -> bytes:
        body, error = await _read(exchange.response, exchange.deadline)
        operation, served = exchange.call.route.operation, exchange.served
        reading = read_body(operation, body, exchange.encoding)
        self._end(exchange, reading, is_broken=error is not None)
        ending = Ending(
            outcome=await _outcome(exchange, error),
            closed_at=self._now(),
            served=msgspec.structs.replace(served, status=UpstreamFailed.status) if error else served,
            first_byte_at=None if error else self._now(),
            reading=reading,
            response=body,
            error=error,
        )
        await _both(self._remember(exchange, body), self._closed(exchange, ending))
        if error:
            raise UpstreamFailed("The upstream broke off in the middle of its answer.")
        return body

    def _end(self, exchange: Exchange, reading: Reading, *, is_broken: bool) -> None:
        """The deployment is free again, one that broke off has failed after all, and the client's limits know the usage."""
        tokens, money = _tokens(reading.usage), _money(exchange, reading)
        if _is_free(exchange.served.status, reading) or exchange.call.route.operation.works_later:
            tokens, money = 0, Decimal(0)
        self._limits.settle(exchange.admission, tokens=tokens, money=money)
        if is_broken:
            exchange.lease.judged(judge_error(sent=True, retry_unknown=False))
        exchange.lease.end()

    async def _remember(self, exchange: Exchange, answer: bytes) -> None:
        """The answer's objects become the client's. Where that fails it has lost those, but not the answer."""
        call, served = exchange.call, exchange.served
        if not (call.stores and served.target and served.status < 300) or call.route.operation.lists:
            return
        if exchange.is_content or exchange.media_type not in ("application/json", "text/event-stream"):
            return  # a file's content speaks of whatever its author wrote
        try:
            plain = decoded(answer, exchange.encoding)
            await stickiness.remember(call, served.target, plain, self._objects)
        except (GatewayError, zlib.error) as error:
            _log.error("objects not remembered", extra={"call_id": call.call_id, "reason": str(error)})


async def _both(remembering: Awaitable[None], closing: Awaitable[None]) -> None:
    """Waits for both at once, where a client waits for its last bytes. Raises what either does, once both are over."""
    for failure in await asyncio.gather(remembering, closing, return_exceptions=True):
        if failure is not None:
            raise failure


async def _archived(
    call: Call, closed: ArchivedCall, received: Received | None
) -> tuple[str | None, TransportDown | AzureError | None]:
    """The digest of a call of which a body has passed into the archive, or why the archive did not take it to its end; neither
    where none is kept there."""
    try:
        digest = await received.finish(closed.record) if received else None
        if call.upload:
            digest = await call.upload.finish(closed.record, closed.response)
    except AzureError as error:
        _log.error("what passed not kept", extra={"call_id": call.call_id, "reason": repr(error)})
        return None, error
    return digest, None


def _broken_off(closed: ArchivedCall) -> ArchivedCall:
    """The account of a call whose client is refused the end, because what passed could not be kept."""
    record = closed.record
    outcome = Outcome.UPSTREAM_ERROR if record.outcome is Outcome.COMPLETED else record.outcome
    error = record.error or "what passed could not be kept"
    return msgspec.structs.replace(closed, record=msgspec.structs.replace(record, outcome=outcome, error=error))


def _stream_outcome(exchange: Exchange, relay: Relay) -> Outcome:
    """An error that is told inside a stream is one, and so is one in another form than JSON; a content filter's is an answer."""
    reading = relay.tap.reading
    is_failure = exchange.served.is_failure or reading.error not in (None, _FILTERED)
    is_cut_short = relay.is_cut_short and relay.tap.tells_errors and not reading.finish_reasons
    return Outcome.UPSTREAM_ERROR if is_failure or is_cut_short else relay.outcome


def _is_free(status: int, reading: Reading) -> bool:
    """Whether it is an error, and none that is billed all the same: a filtered prompt, or a call that took too long
    (https://learn.microsoft.com/azure/ai-foundry/openai/how-to/manage-costs)."""
    return status >= 400 and status != 408 and reading.error != _FILTERED and reading.usage is None


def _tokens(usage: TokenUsage | None) -> int | None:
    return None if usage is None else (usage.input_tokens or 0) + (usage.output_tokens or 0)


def _money(exchange: Exchange, reading: Reading) -> Decimal | None:
    """None: the usage is not known, or has no price."""
    call, target = exchange.call, exchange.served.target
    if reading.usage is None:
        return None
    use = Use(
        model=call.model,
        model_served=reading.model or "",
        deployment=target.deployment.name if target else "",
        region=(target.upstream.region or "") if target else "",
        tier=with_length(tier_of(call, reading), reading.usage.input_tokens),
    )
    price = exchange.prices.price_of(use, call.opened_at.date())
    return None if price is None else charge(price, reading.usage, tier=use.tier)


async def _outcome(exchange: Exchange, error: str | None) -> Outcome:
    if error or exchange.served.is_failure:
        return Outcome.UPSTREAM_ERROR
    return Outcome.CLIENT_CLOSED if await exchange.call.request.is_gone() else Outcome.COMPLETED


async def _read(response: Response, deadline: float) -> tuple[bytes, str | None]:
    """The whole body, or what came of it and why it broke off."""
    received: list[bytes] = []
    error = None
    try:
        async with asyncio.timeout_at(deadline):
            async for chunk in response.chunks():
                received.append(chunk)  # noqa: PERF401 - what came before a break is kept
    except UpstreamError as failure:
        error = failure.reason
    except TimeoutError:
        error = "the call's deadline passed"
    finally:
        await response.close()
    return b"".join(received), error
