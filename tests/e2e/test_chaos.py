"""A short `make chaos` on each transport: whatever is killed, taken away, doubled or cut off, every call is accounted for."""

import pytest

from devtools.chaos.plan import KINDS, Transport
from devtools.chaos.run import run


@pytest.mark.timeout(300)
@pytest.mark.parametrize("transport", Transport)
async def test_every_call_is_accounted_for_whatever_is_killed(anyio_backend: str, transport: Transport) -> None:
    """Invariants 2, 3, 4 and 7: told, served and kept agree, and each incomplete entry has a kill that explains it."""
    result = await run(60, 7, transport)
    assert {each.kind for each in result.done} == set(KINDS[transport])
    assert result.comparison.forwarded > 15
    assert result.comparison.differences == (), result.log
