"""What a call leaves behind in the worker process: nothing. bench/memory.py does the same for as long as one likes."""

import pytest

from bench.memory import NEVER, PROBE, growth_per_call, rounds
from devtools.azurite import Azurite
from devtools.simulator import Simulator
from tests.stack import running

WARM_UP, CALLS = 1000, 1500
LEAK_OF_THE_RUNTIME = 2048
"""Bytes a call: what azure-functions-runtime 1.3.0 keeps of each request where nobody lets go of it."""


@pytest.mark.timeout(300)
async def test_memory_stays_flat(azurite: Azurite, prefix: str) -> None:
    with Simulator.start(keep_account=False) as simulator:
        async with running(azurite, simulator, prefix, app=PROBE, TOLLGATE_ROLLUP_SCHEDULE=NEVER) as stack:
            before, after = [held async for held in rounds(stack, (WARM_UP, CALLS))]
    assert after.failed == 0
    assert after.references == before.references == 0
    assert after.tasks <= before.tasks
    assert growth_per_call(before, after) < LEAK_OF_THE_RUNTIME * 2 / 3  # the allocator takes a megabyte more or less
