"""Verifying: reads a range of days and holds archive, ledger and chains against each other (core/recording/verification.py).

Rule: it reads, and changes nothing. Every object is read to its last byte; one day is held in memory at a time, as digests.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, date, datetime, timedelta

import msgspec
from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError

from shared.core.money.ledger import Span, UsageEntry
from shared.core.recording import archive, verification
from shared.core.recording.chain import Chain
from shared.core.recording.verification import Day, Finding, Object
from shared.recording.chains import Chains
from shared.sinks.archive import Archive
from shared.sinks.ledger import Ledger

_AT_ONCE = 4
"""Objects that are read at the same time, of each a piece in memory."""


class ChainEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The last line's digest of a chain: who keeps it elsewhere can prove later what was before it."""

    client_id: str
    day: date
    sha256: str
    calls: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of verifying."""

    calls: int = 0
    """That are in the ledger and ought to be archived."""
    purged: int = 0
    """Among them: those whose content was removed on demand."""
    unsettled: int = 0
    """Among them: those of hours that are not chained yet."""
    findings: tuple[Finding, ...] = ()
    chains: tuple[ChainEnd, ...] = ()

    def __add__(self, other: "Report") -> "Report":
        return Report(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


class Kept(msgspec.Struct, frozen=True):
    """Where a Storage account keeps calls."""

    archive: Archive
    ledger: Ledger
    chains: Chains


async def verify(kept: Kept, first: date, last: date, *, client_id: str | None, now: datetime) -> Report:
    """Verifies the calls that were opened from `first` to `last`, UTC days, both included, of one client or of all."""
    report = Report()
    for number in range((last - first).days + 1):
        report += _report(await _day(kept, first + timedelta(days=number), client_id, now))
    return report


async def _day(kept: Kept, day: date, client_id: str | None, now: datetime) -> Day:
    hours = [f"{day:%Y%m%d}{hour:02}" for hour in range(24)]
    waiting = {mark.period for mark in (*await kept.ledger.unchained(), *await kept.ledger.dirty(Span.HOUR))}
    this_hour = f"{now.astimezone(UTC):%Y%m%d%H}"
    clients = [client_id] if client_id is not None else [each async for each in kept.chains.clients(day)]
    chains: dict[str, Chain] = {each: await kept.chains.read(each, day) for each in clients}
    entries: dict[str, UsageEntry] = {}
    for hour in hours:
        async for entry in kept.ledger.entries(hour):
            if client_id in (None, entry.client_id):
                entries[entry.call_id] = entry
    wanted = entries.keys() | {call_id for chain in chains.values() for call_id in chain.links}
    names = {each async for each in kept.archive.call_ids(day)}
    objects = {name: Object(None) for name in names - wanted}
    objects |= {call_id: found async for call_id, found in _read(kept.archive, names & wanted)}
    return Day(
        day=day,
        entries=entries,
        chains=chains,
        objects=objects,
        unsettled=frozenset(hour for hour in hours if hour in waiting or hour >= this_hour),
        is_whole=client_id is None,
    )


async def _read(kept: Archive, call_ids: Iterable[str]) -> AsyncIterator[tuple[str, Object]]:
    async def read(call_id: str) -> tuple[str, Object]:
        reading = archive.Reading()
        try:
            async for piece in kept.pieces(call_id):
                reading.feed(piece)
            return call_id, Object(reading.end().sha256)
        except (ValueError, ResourceNotFoundError):
            return call_id, Object(None)
        except ResourceModifiedError:
            return await read(call_id)  # it was put anew meanwhile

    ordered = sorted(call_ids)
    for start in range(0, len(ordered), _AT_ONCE):
        for found in await asyncio.gather(*map(read, ordered[start : start + _AT_ONCE])):
            yield found


def _report(day: Day) -> Report:
    archived = [entry for entry in day.entries.values() if entry.archive_sha256]
    purged = {link.call_id for chain in day.chains.values() for link in chain.links.values() if link.is_purged}
    return Report(
        calls=len(archived),
        purged=sum(entry.call_id in purged for entry in archived),
        unsettled=sum(not verification.is_settled(day, entry.call_id) for entry in archived),
        findings=tuple(verification.findings(day)),
        chains=tuple(
            ChainEnd(client_id=client_id, day=day.day, sha256=chain.end, calls=len(chain.links))
            for client_id, chain in sorted(day.chains.items())
            if chain.links
        ),
    )
