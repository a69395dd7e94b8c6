"""Whether what is kept is what was recorded: three accounts of a day's calls, held against each other.

Rule: chain, ledger and archive each say which calls there were, and the first two with which digest. What one lacks or has
otherwise is a finding; so is a chain that does not hold together. What is not settled yet is counted, and is no finding.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from enum import StrEnum

import msgspec

from shared.core.call_ids import hour_of
from shared.core.money.ledger import UsageEntry
from shared.core.recording.chain import Chain


class Kind(StrEnum):
    """What is the matter."""

    MISSING = "missing"
    ALTERED = "altered"
    EXTRA = "extra"
    BROKEN = "broken"
    """The chain: a line was altered, removed, added or moved."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it was recorded."""

    kind: Kind
    where: str
    """`archive`, `ledger` or `chain`."""
    day: date
    client_id: str | None
    """None where only the object's name is known."""
    what: str
    """A call id, or the number of a line."""


class Object(msgspec.Struct, frozen=True):
    """An archive object as it is. No `sha256`: it cannot be read, or its bodies are not those of its head."""

    sha256: str | None


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one UTC day. `entries` and `objects` are by call id, chains by client id."""

    day: date
    entries: Mapping[str, UsageEntry]
    chains: Mapping[str, Chain]
    objects: Mapping[str, Object]
    unsettled: frozenset[str]
    """The hours (`YYYYMMDDHH`) that are not over, or wait to be chained."""
    is_whole: bool
    """Whether every client's calls are in it, so that objects of nobody's are extra."""


def findings(day: Day) -> Iterable[Finding]:
    """What is wrong with a day."""
    for client_id, chain in day.chains.items():
        for number in chain.breaks:
            yield Finding(kind=Kind.BROKEN, where="chain", day=day.day, client_id=client_id, what=f"line {number}")
        for call_id in chain.links.keys() - day.entries.keys():
            yield _of_call(day, Kind.MISSING, "ledger", call_id, client_id)
    for entry in day.entries.values():
        if entry.archive_sha256:
            yield from _of_entry(day, entry)
    known = day.entries.keys() | {call_id for chain in day.chains.values() for call_id in chain.links}
    for call_id in sorted(day.objects.keys() - known) if day.is_whole else ():
        if not _is_unsettled(day, call_id):
            yield _of_call(day, Kind.EXTRA, "archive", call_id, None)


def is_settled(day: Day, call_id: str) -> bool:
    """Whether the call's hour is over and chained."""
    return not _is_unsettled(day, call_id)


def _of_entry(day: Day, entry: UsageEntry) -> Iterable[Finding]:
    chain = day.chains.get(entry.client_id)
    link = chain.links.get(entry.call_id) if chain else None
    if is_settled(day, entry.call_id):
        if link is None:
            yield _of_call(day, Kind.MISSING, "chain", entry.call_id, entry.client_id)
        elif link.sha256 != entry.archive_sha256:
            yield _of_call(day, Kind.ALTERED, "ledger", entry.call_id, entry.client_id)
    found = day.objects.get(entry.call_id)
    if found is None:
        yield _of_call(day, Kind.MISSING, "archive", entry.call_id, entry.client_id)
    elif found.sha256 not in {entry.archive_sha256, link.sha256 if link else None} - {None}:
        yield _of_call(day, Kind.ALTERED, "archive", entry.call_id, entry.client_id)


def _is_unsettled(day: Day, call_id: str) -> bool:
    try:
        return hour_of(call_id) in day.unsettled
    except ValueError:
        return False  # no name that we would have given


def _of_call(day: Day, kind: Kind, where: str, call_id: str, client_id: str | None) -> Finding:
    return Finding(kind=kind, where=where, day=day.day, client_id=client_id, what=call_id)
