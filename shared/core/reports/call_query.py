"""Which calls are looked for: `GET /calls` and the exports of calls.

Rule: a query names what the ledger has; it never has to open a call. Calls are found by when they were opened.
"""

from datetime import UTC, datetime, timedelta

import msgspec

from shared.core.call_ids import opened_at
from shared.core.call_record import Outcome
from shared.core.errors import BadRequest
from shared.core.money.ledger import UsageEntry
from shared.core.parameters import Parameters

OPEN = "open"
"""The outcome of calls that have not ended."""

FIELDS = (
    "client_id", "cost_center", "operation", "model", "deployment", "upstream", "end_user", "caller_ip", "outcome",
)  # fmt: skip
"""What calls are looked for by. A model is the one that was asked for, or the one that served."""

SPAN = ("start", "end")
MOST = 1000
"""Calls on a page."""
_DEFAULT_SPAN = timedelta(days=31)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""No id is older."""


class CallQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Calls opened from `start` up to but not including `end` (UTC), with all these values."""

    start: datetime
    end: datetime
    filters: tuple[tuple[str, str], ...] = ()
    """Field and value."""
    client_id: str | None = None
    """Whose calls may be seen; None: everyone's."""
    after: str | None = None
    """The last id of the page before: only older calls are looked for."""
    limit: int = 100


class CallPage(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /calls`, newest first. `last_id` is the next page's `after`."""

    object: str = "list"
    data: list[UsageEntry]
    has_more: bool
    last_id: str | None


def parse_call_query(parameters: Parameters, now: datetime, client_id: str | None) -> CallQuery:
    """The query in the parameters `start`, `end` (default: the last 31 days), `limit`, `after`, and any of FIELDS.

    Raises BadRequest.
    """
    end = max(parameters.instant("end", now), _EARLIEST)
    after = parameters.text("after")
    if after is not None:
        try:
            opened_at(after)
        except ValueError as error:
            raise BadRequest(f"'after' is not the id of a call: {after[:50]}", param="after") from error
    outcomes = (OPEN, *Outcome)
    if parameters.text("outcome"):
        parameters.chosen("outcome", outcomes, OPEN)
    return CallQuery(
        start=max(parameters.instant("start", end - min(_DEFAULT_SPAN, end - _EARLIEST)), _EARLIEST),
        end=end,
        filters=tuple((name, value) for name in FIELDS if (value := parameters.text(name)) is not None),
        client_id=client_id,
        after=after,
        limit=parameters.number("limit", least=1, most=MOST, default=100),
    )


def page(entries: list[UsageEntry], limit: int) -> CallPage:
    """A page of what was found, one more than the page holds where there is more."""
    data = entries[:limit]
    return CallPage(data=data, has_more=len(entries) > limit, last_id=data[-1].call_id if data else None)
