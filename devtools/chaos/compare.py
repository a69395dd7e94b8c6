"""Four accounts of the same calls, compared. The rule: pure; a difference is a sentence that names its call.

a call that a client saw complete     one ledger entry, completed, with the provider's tokens, and archived
a call that an upstream was asked     one ledger entry, and where it has ended an archived object with the same bytes
any other call                        at most one ledger entry
an archived object                    one row of analysis, with the ledger's tokens
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta

import msgspec

from devtools.chaos.accounts import Analysed, Archived, Kept
from devtools.chaos.calls import Told
from devtools.chaos.faults import Done
from devtools.chaos.plan import Kind
from devtools.simulator.account import Entry
from devtools.simulator.tokens import Totals
from shared.core.call_record import Outcome, UsageSource
from shared.core.money.ledger import UsageEntry

AFTERLIFE = timedelta(seconds=35)
"""For how long a call goes on whose client has gone: it is drained for 10 s at the most, and then the transport and the shelf
are tried, for 10 s each."""

_KILLS = frozenset({Kind.WORKER_KILLED, Kind.HOST_KILLED})
_OUTAGES = frozenset({Kind.STORAGE_KILLED, Kind.STORAGE_STOPPED})
_PROVIDERS = frozenset({UsageSource.PROVIDER, UsageSource.DRAINED})
_SUMS = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "request_bytes", "response_bytes")


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What came out. Each `lost`, `doubled`, ... is the request ids concerned."""

    told: Counter[str]
    told_meanwhile: Counter[str]
    """Of those calls, the ones that began while the storage was away."""
    forwarded: int
    asked: int
    """Requests to upstreams: a call may ask several."""
    outcomes: Counter[str]
    archived: int
    analysed: int
    ingested: int
    """Rows of analysis, before those that came twice are told apart."""
    sources: Counter[str]
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    wrong: tuple[str, ...]
    incomplete: Counter[str]
    """Incomplete calls by what explains them."""
    estimated: Counter[str]
    """Calls whose tokens are estimated, likewise."""
    differences: tuple[str, ...]
    """Everything that is not explained, the above among it."""


class _Accounts:
    """The same calls, by request id."""

    def __init__(
        self,
        told: Iterable[Told],
        served: Iterable[Entry],
        kept: Kept,
        done: Sequence[Done],
        unrecorded: Collection[str],
    ) -> None:
        self.told = {each.call.request_id: each for each in told}
        self.served: Mapping[str, list[Entry]] = _grouped((each.client_request_id or "", each) for each in served)
        self.rows: Mapping[str, list[UsageEntry]] = _grouped((each.end_user or "", each) for each in kept.ledger)
        self.archived: Mapping[str, list[Archived]] = _grouped((each.record.call_id, each) for each in kept.archive)
        self.analysed = {each.call_id: each for each in kept.analysis}
        self.kept, self.done, self.unrecorded = kept, done, unrecorded


def compare(
    told: Iterable[Told], served: Iterable[Entry], kept: Kept, done: Sequence[Done], unrecorded: Collection[str] = ()
) -> Comparison:
    """Compares what clients were told, what the simulator served and what was kept. `done` are the faults, `unrecorded` the ids
    of calls whose end the gateway says that it could not record."""
    accounts = _Accounts(told, served, kept, done, unrecorded)
    ids = sorted(accounts.told)
    lost = tuple(each for each in ids if _is_lost(accounts, each))
    doubled = tuple(each for each in ids if _is_doubled(accounts, each))
    rows = {each: accounts.rows[each][0] for each in ids if accounts.rows.get(each)}
    wrong = {each: reason for each, row in rows.items() if (reason := _wrong(accounts, each, row))}
    incomplete = {
        each: _why_incomplete(accounts, each, row) for each, row in rows.items() if row.outcome is Outcome.INCOMPLETE
    }
    estimated = {
        each: _why_estimated(accounts.told[each])
        for each, row in rows.items()
        if row.usage_source is UsageSource.ESTIMATED
    }
    odd = {each: reason for each, row in rows.items() if (reason := _odd(accounts, each, row))}
    differences = [
        *(f"{each}: lost; told {_say(accounts.told[each])}" for each in lost),
        *(f"{each}: {len(accounts.rows[each])} ledger entries" for each in doubled),
        *(f"{each}: {reason}" for each, reason in (*wrong.items(), *odd.items())),
        *(f"{each}: incomplete; told {_say(accounts.told[each])}" for each, why in incomplete.items() if not why),
        *(f"{each}: estimated; told {_say(accounts.told[each])}" for each, why in estimated.items() if not why),
        *_differing_totals(kept),
    ]
    return Comparison(
        told=Counter(map(_category, accounts.told.values())),
        told_meanwhile=Counter(_category(each) for each in accounts.told.values() if _began_in_outage(each, done)),
        forwarded=len(accounts.served),
        asked=sum(map(len, accounts.served.values())),
        outcomes=Counter(str(row.outcome) for row in kept.ledger),
        archived=len(kept.archive),
        analysed=len(kept.analysis),
        ingested=kept.ingested,
        sources=Counter(str(row.usage_source) for row in kept.ledger),
        lost=lost,
        doubled=doubled,
        wrong=tuple(wrong),
        incomplete=Counter(why or "not explained" for why in incomplete.values()),
        estimated=Counter(why or "not explained" for why in estimated.values()),
        differences=tuple(differences),
    )


def _grouped[T](pairs: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    groups = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return dict(groups)


def _is_lost(accounts: _Accounts, request_id: str) -> bool:
    must_be = request_id in accounts.served or accounts.told[request_id].complete
    return must_be and not accounts.rows.get(request_id)


def _is_doubled(accounts: _Accounts, request_id: str) -> bool:
    rows = accounts.rows.get(request_id, [])
    return len(rows) > 1 or any(len(accounts.archived.get(row.call_id, [])) > 1 for row in rows)


def _wrong(accounts: _Accounts, request_id: str, row: UsageEntry) -> str | None:
    """What is wrong with a row's token counts."""
    served = accounts.served.get(request_id, [])
    last = served[-1] if served else None
    if row.usage_source in _PROVIDERS:
        if last is None or last.usage is None:
            return "tokens of a call that was not served"
        due = Totals.read(last.usage)
        counted = Totals(
            input=row.input_tokens or 0,
            cached=row.cached_input_tokens or 0,
            output=row.output_tokens or 0,
            reasoning=row.reasoning_tokens or 0,
        )
        return None if counted == due else f"{counted} counted, {due} served"
    was_told_usage = last and last.completed and last.usage and not (last.fault and last.fault.no_usage)
    if row.outcome is Outcome.COMPLETED and was_told_usage:
        return f"tokens are {row.usage_source}, though the provider told them"
    return None


def _odd(accounts: _Accounts, request_id: str, row: UsageEntry) -> str | None:
    """What else is wrong with a row."""
    objects = accounts.archived.get(row.call_id, [])
    analysed = accounts.analysed.get(row.call_id)
    return _odd_outcome(accounts, request_id, row) or _odd_analysis(analysed, row, is_archived=bool(objects))


def _odd_outcome(accounts: _Accounts, request_id: str, row: UsageEntry) -> str | None:
    told, served = accounts.told[request_id], accounts.served.get(request_id, [])
    objects = accounts.archived.get(row.call_id, [])
    if row.outcome is None:
        return "still open"
    if row.outcome is Outcome.REJECTED:
        return "forwarded, yet rejected" if served else None
    if told.complete and row.outcome is not Outcome.COMPLETED:
        return f"seen complete by its client, {row.outcome} in the ledger"
    if row.outcome is Outcome.INCOMPLETE:
        return "archived, yet incomplete" if objects else None
    if not objects:
        return f"{row.outcome}, and not archived"
    return _odd_object(objects[0], row, served)


def _odd_analysis(found: Analysed | None, row: UsageEntry, *, is_archived: bool) -> str | None:
    """What is wrong with a call's row in Data Explorer, where each call is that has ended."""
    if found is None:
        return "archived, and not in Data Explorer" if is_archived else None
    if not is_archived:
        return "in Data Explorer, and not archived"
    there = (found.outcome, found.usage_source, found.input_tokens, found.output_tokens)
    due = (row.outcome, row.usage_source, row.input_tokens, row.output_tokens)
    return None if there == due else f"{there} in Data Explorer, {due} in the ledger"


def _odd_object(kept: Archived, row: UsageEntry, served: Sequence[Entry]) -> str | None:
    if (kept.record.outcome, kept.record.usage_source) != (row.outcome, row.usage_source):
        archived = f"{kept.record.outcome} ({kept.record.usage_source})"
        return f"{row.outcome} ({row.usage_source}) in the ledger, {archived} in the archive"
    if kept.request_sha256 != kept.record.request_sha256 or kept.response_sha256 != kept.record.response_sha256:
        return "archived bytes are not those of the record"
    was_read = row.usage_source is not UsageSource.ESTIMATED  # to its end: a stream is stopped when its client has gone
    if was_read and served and served[-1].completed and served[-1].status == row.status == 200:
        return None if kept.response_sha256 == served[-1].response_sha256 else "archived bytes are not those served"
    return None


def _why_incomplete(accounts: _Accounts, request_id: str, row: UsageEntry) -> str | None:
    told = accounts.told[request_id]
    until = told.ended + (AFTERLIFE if told.hung_up else timedelta())
    meanwhile = [each for each in accounts.done if row.opened_at <= each.ended and each.began <= until]
    for fault in meanwhile:
        if fault.kind in _KILLS:
            return str(fault.kind)
    if told.hung_up and any(fault.kind in _OUTAGES for fault in meanwhile):
        return "could not be recorded, and nobody was there to be told"
    if told.unrecorded:
        return "told that it could not be recorded"
    # Inside a compressed stream nothing can be told.
    return "broken off, for it could not be recorded" if row.call_id in accounts.unrecorded else None


def _why_estimated(told: Told) -> str | None:
    if told.hung_up:
        return "its client hung up"
    return "its client gave up" if told.gave_up else None


def _differing_totals(kept: Kept) -> Iterable[str]:
    if kept.restless:
        yield f"never quiet: {kept.restless}"
    for finding in kept.findings:
        yield f"verify: {finding.kind} in the {finding.where}: {finding.what}"
    if kept.quarantined:
        yield f"{kept.quarantined} events quarantined"
    yield from _unknown(kept)
    counted = [entry for entry in kept.ledger if entry.outcome is not Outcome.REJECTED]
    due = {"calls": len(counted)} | {name: sum(getattr(row, name) or 0 for row in kept.ledger) for name in _SUMS}
    for name, amount in due.items():
        if kept.usage[name] != amount:
            yield f"usage report: {kept.usage[name]} {name}; the ledger has {amount}"


def _unknown(kept: Kept) -> Iterable[str]:
    """What the ledger does not have, and what is there twice though it is told apart."""
    known = {entry.call_id for entry in kept.ledger}
    for each in kept.archive:
        if each.record.call_id not in known:
            yield f"{each.record.call_id}: archived, and not in the ledger"
    for call_id, count in Counter(each.call_id for each in kept.analysis).items():
        if call_id not in known or count > 1:
            yield f"{call_id}: {count} rows of analysis; {int(call_id in known)} in the ledger"


def _began_in_outage(told: Told, done: Sequence[Done]) -> bool:
    return any(fault.kind in _OUTAGES and fault.began <= told.began <= fault.ended for fault in done)


def _category(told: Told) -> str:
    if told.complete:
        return "complete"
    if told.hung_up:
        return "hung up"
    if told.status is None:
        return "no answer"
    return "broken off" if told.status == 200 else str(told.status)


def _say(told: Told) -> str:
    return f"{_category(told)} from {told.began:%H:%M:%S.%f} to {told.ended:%H:%M:%S.%f}: {told.error}"
