"""Lists of stored objects: one upstream's page after another, until there is something of the client's.

Rule: a client's objects are listed where they are: upstream by upstream in the configuration's order, each in its own order.
A page shows the client's own only, and is never empty while there is more. What cannot be read, or asked, is an error, and not
a shorter list.
"""

import math
import zlib
from collections.abc import AsyncIterator
from urllib.parse import quote

import msgspec

from shared.core.call_record import Attempt
from shared.core.calls import Call, parameter_name, query_value
from shared.core.configuration import Pool, Target
from shared.core.content_encoding import decoded, encoded
from shared.core.errors import GatewayError, NotReady, UpstreamFailed
from shared.core.headers import get
from shared.core.json_text import NOT_READABLE
from shared.core.recording.accounting import Served
from shared.core.routing.verdicts import judge_error
from shared.gateway.attempting import Answered, Attempting, Patience, Unanswered
from shared.gateway.objects import Objects
from shared.gateway.stickiness import own_object
from shared.gateway.upstream import UpstreamError

_MOST_PAGES = 50
"""Pages that are asked for to fill one: a thousand objects of others, at twenty a page."""


class _Item(msgspec.Struct):
    id: str


class _Page(msgspec.Struct):
    """One page, as the upstream sent it and as it is read."""

    body: bytes
    encoding: str | None
    fields: dict[str, msgspec.Raw]
    items: list[msgspec.Raw]
    ids: list[str]

    @property
    def has_more(self) -> bool:
        return bool(self.ids) and bytes(self.fields.get("has_more", b"false")) == b"true"

    def only(self, own: frozenset[str], *, has_more: bool) -> bytes:
        """The page with the items of these ids alone; as it came where those are all."""
        if len(own) == len(self.ids) and has_more == self.has_more:
            return self.body
        kept = [(each, item) for each, item in zip(self.ids, self.items, strict=True) if each in own]
        ends = {"first_id": kept[0][0], "last_id": kept[-1][0]} if kept else {"first_id": None, "last_id": None}
        changed: dict[str, object] = {"data": [item for _, item in kept]} | {
            name: end for name, end in ends.items() if name in self.fields
        }
        if has_more != self.has_more:
            changed["has_more"] = has_more
        return encoded(msgspec.json.encode({**self.fields, **changed}), self.encoding)


class _Kept:
    """A body that is here already."""

    def __init__(self, body: bytes) -> None:
        self.peeked = body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.peeked

    async def close(self) -> None:
        return


class Listing:
    """One per process. Holds no state of any call."""

    def __init__(self, attempting: Attempting, objects: Objects) -> None:
        self._attempting = attempting
        self._objects = objects

    async def answered(self, call: Call, pool: Pool, patience: Patience) -> Answered | Unanswered:
        """The first page that has something of the client's, or the last one. Its attempts are those for that page.

        `pool` is all upstreams. Raises NotFound for a cursor that is not the client's; NotReady, NoDeploymentAvailable,
        RateLimited where nobody was asked.
        """
        held = await self._objects.upstreams_of(call.client.id)
        targets = await self._targets(call, pool, held)
        asking: Call = call
        attempts: tuple[Attempt, ...] = ()
        for asked in range(_MOST_PAGES):
            try:
                answered = await self._attempting.answered(asking, Pool(pool.model, targets[:1]), patience)
            except GatewayError as error:
                if not asked:
                    raise
                return _unanswered((), error)
            if isinstance(answered, Unanswered) or answered.served.status >= 300:
                return answered
            try:
                page = await _read(answered, patience)
                own = await self._own(call, page)
            except GatewayError as error:
                answered.lease.end()
                return _unanswered(answered.served.attempts, error)
            goes_on = targets[0].upstream.name in held and page.has_more and not _is_backwards(call)
            if own or _is_backwards(call) or not (goes_on or targets[1:]):
                has_more = page.has_more if _is_backwards(call) else goes_on or bool(targets[1:])
                return _with_body(answered, page.only(own, has_more=has_more))
            answered.lease.end()
            attempts = answered.served.attempts
            targets = targets if goes_on else targets[1:]
            asking = _after(call, page.ids[-1] if goes_on else None)
        return _unanswered(
            attempts,
            NotReady(
                f"{_MOST_PAGES} pages of others' objects come before any of yours: ask for larger ones, by `limit`."
            ),
        )

    async def _targets(self, call: Call, pool: Pool, held: frozenset[str]) -> tuple[Target, ...]:
        """The upstreams to ask: those that hold something of the client's, from that of the cursor on; one at the least."""
        targets = tuple(target for target in pool.targets if target.upstream.name in held) or pool.targets[:1]
        query = call.request.query
        cursor = query_value(query, "after") or query_value(query, "before")
        if not cursor:
            return targets
        place = (await own_object(call.client, cursor, self._objects)).upstream
        names = [target.upstream.name for target in targets]
        if place not in names:
            raise NotReady(f"The upstream that holds '{cursor}' is no longer configured.")
        return targets[names.index(place) :]

    async def _own(self, call: Call, page: _Page) -> frozenset[str]:
        owners = [await self._objects.find(object_id) for object_id in page.ids]
        return frozenset(owner.object_id for owner in owners if owner and owner.client_id == call.client.id)


def _is_backwards(call: Call) -> bool:
    """Whether the page before one is asked for: that is not gone on from."""
    return query_value(call.request.query, "before") is not None


def _after(call: Call, cursor: str | None) -> Call:
    """The same list from behind an object, or from its beginning."""
    pairs = [pair for pair in call.request.query.split("&") if pair and parameter_name(pair) != "after"]
    query = "&".join(pairs if cursor is None else (*pairs, f"after={quote(cursor, safe='')}"))
    return msgspec.structs.replace(call, request=msgspec.structs.replace(call.request, query=query))


async def _read(answered: Answered, patience: Patience) -> _Page:
    """The page in an answer. Raises UpstreamFailed where it breaks off or is no list: it cannot be told whose it is."""
    encoding = get(answered.served.headers, "content-encoding")
    try:
        async with patience.until(math.inf):
            body = b"".join([chunk async for chunk in answered.response.chunks()])
        fields = msgspec.json.decode(decoded(body, encoding), type=dict[str, msgspec.Raw])
        items = msgspec.json.decode(fields["data"], type=list[msgspec.Raw])
        ids = [msgspec.json.decode(item, type=_Item).id for item in items]
    except (UpstreamError, TimeoutError) as error:
        answered.lease.judged(judge_error(sent=True, retry_unknown=False))
        raise UpstreamFailed("The upstream broke off in the middle of its answer.") from error
    except (*NOT_READABLE, KeyError, zlib.error) as error:
        raise UpstreamFailed("The upstream answered with a list that cannot be read.") from error
    finally:
        await answered.response.close()
    return _Page(body, encoding, fields, items, ids)


def _unanswered(attempts: tuple[Attempt, ...], error: GatewayError) -> Unanswered:
    return Unanswered(served=Served(attempts=attempts, status=error.status), error=error, is_unknown=False)


def _with_body(answered: Answered, body: bytes) -> Answered:
    return msgspec.structs.replace(answered, response=_Kept(body))
