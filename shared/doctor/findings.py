"""What a check finds, and what it is given to look at."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from shared.core.configuration import Configuration
from shared.settings import Settings
from shared.storage.account import Account


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody will be surprised."""
    ERROR = "error"
    """Calls, or their records, will fail."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    level: Level
    message: str
    remedy: str = ""
    """What to do; empty where nothing is to be done."""


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """A set-up, as far as it could be read; None where it could not, which is a finding of another check."""

    environ: Mapping[str, str]
    settings: Settings
    configuration: Configuration | None
    configuration_problems: tuple[str, ...]
    account: Account | None
    now: Callable[[], datetime]
    calls: bool
    """Whether deployments may be called: that is billed."""


type Check = Callable[[Examined], Awaitable[Sequence[Finding]]]


def ok(message: str) -> Finding:
    return Finding(level=Level.OK, message=message)


def warning(message: str, remedy: str) -> Finding:
    return Finding(level=Level.WARNING, message=message, remedy=remedy)


def error(message: str, remedy: str) -> Finding:
    return Finding(level=Level.ERROR, message=message, remedy=remedy)
