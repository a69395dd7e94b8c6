"""The doctor: looks at a set-up before traffic does, and says what is wrong with it and what to do.

Rule: a check is one function of a name in CHECKS; it tells findings and never raises for what it finds. What it makes to prove
a right it takes away again, and only `calls` costs money. What could not be read is the finding of the check that reads it; the
others then tell nothing.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

import msgspec

from shared.configuration_source import ConfigurationSource, origin_of
from shared.doctor import of_settings, of_stores, of_upstreams
from shared.doctor.findings import Check, Examined, Finding, Level
from shared.settings import Settings, SettingsInvalid, read_binding_settings
from shared.storage.account import Account, connect

CHECKS: Mapping[str, Check] = {
    "settings": of_settings.settings,
    "configuration": of_settings.configuration,
    "prices": of_settings.prices,
    "storage": of_stores.storage,
    "clock": of_stores.clock,
    "transport": of_stores.transport,
    "data-explorer": of_stores.data_explorer,
    "upstreams": of_upstreams.upstreams,
    "deployments": of_upstreams.deployments,
}

__all__ = ["CHECKS", "Examined", "Finding", "Level", "Told", "examine"]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A finding, and the check that it is of."""

    check: str
    level: Level
    message: str
    remedy: str


async def examine(
    environ: Mapping[str, str], now: Callable[[], datetime], *, calls: bool = False, only: Collection[str] = ()
) -> Sequence[Told]:
    """What is found of the set-up that these settings describe, in the order of CHECKS. `only`: these checks."""
    settings, _ = read_binding_settings(environ)
    account = _account(settings)
    async with contextlib.AsyncExitStack() as stack:
        if account is not None:
            stack.push_async_callback(account.close)
        source = await _configuration(settings.configuration, account, environ, now)
        examined = Examined(
            environ=environ,
            settings=settings,
            configuration=source.current if source else None,
            configuration_problems=source.status.problems if source else (),
            account=account,
            now=now,
            calls=calls,
        )
        wanted = {name: check for name, check in CHECKS.items() if not only or name in only}
        found = await asyncio.gather(*(check(examined) for check in wanted.values()))
    return [
        Told(check=name, level=each.level, message=each.message, remedy=each.remedy)
        for name, findings in zip(wanted, found, strict=True)
        for each in findings
    ]


async def _configuration(
    setting: str, account: Account | None, environ: Mapping[str, str], now: Callable[[], datetime]
) -> ConfigurationSource | None:
    """The document, read; None where it is in an account that cannot be had."""
    if account is None and setting.startswith("blob:"):
        return None
    source = ConfigurationSource(origin_of(setting, account.blobs if account else None), environ, now)
    await source.refresh()
    return source


def _account(settings: Settings) -> Account | None:
    try:
        return connect(settings)
    except SettingsInvalid:
        return None
