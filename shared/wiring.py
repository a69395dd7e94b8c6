"""The one set of parts that a process has, made on first use.

Rule: importing does nothing, and loads nothing that indexing does not need: the parts, and with them the Azure SDKs, come
with the first call. They are made within the event loop that uses them, and made again next time where that failed; so a
wrong setting or a storage account that is away shows on /health/ready and mends itself. Only this module reads the
environment.
"""

import asyncio
import logging
import os
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError

from shared.core.errors import NotReady
from shared.settings import Settings, SettingsInvalid, read_binding_settings

if TYPE_CHECKING:
    from shared.composition import Services

_log = logging.getLogger(__name__)


def now() -> datetime:
    """The one clock."""
    return datetime.now(UTC)


@cache
def settings_for_bindings() -> Settings:
    """The settings that triggers are declared with, each for itself, so that indexing never fails over a wrong one."""
    settings, problems = read_binding_settings(os.environ)
    if problems:
        _log.error("settings invalid", extra={"problems": problems})
    return settings


_making: "asyncio.Task[Services] | None" = None


async def services() -> "Services":
    """The parts of this process. Raises NotReady, with what to do, where they cannot be had."""
    global _making  # noqa: PLW0603 - one set of parts per process, made once
    if _making is None or (_making.done() and _making.exception() is not None):
        _making = asyncio.create_task(_make())
    try:
        return await asyncio.shield(_making)
    except SettingsInvalid as error:
        raise NotReady(f"The gateway's settings are invalid: {error}") from error
    except AzureError as error:
        raise NotReady("The gateway's storage account cannot be reached; try again later.") from error


async def _make() -> "Services":
    from shared.composition import services as made  # most of a second, for which indexing does not have to wait

    return await made(os.environ, now)
