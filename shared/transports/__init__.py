"""Transports carry events from the gateway to the recorder.

Rule: `send` returns when the messages are durable, and not before. A new transport is one file and one name in TRANSPORTS.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol


class Transport(Protocol):
    """Carries messages, at least once, in any order."""

    max_message_bytes: int

    async def send(self, messages: Sequence[bytes], /) -> None:
        """Returns when every message is durable. Raises TransportDown where that cannot be had."""

    async def redeliver(self, deliver: Callable[[Sequence[bytes]], Awaitable[None]], /) -> int:
        """Hands over messages that the platform has given up on, and forgets them. Returns how many there were."""

    async def backlog(self) -> int | None:
        """About how many messages wait to be recorded; None: not known here. Raises TransportDown."""

    async def prepare(self) -> None:
        """Creates what is needed to send; does nothing where it exists."""

    async def close(self) -> None:
        """Gives back connections."""


class TransportDown(Exception):
    """The messages may or may not have been taken."""
