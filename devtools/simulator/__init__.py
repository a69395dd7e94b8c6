"""A deterministic stand-in for OpenAI and Azure OpenAI that speaks the real wire.

The same request gets the same answer and the same token counts, whatever URL style, stream mode or gateway it came
through; only ids and times differ. An account of every call says what a gateway's ledger must add up to.
"""

from devtools.simulator.faults import Fault
from devtools.simulator.pacing import Pace
from devtools.simulator.server import Simulator
from devtools.simulator.settings import Settings

__all__ = ["Fault", "Pace", "Settings", "Simulator"]
