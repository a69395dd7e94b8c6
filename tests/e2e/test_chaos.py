"""A short `make chaos` on each transport: whatever is killed, taken away, doubled or cut off, every call is accounted for."""

import pytest

from devtools.chaos.plan import KINDS, Kind, Transport, plan
from devtools.chaos.run import run

OF_THE_QUEUE = (Kind.WORKER_KILLED, Kind.MESSAGES_DOUBLED, Kind.STORAGE_KILLED)
"""What a queue has a way of its own with; the rest is the same on both."""


@pytest.mark.timeout(300)
async def test_every_call_is_accounted_for_whatever_is_killed(anyio_backend: str) -> None:
    """Invariants 2, 3, 4 and 7: told, served, kept and analysed agree, and each incomplete entry has a kill that explains it."""
    result = await run(plan(50, 7, Transport.EVENT_HUBS), 7, Transport.EVENT_HUBS)
    assert {each.kind for each in result.done} == set(KINDS[Transport.EVENT_HUBS])
    assert result.comparison.forwarded > 15
    assert result.comparison.differences == ()


@pytest.mark.timeout(300)
async def test_a_storage_account_that_is_gone_for_a_while_leaves_no_call_without_its_account(
    anyio_backend: str,
) -> None:
    """What cannot be recorded meanwhile is refused before any upstream is asked; the rest is recorded when it is back."""
    transport = Transport.STORAGE_QUEUE
    result = await run(plan(40, 7, transport, kinds=OF_THE_QUEUE), 7, transport)
    assert {each.kind for each in result.done} == set(OF_THE_QUEUE)
    assert result.comparison.told_meanwhile.total() > 0
    assert result.comparison.told.total() == 40
    assert result.comparison.differences == ()
