"""Usage that is told later."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.call_ids import opened_at
from shared.core.call_record import CallRecord, UsageSource
from shared.core.money.deferred import (
    Batch,
    BatchUsage,
    Deferred,
    LateUsage,
    Told,
    deferred_of,
    late_usage,
    parse_batch,
    told_late,
    unknown_record,
)
from shared.core.money.ledger import entry_of
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.kusto_rows import row_of
from shared.core.usage import TokenUsage
from tests.examples import closed_record, opened_record

ENDED = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
SILENT: dict[str, Any] = {"usage": None, "usage_source": None}
BATCH_CALL = closed_record(
    operation="batches.create", model="", model_served=None, response_id="batch_1a2b3c", deployment="", **SILENT
)
BACKGROUND_CALL = closed_record(operation="responses", response_id="resp_1a2b3c", **SILENT)

RECORDS: dict[str, tuple[CallRecord, str | None]] = {
    "a batch": (BATCH_CALL, "batches/batch_1a2b3c"),
    "a background response": (BACKGROUND_CALL, "responses/resp_1a2b3c"),
    "a response that has told it": (closed_record(operation="responses", response_id="resp_1"), None),
    "a response whose usage nobody told": (
        closed_record(operation="responses", response_id="resp_1", usage=None, usage_source=UsageSource.NONE), None,
    ),
    "a fine-tuning job": (
        closed_record(operation="fine_tuning.jobs.create", response_id="ftjob-1", **SILENT), "fine_tuning/jobs/ftjob-1",
    ),
    "a run of an evaluation": (
        closed_record(operation="evals.runs.create", response_id="evalrun_1", response_parent="eval_1", **SILENT),
        "evals/eval_1/runs/evalrun_1",
    ),
    "a run of a thread": (
        closed_record(operation="threads.create_and_run", response_id="run_1", response_parent="thread_1", **SILENT),
        "threads/thread_1/runs/run_1",
    ),
    "a run of nobody knows which thread": (
        closed_record(operation="threads.runs.create", response_id="run_1", **SILENT), None,
    ),
    "a batch that was refused": (
        closed_record(operation="batches.create", response_id="batch_1", status=400, **SILENT), None,
    ),
    "no object": (closed_record(operation="batches.create", response_id=None, **SILENT), None),
    "another operation": (closed_record(operation="files.create", response_id="file-1", **SILENT), None),
    "an unknown operation": (closed_record(operation="unknown", response_id="batch_1", **SILENT), None),
    "a call that has not ended": (opened_record(operation="batches.create"), None),
}  # fmt: skip


@pytest.mark.parametrize(("record", "path"), RECORDS.values(), ids=RECORDS.keys())
def test_what_tells_its_usage_later_is_known_by_the_call_that_made_it(record: CallRecord, path: str | None) -> None:
    made = deferred_of(record)
    assert (made and made.path) == path
    assert made is None or (made.client_id, made.call_id) == (record.client_id, record.call_id)


def batch(**fields: Any) -> bytes:
    told = {
        "id": "batch_1a2b3c",
        "status": "completed",
        "endpoint": "/v1/chat/completions",
        "completed_at": int(ENDED.timestamp()),
    }
    return json.dumps(told | fields).encode()


def line(model: str = "gpt-4o-2024-11-20", status: int = 200, **usage: int) -> bytes:
    body = {"id": "chatcmpl-1", "model": model, "choices": [], "usage": usage or None}
    return json.dumps({"custom_id": "1", "response": {"status_code": status, "body": body}, "error": None}).encode()


def made() -> Deferred:
    found = deferred_of(BATCH_CALL)
    assert found
    return found


def entries(*lines: bytes, **fields: Any) -> list[Any]:
    told = parse_batch(batch(**fields))
    usage = BatchUsage(told)
    for each in lines:
        usage.add(each)
    return [entry_of(record) for record in usage.records(made(), told)]


def test_a_batch_is_a_ledger_line_for_each_model_in_the_hour_in_which_it_ended() -> None:
    unknown, first, second = entries(
        line(prompt_tokens=10, completion_tokens=5),
        line("o3", prompt_tokens=1, completion_tokens=1),
        line(prompt_tokens=20, completion_tokens=7),
        line(status=429, prompt_tokens=99),
        b'{"response":null,"error":{"code":"batch_expired"}}',
        b"no json",
        line(),
    )
    assert (first.client_id, first.model_served, first.input_tokens, first.output_tokens) == (
        "team-blue", "gpt-4o-2024-11-20", 30, 12,
    )  # fmt: skip
    assert (first.hour, first.operation, first.tier, first.usage_source) == (
        "2026112203", "batches", "batch", UsageSource.PROVIDER,
    )  # fmt: skip
    assert (second.model_served, second.input_tokens, second.cached_input_tokens) == ("o3", 1, None)
    assert unknown == entry_of(unknown_record(made())), "of lines that cannot be read, or do not say, it is not known"
    assert len({first.call_id, second.call_id, unknown.call_id, made().call_id}) == 4


def test_long_lines_of_a_batch_are_a_ledger_line_of_their_own() -> None:
    """Guards that they are charged as long calls are, and not with the others' sum."""
    short, long = entries(*(line(prompt_tokens=n) for n in (272_000, 272_001, 200_000, 300_000)))
    assert (short.tier, short.input_tokens) == ("batch", 472_000)
    assert (long.tier, long.input_tokens) == ("batch/long", 572_001)
    assert short.call_id != long.call_id


def test_what_failed_in_a_batch_is_no_unknown_usage() -> None:
    (entry,) = entries(line(prompt_tokens=10), line(status=429), b'{"response":null,"error":{"code":"batch_expired"}}')
    assert entry.input_tokens == 10


@given(st.permutations([line(prompt_tokens=n, completion_tokens=1) for n in range(4)]))
def test_reading_a_batch_again_gives_the_same_lines_under_the_same_ids(lines: list[bytes]) -> None:
    """Guards that a batch is charged once."""
    assert entries(*lines) == entries(*reversed(lines))


def test_responses_and_embeddings_of_batches_are_read_in_their_own_words() -> None:
    body = {"id": "resp_1", "model": "gpt-5", "status": "completed", "usage": {"input_tokens": 3, "output_tokens": 4}}
    said = json.dumps({"response": {"status_code": 200, "body": body}}).encode()
    (entry,) = entries(said, endpoint="/v1/responses")
    assert (entry.model_served, entry.input_tokens, entry.output_tokens) == ("gpt-5", 3, 4)
    (entry,) = entries(line("text-embedding-3-small", prompt_tokens=8), endpoint="/v1/embeddings")
    assert (entry.input_tokens, entry.output_tokens) == (8, None)
    (entry,) = entries(line(prompt_tokens=8), endpoint="/chat/completions")
    assert entry.input_tokens == 8


def test_a_batch_goes_on_until_it_has_ended_somehow() -> None:
    for status in ("validating", "in_progress", "finalizing", "cancelling"):
        assert not parse_batch(batch(status=status)).has_ended
    for status in ("completed", "failed", "expired", "cancelled"):
        assert parse_batch(batch(status=status)).has_ended


def test_a_batch_that_is_gone_is_unknown_usage() -> None:
    entry = entry_of(unknown_record(made()))
    assert (entry.usage_source, entry.input_tokens, entry.hour) == (UsageSource.NONE, None, "2026112112")


def made_by(operation: str) -> Deferred:
    found = deferred_of(closed_record(operation=operation, response_id="o_1", response_parent="p_1", **SILENT))
    assert found
    return found


def told_by(operation: str, **body: Any) -> Told | None:
    made = made_by(operation)
    assert made.kind.read
    return made.kind.read(made, json.dumps({"id": "o_1", "model": "gpt-4o-mini-2024-07-18"} | body).encode())


OBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "a job that goes on": ("fine_tuning.jobs.create", {"status": "running", "trained_tokens": None}),
    "a run that goes on": ("threads.runs.create", {"status": "requires_action", "usage": None}),
    "an evaluation that goes on": ("evals.runs.create", {"status": "in_progress"}),
}


@pytest.mark.parametrize(("operation", "body"), OBJECTS.values(), ids=OBJECTS.keys())
def test_what_goes_on_has_nothing_to_tell_yet(operation: str, body: dict[str, Any]) -> None:
    assert told_by(operation, **body) is None


def test_a_fine_tuning_job_is_a_ledger_line_of_the_tokens_that_it_trained_on() -> None:
    told = told_by(
        "fine_tuning.jobs.create", status="succeeded", trained_tokens=5_768, finished_at=int(ENDED.timestamp())
    )
    assert told
    (entry,) = map(entry_of, told.records)
    assert (entry.client_id, entry.operation, entry.tier, entry.hour) == (
        "team-blue", "fine_tuning", "training", "2026112203",
    )  # fmt: skip
    assert (entry.model_served, entry.input_tokens, entry.output_tokens) == ("gpt-4o-mini-2024-07-18", 5_768, None)
    assert told == told_by(
        "fine_tuning.jobs.create", status="succeeded", trained_tokens=5_768, finished_at=int(ENDED.timestamp())
    ), "asked again it is the same line"


def test_a_run_of_an_evaluation_is_a_ledger_line_for_each_model() -> None:
    usage = [
        {"model_name": name, "invocation_count": 3, "prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 4}
        for name in ("gpt-4o", "o3")
    ]
    told = told_by("evals.runs.create", status="completed", per_model_usage=usage)
    assert told
    lines = [entry_of(record) for record in told.records]
    assert [(each.model_served, each.input_tokens, each.cached_input_tokens, each.output_tokens) for each in lines] == [
        ("gpt-4o", 9, 4, 2), ("o3", 9, 4, 2),
    ]  # fmt: skip
    assert len({each.call_id for each in lines}) == 2


def test_a_run_of_a_thread_tells_the_usage_of_the_call_that_made_it() -> None:
    told = told_by("threads.runs.create", status="expired", usage={"prompt_tokens": 20, "completion_tokens": 10})
    usage = TokenUsage(input_tokens=20, output_tokens=10)
    assert told == Told(
        late=LateUsage(usage_source=UsageSource.PROVIDER, usage=usage, model_served="gpt-4o-mini-2024-07-18")
    )


def test_what_has_ended_and_does_not_say_what_it_used_is_unknown_usage() -> None:
    for operation, status in (("fine_tuning.jobs.create", "canceled"), ("evals.runs.create", "failed")):
        told = told_by(operation, status=status)
        assert told == made_by(operation).kind.unknown(made_by(operation))
        assert [record.usage_source for record in told.records] == [UsageSource.NONE]
    told = told_by("threads.runs.create", status="failed")
    assert told
    assert told.late
    assert told.late.usage_source is UsageSource.NONE


def test_a_background_response_tells_its_usage_once_it_has_ended() -> None:
    told: dict[str, Any] = {"id": "resp_1", "status": "in_progress", "model": "gpt-5", "usage": None}
    assert late_usage(json.dumps(told).encode()) is None
    told |= {"status": "completed", "usage": {"input_tokens": 3, "output_tokens": 4}}
    late = late_usage(json.dumps(told).encode())
    assert late
    assert (late.usage_source, late.usage) == (UsageSource.PROVIDER, TokenUsage(input_tokens=3, output_tokens=4))
    assert late.tier == ""
    for tier, kept in (("priority", "priority"), ("default", "")):
        late = late_usage(json.dumps(told | {"service_tier": tier}).encode())
        assert late
        assert late.tier == kept, "what it costs depends on the tier that served it"
    long = late_usage(json.dumps(told | {"usage": {"input_tokens": 300_000, "output_tokens": 4}}).encode())
    assert long
    assert long.tier == "long"
    assert late_usage(json.dumps(told).encode(), "flex") == msgspec.structs.replace(late, tier="flex")
    told |= {"status": "failed", "usage": None}
    late = late_usage(json.dumps(told).encode())
    assert late
    assert (late.usage_source, late.usage) == (UsageSource.NONE, TokenUsage())


def test_a_background_response_costs_what_the_tier_does_that_served_it_and_not_that_was_asked() -> None:
    """Guards that `priority`, asked for and not had, is not charged; and that what says nothing of it keeps what was asked."""
    asked = closed_record(operation="responses", response_id="resp_1", tier="flex", **SILENT)
    made = deferred_of(asked)
    assert made
    usage = {"input_tokens": 300_000, "output_tokens": 4}
    for told, tier in (
        ({}, "flex/long"),
        ({"service_tier": "default"}, "long"),
        ({"service_tier": "flex"}, "flex/long"),
    ):
        body = {"id": "resp_1", "status": "completed", "usage": usage, **told}
        assert made.kind.read
        answer = made.kind.read(made, json.dumps(body).encode())
        assert answer
        assert answer.late
        assert (answer.late.tier, told_late(asked, answer.late, ENDED).tier) == (tier, tier)


def test_the_line_of_a_call_that_tells_later_says_nothing_of_its_tier_until_then() -> None:
    """Guards that a record that comes again, or is replayed, does not take the tier back that was told with the usage."""
    asked = closed_record(operation="responses", response_id="resp_1", tier="flex", **SILENT)
    assert entry_of(asked).tier is None
    assert row_of(ArchivedCall(record=asked, request=b"", response=b"")).tier is None
    late = LateUsage(usage_source=UsageSource.PROVIDER, usage=TokenUsage(input_tokens=300_000), tier="flex/long")
    assert entry_of(told_late(asked, late, ENDED)).tier == "flex/long"


@pytest.mark.parametrize("instant", [int(ENDED.timestamp()) * 1000, 10**30, -1, 0])
def test_an_end_at_no_time_is_none(instant: int) -> None:
    """Guards the usage of all that is asked after it: an error here would end the run, each time."""
    told = told_by("fine_tuning.jobs.create", status="succeeded", trained_tokens=7, finished_at=instant)
    assert told
    assert told.records[0].opened_at == opened_at(made_by("fine_tuning.jobs.create").call_id)
    assert Batch(status="completed", completed_at=instant).ended_at is None


def test_a_model_that_is_told_twice_is_added_up() -> None:
    """Guards that the second is not taken for the first come again, whose line it would replace."""
    usage = [{"model_name": "gpt-4o", "prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 4}] * 2
    told = told_by("evals.runs.create", status="completed", per_model_usage=usage)
    assert told
    [line] = [entry_of(record) for record in told.records]
    assert (line.input_tokens, line.cached_input_tokens, line.output_tokens) == (18, 8, 4)


def test_what_is_told_late_is_a_later_account_of_the_same_call() -> None:
    """Guards that Data Explorer, where the later account of a call counts, has what the ledger has."""
    late = LateUsage(usage_source=UsageSource.PROVIDER, usage=TokenUsage(input_tokens=3), tier="priority")
    record = told_late(BACKGROUND_CALL, late, ENDED)
    assert BACKGROUND_CALL.closed_at
    assert record.closed_at == ENDED > BACKGROUND_CALL.closed_at
    assert (record.call_id, record.model_served) == (BACKGROUND_CALL.call_id, BACKGROUND_CALL.model_served)
    assert (record.usage, record.usage_source, record.tier) == (late.usage, late.usage_source, late.tier)
    assert deferred_of(record) is None, "it is not asked again"
