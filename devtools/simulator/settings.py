"""What one simulator is told at its start."""

import msgspec

from devtools.simulator.pacing import Pace


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a simulator; the defaults are for tests, which want it as fast as possible."""

    seed: int = 7
    pace: Pace = Pace()
    keys: frozenset[str] = frozenset()
    """The keys that are accepted; none named means any key that is not empty."""
    missing_models: frozenset[str] = frozenset({"missing-model"})
    background_ms: float = 150
    """How long a background response takes."""
    batch_ms: float = 150
    """How long a batch job takes."""
    keep_account: bool = True
