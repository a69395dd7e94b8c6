"""Attempts: a call is sent to one deployment after another until one has answered.

Rule: which to try and what an answer means is decided in the core; here it is done. A request that may have been billed is
not sent again, unless its model's configuration says so.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from shared.core.accounting import Served
from shared.core.call_record import Attempt
from shared.core.calls import Call
from shared.core.configuration import Target
from shared.core.errors import UpstreamFailed
from shared.core.upstream_requests import upstream_request
from shared.upstream import UpstreamError, UpstreamResponse, Upstreams

TRY_NEXT = frozenset({429, 500, 502, 503, 504})
"""Answers that another deployment may better."""


async def attempt(
    call: Call, targets: Sequence[Target], upstreams: Upstreams, now: Callable[[], datetime]
) -> tuple[Served, UpstreamResponse | None]:
    """Tries the targets in turn. The answer is that of the last one asked, whatever its status; None where none came."""
    attempts: list[Attempt] = []
    for target in targets:
        request = upstream_request(call, target)
        started_at = now()
        try:
            response = await upstreams.send(request)
        except UpstreamError as error:
            attempts.append(_attempt(target, started_at, now(), error=error.reason))
            if error.sent:
                break
            continue
        attempts.append(_attempt(target, started_at, now(), status=response.status))
        if response.status in TRY_NEXT and target is not targets[-1]:
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


def _attempt(
    target: Target, started_at: datetime, ended_at: datetime, *, status: int | None = None, error: str | None = None
) -> Attempt:
    return Attempt(
        deployment=target.deployment.name,
        upstream=target.upstream.name,
        status=status,
        error=error,
        duration_ms=round((ended_at - started_at).total_seconds() * 1000),
    )
