"""`make chaos` itself: a seed is a plan, and each kind of difference is noticed when there is one."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from devtools.chaos.accounts import Analysed, Archived, Kept
from devtools.chaos.calls import Told
from devtools.chaos.compare import Comparison, compare
from devtools.chaos.faults import Done
from devtools.chaos.plan import KINDS, MOST_FAULTS, Fault, Kind, Transport, outage, plan
from devtools.simulator.account import Entry
from shared.core.call_record import Outcome, UsageSource
from shared.core.money.ledger import COUNTERS, UsageEntry, entry_of, roll_up
from shared.core.recording import verification
from shared.core.recording.verification import Finding
from tests.examples import NOON, closed_record, opened_record

PLANNED = plan(1, 1, Transport.STORAGE_QUEUE).calls[0]
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
RECORD = closed_record(end_user=PLANNED.request_id)
OPEN = opened_record(end_user=PLANNED.request_id)
TOLD = Told(call=PLANNED, began=NOON, ended=NOON + timedelta(seconds=1), status=200, complete=True)
BROKEN_OFF = msgspec.structs.replace(TOLD, complete=False)
INCOMPLETE = msgspec.structs.replace(entry_of(OPEN), outcome=Outcome.INCOMPLETE, usage_source=UsageSource.NONE)
KILL = Done(kind=Kind.WORKER_KILLED, began=NOON, ended=NOON + timedelta(milliseconds=50))
SERVED = Entry(
    sequence=1, at=datetime.now(UTC), resource="east", family="openai", method="POST", path="/", api_version=None,
    request_id="r-1", client_request_id=PLANNED.request_id, status=200, usage=USAGE, completed=True, ended=True,
    response_sha256=RECORD.response_sha256,
)  # fmt: skip
ALTERED = Finding(kind=verification.Kind.ALTERED, where="archive", day=NOON.date(), client_id=None, what="x")
OBJECT = Archived(record=RECORD, request_sha256=RECORD.request_sha256, response_sha256=str(RECORD.response_sha256))
ROW = Analysed(
    call_id=RECORD.call_id,
    outcome=str(RECORD.outcome),
    usage_source=RECORD.usage_source,
    input_tokens=RECORD.usage.input_tokens if RECORD.usage else None,
    output_tokens=RECORD.usage.output_tokens if RECORD.usage else None,
)


def kept(*entries: UsageEntry, archive: Sequence[Archived] = (OBJECT,), **more: Any) -> Kept:
    """What the stores hold; the usage report agrees with the ledger."""
    hours = roll_up("2026112112", entries)
    usage = {name: sum(getattr(hour, name) for hour in hours) for name in COUNTERS}
    fields: dict[str, Any] = {"findings": (), "quarantined": 0, "usage": usage, "restless": None} | more
    rows = {"analysis": (ROW,) if archive else (), "ingested": len(archive)}
    return Kept(ledger=entries, archive=tuple(archive), **rows | fields)


def compared(kept: Kept, told: Told = TOLD, served: Entry = SERVED, done: Sequence[Done] = ()) -> Comparison:
    return compare([told], [served], kept, done)


def test_the_same_seed_is_the_same_plan_and_every_kind_of_fault_comes_up() -> None:
    for transport in Transport:
        assert plan(100, 7, transport) == plan(100, 7, transport)
        assert plan(100, 7, transport) != plan(100, 8, transport)
        assert {fault.kind for fault in plan(100, 7, transport).faults} == set(KINDS[transport])


def test_a_long_run_has_no_more_faults_than_leave_time_for_calls() -> None:
    assert len(plan(20_000, 7, Transport.STORAGE_QUEUE).faults) == MOST_FAULTS


def test_a_run_can_have_as_many_faults_as_are_asked_for() -> None:
    assert len(plan(1000, 7, Transport.EVENT_HUBS, faults=25).faults) == 25


def test_an_outage_is_the_same_calls_and_the_storage_gone_once() -> None:
    planned = plan(100, 7, Transport.STORAGE_QUEUE)
    fault = Fault(after=10, kind=Kind.STORAGE_KILLED, seconds=60)
    assert (outage(planned, 60).calls, outage(planned, 60).faults) == (planned.calls, (fault,))


def test_what_clients_were_told_while_the_storage_was_away_is_counted_apart() -> None:
    away = Done(kind=Kind.STORAGE_KILLED, began=NOON, ended=NOON)
    assert compared(kept(entry_of(RECORD)), done=[away]).told_meanwhile == {"complete": 1}
    assert compared(kept(entry_of(RECORD)), done=[KILL]).told_meanwhile == {}


def test_accounts_that_agree_differ_in_nothing() -> None:
    assert compared(kept(entry_of(RECORD))).differences == ()


def test_an_incomplete_entry_is_explained_by_a_kill_while_the_call_went_on() -> None:
    accounts = kept(INCOMPLETE, archive=())
    assert compared(accounts, BROKEN_OFF, done=[KILL]).incomplete == {"worker killed": 1}
    assert compared(accounts, BROKEN_OFF, done=[KILL]).differences == ()


def test_an_incomplete_entry_is_explained_by_a_gateway_that_says_that_it_could_not_record_its_end() -> None:
    found = compare([BROKEN_OFF], [SERVED], kept(INCOMPLETE, archive=()), (), [INCOMPLETE.call_id])
    assert (found.incomplete, found.differences) == ({"broken off, for it could not be recorded": 1}, ())


def test_an_estimate_is_explained_by_a_client_that_did_not_wait() -> None:
    source = UsageSource.ESTIMATED
    accounts = kept(
        msgspec.structs.replace(entry_of(RECORD), usage_source=source),
        archive=[msgspec.structs.replace(OBJECT, record=msgspec.structs.replace(RECORD, usage_source=source))],
        analysis=(msgspec.structs.replace(ROW, usage_source=source),),
    )
    cut = msgspec.structs.replace(SERVED, completed=False)
    left = msgspec.structs.replace(BROKEN_OFF, hung_up=True)
    assert compared(accounts, left, cut).estimated == {"its client hung up": 1}
    assert compared(accounts, left, cut).differences == ()
    assert any("estimated; told" in each for each in compared(accounts, BROKEN_OFF, cut).differences)


TWICE = msgspec.structs.replace(entry_of(RECORD), call_id="another")
OTHER_COUNT = msgspec.structs.replace(entry_of(RECORD), output_tokens=6)
DIFFERENCES = {
    "lost": (compared(kept(archive=())), "lost"),
    "doubled": (compared(kept(entry_of(RECORD), TWICE)), "2 ledger entries"),
    "wrong tokens": (compared(kept(OTHER_COUNT)), "counted"),
    "no tokens": (
        compared(kept(msgspec.structs.replace(entry_of(RECORD), usage_source=UsageSource.NONE))),
        "though the provider told",
    ),
    "not archived": (compared(kept(entry_of(RECORD), archive=())), "not archived"),
    "other bytes archived": (
        compared(kept(entry_of(RECORD), archive=[msgspec.structs.replace(OBJECT, response_sha256="0")])),
        "bytes",
    ),
    "archived only": (compared(kept(INCOMPLETE), BROKEN_OFF, done=[KILL]), "archived, yet incomplete"),
    "complete to its client": (compared(kept(INCOMPLETE, archive=()), done=[KILL]), "seen complete by its client"),
    "incomplete for no reason": (compared(kept(INCOMPLETE, archive=()), BROKEN_OFF), "incomplete; told"),
    "still open": (compared(kept(entry_of(OPEN), archive=()), BROKEN_OFF), "still open"),
    "another report": (compared(kept(entry_of(RECORD), usage=dict.fromkeys(COUNTERS, 0))), "usage report"),
    "altered": (compared(kept(entry_of(RECORD), findings=(ALTERED,))), "verify: altered in the archive: x"),
    "not in Data Explorer": (compared(kept(entry_of(RECORD), analysis=())), "not in Data Explorer"),
    "other tokens in Data Explorer": (
        compared(kept(entry_of(RECORD), analysis=(msgspec.structs.replace(ROW, output_tokens=6),))),
        "in Data Explorer, (",
    ),
    "in Data Explorer only": (
        compared(kept(INCOMPLETE, archive=(), analysis=(ROW,)), BROKEN_OFF, done=[KILL]),
        "in Data Explorer, and not archived",
    ),
    "twice in Data Explorer": (compared(kept(entry_of(RECORD), analysis=(ROW, ROW))), "2 rows of analysis"),
    "quarantined": (compared(kept(entry_of(RECORD), quarantined=1)), "quarantined"),
    "never quiet": (compared(kept(entry_of(RECORD), restless="1 on the shelf")), "never quiet"),
}


@pytest.mark.parametrize(("comparison", "words"), DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_a_difference_is_noticed(comparison: Comparison, words: str) -> None:
    assert any(words in each for each in comparison.differences), comparison.differences
