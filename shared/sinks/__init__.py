"""Sinks keep what the recorder hands them.

Rule: a sink that is handed an event twice ends as if handed it once. A new sink is one file and one name in composition.
"""

from collections.abc import Sequence
from typing import Protocol

from shared.core.recording.events import Record


class Forgetting(Protocol):
    """What can let go of calls."""

    async def forget(self, call_ids: Sequence[str], /) -> None:
        """Returns when nothing of these calls is kept any more. Raises whatever its store raises."""


class Sink(Protocol):
    """Keeps calls, each in the way of its own."""

    name: str

    async def write(self, events: Sequence[Record], /) -> None:
        """Returns when all are kept. Raises whatever its store raises; then some may be kept, and all may be sent again."""

    async def prepare(self) -> None:
        """Creates what is needed to write; does nothing where it exists."""

    async def close(self) -> None:
        """Gives back connections."""
