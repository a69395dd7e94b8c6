"""The gateway: a request in, an answer out, an account of both published.

Rule: thin. It authenticates, chooses where a call may go, has it sent and hands over the record; it reads no more of a call
than that takes. No upstream is asked before the call's `opened` event is durable: a gateway that dies with an answer under
way leaves an entry behind, and what cannot be recorded is not billed. The price is one send, on the way to the first byte.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from shared.clients.identifying import Identity
from shared.clients.limits import Admission, Limits
from shared.core.api.operations import Route
from shared.core.call_ids import mint
from shared.core.call_record import CallRecord, Outcome
from shared.core.calls import Call, InboundRequest, begun, most_of, routed, understood
from shared.core.clients import authorization
from shared.core.configuration import Client, Configuration, OnDisconnect, Pool
from shared.core.errors import (
    ClientGone,
    GatewayError,
    NotReady,
    PayloadTooLarge,
    PermissionDenied,
    RequestTimeout,
    is_rejection,
)
from shared.core.headers import for_client, get, with_limits, with_retry_after
from shared.core.money import pricing
from shared.core.money.prices import Price, PriceSheet, Use, with_length
from shared.core.recording import content_policy
from shared.core.recording.accounting import Ending, Served, open_record, tier_of
from shared.core.usage import Reading, TokenUsage
from shared.gateway import stickiness
from shared.gateway.answering import Answering, Exchange
from shared.gateway.answers import JSON, Answer, refusal
from shared.gateway.attempting import Attempting, Patience, Unanswered
from shared.gateway.listing import Listing
from shared.gateway.objects import Objects
from shared.gateway.uploading import Upload
from shared.gateway.waiting import EVENT_STREAM, Waiting
from shared.recording.publishing import Publisher
from shared.settings import Settings
from shared.telemetry import OFF, Telemetry
from shared.transports import TransportDown

_log = logging.getLogger(__name__)
_BODY_PATIENCE_S = 30.0
_NONE = (None, None, None)
_SLOWEST_BODY = 16 * 1024
"""Bytes a second that a request body has to come at, once that patience is over."""


class _Most(msgspec.Struct, frozen=True):
    """The most that a call may take."""

    tokens: int
    money: Decimal


_NOTHING = _Most(0, Decimal(0))
_SOMETHING = _Most(1, Decimal("1e-9"))
"""Of a call whose use is told later: who has nothing left may not begin it."""


class Live(Protocol):
    """Where the configuration in force is read from, without waiting."""

    current: Configuration | None


class Gateway:
    """One per process. Of calls it holds only what is being recorded while nobody waits for it."""

    def __init__(
        self,
        *,
        settings: Settings,
        live: Live,
        identity: Identity,
        attempting: Attempting,
        publisher: Publisher,
        objects: Objects,
        limits: Limits,
        now: Callable[[], datetime],
        telemetry: Telemetry = OFF,
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._live = live
        self._identity = identity
        self._publisher = publisher
        self._objects = objects
        self._limits = limits
        self._now = now
        self._unawaited: set[asyncio.Task[None]] = set()
        self._attempting = attempting
        self._listing = Listing(attempting, objects)
        self._answering = Answering(
            publisher=publisher, objects=objects, limits=limits, now=now, settings=settings, telemetry=telemetry
        )

    async def handle(self, request: InboundRequest) -> Answer:
        """The answer to a request; every error becomes one."""
        return await self._told(self._serve(request))

    async def _told(self, serving: Awaitable[Answer]) -> Answer:
        """What comes of it, or the error that comes of it."""
        try:
            return await serving
        except GatewayError as error:
            return refusal(error)
        except Exception:  # noqa: BLE001 - a defect of ours must still be told in the API's own shape
            _log.exception("call failed")
            return refusal(GatewayError("The gateway failed; this is a defect of its own. Try again later."))

    async def _serve(self, request: InboundRequest) -> Answer:
        configuration = self._live.current  # one for the whole call, whatever is reloaded meanwhile
        if configuration is None:
            raise NotReady("The gateway's configuration is invalid; /health/ready says why.")
        client = await self._identity.client_of(request.headers, configuration)
        opened_at = self._now()
        call_id = mint(opened_at, secrets.token_bytes(10))
        call = begun(call_id, opened_at, client, request, self._telemetry.begin(request.headers))
        try:
            call = routed(call)
            authorization.check_network(client, request.caller_ip)
            authorization.check(client, call.route.operation, forward_unknown=self._settings.forward_unknown)
            if call.route.operation.local:
                return self._models(configuration.pools, client, call.route)
            call = await self._with_body(call)
            call = understood(call, call.body)
            authorization.check_purpose(call)
            call = msgspec.structs.replace(call, names=authorization.Names(client, configuration.pools))
            pool = await self._pool(configuration, call)
            most = self._most(configuration, call, pool)
            admission = await self._limits.admit(client, tokens=most.tokens, money=most.money)
        except GatewayError as error:
            if not is_rejection(error):
                raise
            self._record_rejection(_with_known_model(call, configuration), error)
            return _with_id(refusal(error, self._limits.headers(client)), call)
        return _with_id(await self._told(self._forward(call, pool, admission, configuration.prices)), call)

    async def _with_body(self, call: Call) -> Call:
        """The call with its body: here, or to pass through where it is large and nothing in it has to be read."""
        operation, request = call.route.operation, call.request
        declared = _declared_bytes(request)
        _check_size(declared, self._settings.max_request_bytes)
        if not operation.passes or declared <= self._settings.replay_bytes:
            return msgspec.structs.replace(call, body=await _read(request, self._settings.max_request_bytes))
        writer = self._publisher.writer(call.call_id) if content_policy.keeps_all(call) else None
        ids = stickiness.PassingIds(call.client, self._objects) if operation.lines else None
        return msgspec.structs.replace(call, upload=Upload(request.chunks, declared, writer, ids))

    async def _announce(self, call: Call, record: CallRecord) -> None:
        """Returns when it is durable that the call was accepted, if that is to be waited for. Raises NotReady."""
        opened = self._publisher.opened(record)
        if not self._settings.durable:
            task = asyncio.create_task(opened)
            self._unawaited.add(task)
            task.add_done_callback(self._forget)
            return
        try:
            await opened
        except TransportDown as error:
            _log.error("call not recorded as opened", extra={"call_id": call.call_id, "reason": str(error)})
            if not self._settings.allow_unrecorded:
                raise NotReady("The call could not be recorded, so it was not forwarded; try again later.") from error

    def _record_rejection(self, call: Call, error: GatewayError) -> None:
        """Publishes the refusal of a call, which does not wait for that."""
        task = asyncio.create_task(self._record_refusal(call, error))
        self._unawaited.add(task)
        task.add_done_callback(self._forget)

    async def _record_refusal(self, call: Call, error: GatewayError) -> None:
        served = Served(attempts=(), status=error.status)
        ending = Ending(outcome=Outcome.REJECTED, closed_at=self._now(), served=served, error=error.message)
        await self._answering.close(call, content_policy.limited(call, open_record(call)), ending)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._unawaited.discard(task)
        task.exception()  # logged where it arose; the client has its answer

    def _models(self, pools: Mapping[str, Pool], client: Client, route: Route) -> Answer:
        if route.object_id is None:
            models: msgspec.Struct = authorization.models_of(client, pools)
        else:
            authorization.pool_of(client, pools, route.object_id)
            models = authorization.ModelObject(id=route.object_id)
        return Answer(status=200, headers=JSON, body=msgspec.json.encode(models))

    async def _pool(self, configuration: Configuration, call: Call) -> Pool:
        """Where the call may go. Raises NotFound, BadRequest."""
        if call.model:
            pool = authorization.pool_of(call.client, configuration.pools, call.model)
            upstream = await stickiness.upstream_of(call, self._objects)
            return authorization.with_models(stickiness.on_upstream(pool, upstream), call)
        upstream = await stickiness.upstream_of(call, self._objects)
        return authorization.with_models(stickiness.on_upstream(configuration.home, upstream), call)

    def _most(self, configuration: Configuration, call: Call, pool: Pool) -> _Most:
        """What the call may take at most, as far as can be told before it is served. Raises PermissionDenied."""
        limits = call.client.limits
        if (limits.tokens_per_minute, limits.tokens_per_month, limits.money_per_month) == _NONE:
            return _NOTHING
        if not call.model:
            return _SOMETHING if call.route.operation.works_later else _NOTHING
        most = most_of(call, self._settings.output_tokens)
        tokens = (most.input_tokens or 0) + (most.output_tokens or 0)
        if limits.money_per_month is None:
            return _Most(tokens, Decimal(0))
        price = _some_price(configuration.prices, call, pool, most)
        if price is None:
            raise PermissionDenied(
                f"The model '{call.model}' has no price, so your budget cannot be kept.", code="model_not_priced"
            )
        return _Most(tokens, pricing.most(price, most))

    async def _forward(self, call: Call, pool: Pool, admission: Admission, prices: PriceSheet) -> Answer:
        record = content_policy.limited(call, open_record(call))
        patience = Patience(asyncio.get_running_loop().time() + self._settings.deadline_s)
        try:
            await self._announce(call, record)
        except NotReady:
            self._limits.settle(admission, tokens=0, money=Decimal(0))
            raise
        forwarded = self._forwarded(call, record, pool, admission, prices, patience)
        return await (self._in_time(call, self._told(forwarded), patience) if call.stream else forwarded)

    async def _in_time(self, call: Call, answering: Coroutine[Any, Any, Answer], patience: Patience) -> Answer:
        """The answer or, where the platform would take the silence for a call that hangs, a stream that begins without it."""
        answer = asyncio.create_task(answering)
        if (await asyncio.wait((answer,), timeout=self._settings.heartbeat_s))[0]:
            return answer.result()
        drain_s = self._settings.drain_timeout_s if call.client.on_disconnect is OnDisconnect.DRAIN else 0
        waiting = Waiting(
            answer, patience.end, heartbeat_s=self._settings.heartbeat_s, drain_s=drain_s, left=patience.leave
        )
        return Answer(status=200, headers=(*EVENT_STREAM, *self._limits.headers(call.client)), body=waiting)

    async def _forwarded(
        self,
        call: Call,
        record: CallRecord,
        pool: Pool,
        admission: Admission,
        prices: PriceSheet,
        patience: Patience,
    ) -> Answer:
        try:
            asking = self._listing if call.route.operation.lists else self._attempting
            answered = await asking.answered(call, pool, patience)
        except GatewayError as error:  # nobody was asked
            self._limits.settle(admission, tokens=0, money=Decimal(0))
            await self._record_refusal(call, error)
            raise
        except Exception:  # a defect of ours: what it took is not known
            self._limits.settle(admission, tokens=None, money=None)
            raise
        served = answered.served
        if isinstance(answered, Unanswered):
            if answered.is_unknown:
                self._limits.settle(admission, tokens=None, money=None)
            else:
                self._limits.settle(admission, tokens=0, money=Decimal(0))
            ending = Ending(
                outcome=_outcome_of(answered.error), closed_at=self._now(), served=served, error=answered.error.message
            )
            await self._answering.close(call, record, ending)
            raise answered.error
        exchange = Exchange(
            call=call,
            record=record,
            served=served,
            response=answered.response,
            lease=answered.lease,
            admission=admission,
            prices=prices,
            deadline=patience.deadline,
            is_client_gone=patience.is_client_gone,
        )
        body = await self._answering.answer(exchange)
        headers = with_limits(for_client(served.headers), self._limits.headers(call.client))
        if served.retry_after_s is not None:
            headers = with_retry_after(headers, served.retry_after_s)
        return Answer(status=served.status, headers=headers, body=body)


def _some_price(prices: PriceSheet, call: Call, pool: Pool, most: TokenUsage) -> Price | None:
    """A price of the model that was asked for, on any of the deployments that may serve it, for as much as that."""
    tier = with_length(tier_of(call, Reading()), most.input_tokens)
    uses = (
        Use(model=call.model, deployment=target.deployment.name, region=target.upstream.region or "", tier=tier)
        for target in pool.targets
    )
    found = (prices.price_of(use, call.opened_at.date()) for use in uses)
    return next(filter(None, found), None)


def _outcome_of(error: GatewayError) -> Outcome:
    """How a call ended that was tried and not answered."""
    if isinstance(error, ClientGone):
        return Outcome.CLIENT_CLOSED
    return Outcome.REJECTED if is_rejection(error) or isinstance(error, NotReady) else Outcome.UPSTREAM_ERROR


def _with_id(answer: Answer, call: Call) -> Answer:
    """The answer to a call that is on the record."""
    headers = (*answer.headers, ("x-tollgate-call-id", call.call_id))
    return msgspec.structs.replace(answer, headers=headers)


def _with_known_model(call: Call, configuration: Configuration) -> Call:
    """A refused call as it is recorded: what it named goes into reports only where it is a model."""
    return call if call.model in configuration.pools else msgspec.structs.replace(call, model="")


def _declared_bytes(request: InboundRequest) -> int:
    """Content-Length; 0 where it is not said."""
    declared = (get(request.headers, "content-length") or "")[:18]
    return int(declared) if declared.isdecimal() else 0


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise PayloadTooLarge(f"The request body is larger than {limit} bytes.")


async def _read(request: InboundRequest, limit: int) -> bytes:
    """The whole body. Raises PayloadTooLarge, RequestTimeout."""
    chunks: list[bytes] = []
    size = 0
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(began + _BODY_PATIENCE_S) as patience:
            async for chunk in request.chunks():
                chunks.append(chunk)
                size += len(chunk)
                _check_size(size, limit)
                patience.reschedule(began + _BODY_PATIENCE_S + size / _SLOWEST_BODY)
    except TimeoutError as error:
        raise RequestTimeout(f"After {size} bytes the request body did not come on in time.") from error
    return b"".join(chunks)
