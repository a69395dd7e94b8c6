"""Lists of stored objects, a page of the upstream after another."""

import math
from typing import Any

import msgspec

from shared.core.api.references import StoredObject
from shared.core.calls import Call, query_value
from shared.core.configuration import Model, Pool, UpstreamKind
from shared.core.errors import NotReady
from shared.core.recording.accounting import Served
from shared.gateway.attempting import Answered, Patience, Unanswered
from shared.gateway.health_board import HealthBoard
from shared.gateway.listing import _MOST_PAGES, Listing, _Kept
from tests.examples import call, inbound, target

POOL = Pool(Model(name=""), (target(UpstreamKind.OPENAI),))


class Account:
    """An upstream with `size` batches, one on each page, of which the last is the client's."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.is_away = False
        self.board = HealthBoard(now=lambda: 0.0, random=lambda: 0.0)

    async def upstreams_of(self, _: str) -> frozenset[str]:
        return frozenset({"contoso"})

    async def find(self, object_id: str) -> StoredObject:
        if self.is_away:
            raise NotReady("away")
        owner = "team-blue" if object_id == f"batch_{self._size}" else "team-red"
        return StoredObject(object_id=object_id, client_id=owner, upstream="contoso")

    async def answered(self, asking: Call, pool: Pool, _: Patience) -> Answered:
        number = int((query_value(asking.request.query, "after") or "batch_0").removeprefix("batch_")) + 1
        page = {"data": [{"id": f"batch_{number}"}], "has_more": number < self._size}
        lease = self.board.begin(pool)
        assert lease
        return Answered(served=Served(attempts=(), status=200), response=_Kept(msgspec.json.encode(page)), lease=lease)

    async def listed(self) -> Answered | Unanswered:
        part: Any = self
        request = msgspec.structs.replace(inbound("/v1/batches"), method="GET")
        listing = Listing(part, part)
        return await listing.answered(call(b"", request), POOL, Patience(math.inf))


async def test_others_pages_are_passed_over() -> None:
    account = Account(_MOST_PAGES)
    answered = await account.listed()
    assert isinstance(answered, Answered)
    assert f"batch_{_MOST_PAGES}".encode() in answered.response.peeked
    answered.lease.end()
    assert account.board.snapshot()["east"].outstanding == 0


async def test_what_is_behind_too_many_of_them_is_not_told_to_be_nothing() -> None:
    """An SDK takes an empty page for the last one."""
    account = Account(_MOST_PAGES + 1)
    unanswered = await account.listed()
    assert isinstance(unanswered, Unanswered)
    assert (unanswered.error.status, "limit" in unanswered.error.message) == (503, True)
    assert account.board.snapshot()["east"].outstanding == 0


async def test_where_it_cannot_be_told_whose_they_are_the_deployment_is_free_again() -> None:
    account = Account(1)
    account.is_away = True
    unanswered = await account.listed()
    assert isinstance(unanswered, Unanswered)
    assert unanswered.error.status == 503
    assert account.board.snapshot()["east"].outstanding == 0
