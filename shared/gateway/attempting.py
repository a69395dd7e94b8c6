"""Attempts: a call is sent to one deployment after another until one has answered.

Rule: which to ask and what an answer means is decided in the core; here it is done. As much of an answer is read as its
verdict needs and no more: for an error its body, for a stream what comes before its first content, since an upstream can
fail behind a 200 too. Once the client has got a byte there is no other attempt.
"""

import asyncio
import contextlib
import math
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime

import msgspec

from shared.core.api.sse import EventSplitter, data_of
from shared.core.api.upstream_requests import upstream_request
from shared.core.call_record import Attempt
from shared.core.calls import Call
from shared.core.configuration import Pool, Target
from shared.core.errors import (
    ClientGone,
    GatewayError,
    NoDeploymentAvailable,
    NotReady,
    RateLimited,
    RequestTimeout,
    UpstreamFailed,
)
from shared.core.headers import get
from shared.core.recording.accounting import Served, milliseconds
from shared.core.routing.verdicts import (
    ABANDONED,
    ANSWERED,
    BODY_DECIDES,
    Action,
    Reason,
    Verdict,
    judge_answer,
    judge_error,
    judge_event,
)
from shared.credentials import Credentials
from shared.gateway.health_board import HealthBoard, Lease
from shared.gateway.upstream import Response, UpstreamError, UpstreamResponse, Upstreams

_LONGEST_PREVIEW = 64 * 1024
"""Bytes of a stream that are held back while nothing in them is content."""
_PREVIEW_PATIENCE_S = 15.0
"""For how long they are: a model that thinks for minutes begins with an empty event."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to go on with. Who has it ends its lease."""

    served: Served
    response: Response
    lease: Lease


class Unanswered(msgspec.Struct, frozen=True, kw_only=True):
    """No deployment answered, and what the client is told."""

    served: Served
    error: GatewayError
    is_unknown: bool
    """Whether any may have worked on it and not said so: it may be billed."""


class Patience:
    """How long an answer is waited for, in all: until an instant of the event loop's clock, or until nobody wants one."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.is_over = False
        self.is_client_gone = False
        """Whether the client has left while it waited."""
        self._limit: asyncio.Timeout | None = None

    def leave(self) -> None:
        """The client has gone."""
        self.is_client_gone = True

    @property
    def allows_more(self) -> bool:
        """Whether there is time for another attempt, and anybody who wants it."""
        return not self.is_over and asyncio.get_running_loop().time() < self.deadline

    def end(self) -> None:
        """Nobody waits any more: the attempt under way is given up, and no other made."""
        self.is_over = True
        if self._limit:
            self._limit.reschedule(asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def until(self, when: float) -> AsyncIterator[None]:
        """Raises TimeoutError at the instant `when`, or before it where the patience ends."""
        async with asyncio.timeout_at(0.0 if self.is_over else min(when, self.deadline)) as limit:
            self._limit = limit
            try:
                yield
            finally:
                self._limit = None


class _Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one attempt."""

    attempt: Attempt
    verdict: Verdict
    response: UpstreamResponse | None = None
    asked_usage: bool = False


class Attempting:
    """One per process. Holds no state of any call."""

    def __init__(
        self,
        *,
        upstreams: Upstreams,
        board: HealthBoard,
        credentials: Credentials,
        now: Callable[[], datetime],
        first_byte_timeout_s: float,
        idle_timeout_s: float,
    ) -> None:
        self._upstreams = upstreams
        self._board = board
        self._credentials = credentials
        self._now = now
        self._first_byte_timeout_s = first_byte_timeout_s
        self._idle_timeout_s = idle_timeout_s

    async def answered(self, call: Call, pool: Pool, patience: Patience) -> Answered | Unanswered:
        """Asks the pool's deployments in turn. The answer is that of the last one asked, whatever it says.

        Raises NoDeploymentAvailable, RateLimited, NotReady or BadRequest where none may be, or could be, asked at all.
        """
        if not pool.targets:
            raise NotReady("No upstream is configured.")
        lease = self._board.begin(pool)
        if lease is None:
            raise self._all_out(pool)
        tried: list[_Tried] = []
        names: set[str] = set()
        while True:
            names.add(lease.name)
            started_at = self._now()
            try:
                last = await self._ask(call, lease, patience, len(tried), retry_unknown=pool.model.retry_unknown)
            except GatewayError as error:
                lease.end()
                return self._broken_off(call, tried, error, lease.target, started_at)
            except BaseException:  # a defect of ours must not count as an attempt under way for ever
                lease.end()
                raise
            tried.append(last)
            may_repeat = last.verdict.action is Action.TRY_NEXT and call.upload is None and patience.allows_more
            following = self._board.begin(pool, names) if may_repeat else None
            if following is None:
                return self._last(pool, tried, lease)
            if last.response:
                await last.response.close()
            lease.end()
            lease = following

    def _last(self, pool: Pool, tried: list[_Tried], lease: Lease) -> Answered | Unanswered:
        last = tried[-1]
        attempts = tuple(each.attempt for each in tried)
        if last.response is None:
            lease.end()
            reasons = {each.verdict.reason for each in tried}
            error = NoDeploymentAvailable if reasons == {Reason.NOT_REACHED} else UpstreamFailed
            told: GatewayError = error(
                f"No {_what(pool)} answered.", retry_after_s=self._board.least_wait(pool).seconds
            )
            if last.verdict is ABANDONED:
                told = ClientGone("The client had gone before there was an answer.")
            is_unknown = not reasons.isdisjoint((Reason.OUTCOME_UNKNOWN, Reason.ABANDONED))
            return Unanswered(served=Served(attempts=attempts, status=told.status), error=told, is_unknown=is_unknown)
        served = Served(
            attempts=attempts,
            status=last.response.status,
            target=lease.target,
            headers=last.response.headers,
            asked_usage=last.asked_usage,
            is_failure=last.verdict.action is not Action.ACCEPT,
            retry_after_s=self._board.least_wait(pool).seconds if _may_pass(last) else None,
        )
        return Answered(served=served, response=last.response, lease=lease)

    def _broken_off(
        self, call: Call, tried: list[_Tried], error: GatewayError, target: Target, started_at: datetime
    ) -> Unanswered:
        """What comes of a call that we could not, or would not, go on with: an upload that broke off, say.

        Raises the error where nobody was asked.
        """
        attempts = [each.attempt for each in tried]
        if call.upload and call.upload.is_begun:
            attempts.append(self._attempt(call, target, started_at, None, error.code or error.type))
        if not attempts:
            raise error
        return Unanswered(served=Served(attempts=tuple(attempts), status=error.status), error=error, is_unknown=True)

    def _all_out(self, pool: Pool) -> NoDeploymentAvailable | RateLimited:
        wait = self._board.least_wait(pool)
        message = f"Every {_what(pool)} is out for now; try again after the Retry-After time."
        error = RateLimited if wait.is_rate_limited else NoDeploymentAvailable
        return error(message, retry_after_s=wait.seconds)

    def _until(self, call: Call) -> float:
        """When one deployment must have begun. A client that streams hears comments meanwhile, and so can wait for longer."""
        if call.upload:
            return math.inf  # most of the time is the client's
        timeout_s = self._idle_timeout_s if call.stream else self._first_byte_timeout_s
        return asyncio.get_running_loop().time() + timeout_s

    async def _ask(self, call: Call, lease: Lease, patience: Patience, number: int, *, retry_unknown: bool) -> _Tried:
        started_at = self._now()
        try:
            credential = await self._credentials.current(lease.target.upstream)
            request = upstream_request(call, lease.target, credential, number)
            async with patience.until(self._until(call)):
                response = await self._upstreams.send(request)
                first_byte_at = self._now()
                verdict = await _judge(response, first_byte_at)
        except (UpstreamError, TimeoutError) as error:
            if patience.is_over:
                verdict, reason = ABANDONED, ABANDONED.reason.value  # of which the deployment is to learn nothing
            else:
                verdict, reason = _judge_failure(call, lease, error, retry_unknown=retry_unknown)
            return _Tried(attempt=self._attempt(call, lease.target, started_at, None, reason), verdict=verdict)
        waited = first_byte_at - started_at
        lease.judged(verdict, headers=response.headers, first_byte_ms=waited.total_seconds() * 1000)
        if verdict.reason is Reason.CREDENTIAL_REFUSED:
            await response.close()  # the client would take it for its own key
            attempt = self._attempt(call, lease.target, started_at, response.status, verdict.reason.value)
            return _Tried(attempt=attempt, verdict=verdict)
        failure = None if verdict.action is Action.ACCEPT else verdict.reason.value
        attempt = self._attempt(call, lease.target, started_at, response.status, failure)
        return _Tried(attempt=attempt, verdict=verdict, response=response, asked_usage=request.asks_usage)

    def _attempt(
        self, call: Call, target: Target, started_at: datetime, status: int | None, error: str | None
    ) -> Attempt:
        """The account of an attempt that is over, or whose answer has begun."""
        return Attempt(
            deployment=target.deployment.name,
            upstream=target.upstream.name,
            status=status,
            error=error,
            duration_ms=milliseconds(started_at, self._now()),
            started_ms=milliseconds(call.opened_at, started_at),
        )


def _judge_failure(
    call: Call, lease: Lease, error: UpstreamError | TimeoutError, *, retry_unknown: bool
) -> tuple[Verdict, str]:
    """The verdict on an attempt without an answer, and why there is none.

    Raises RequestTimeout where it was the client that kept the deployment waiting.
    """
    sent, reason = (error.sent, error.reason) if isinstance(error, UpstreamError) else (True, "timed out")
    upload = call.upload
    if isinstance(error, TimeoutError) and upload and upload.passed_bytes < upload.declared_bytes:
        raise RequestTimeout("The upload did not come on in time.") from error
    may_repeat = retry_unknown or call.route.operation.method in ("GET", "DELETE")
    verdict = judge_error(sent=sent, retry_unknown=may_repeat)
    lease.judged(verdict)
    return verdict, reason


def _may_pass(last: _Tried) -> bool:
    """Whether it is worth the client's while to come again."""
    status = last.attempt.status or 0
    return last.verdict.action is Action.TRY_NEXT and (status in (408, 429) or status >= 500)


def _what(pool: Pool) -> str:
    return f"deployment of the model '{pool.model.name}'" if pool.model.name else "upstream"


async def _judge(response: UpstreamResponse, now: datetime) -> Verdict:
    """The verdict on an answer. Where it breaks off before there is one, however that happens, it is closed."""
    try:
        return await _looked_at(response, now)
    except BaseException:
        await response.close()
        raise


async def _looked_at(response: UpstreamResponse, now: datetime) -> Verdict:
    if response.status in BODY_DECIDES:
        return judge_answer(response.status, response.headers, now, await _error_body(response))
    is_stream = (get(response.headers, "content-type") or "").startswith("text/event-stream")
    if response.status >= 400 or not is_stream or get(response.headers, "content-encoding"):
        return judge_answer(response.status, response.headers, now)
    return await _judge_beginning(response)


async def _judge_beginning(response: UpstreamResponse) -> Verdict:
    """Reads a stream until an event tells whether it is an answer."""
    splitter = EventSplitter()
    held = 0
    async for chunk in response.peek(_PREVIEW_PATIENCE_S):
        for event in splitter.feed(chunk):
            data = data_of(event)
            verdict = judge_event(data) if data else None
            if verdict:
                return verdict
        held += len(chunk)
        if held > _LONGEST_PREVIEW:
            break
    return ANSWERED


async def _error_body(response: UpstreamResponse) -> bytes:
    body = b""
    async for chunk in response.peek(_PREVIEW_PATIENCE_S):
        body += chunk
        if len(body) > _LONGEST_PREVIEW:
            break
    if get(response.headers, "content-encoding") == "gzip":
        try:
            return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(body)
        except zlib.error:
            return b""
    return body
