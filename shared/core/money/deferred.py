"""Usage that is told later, by the object that a call made: a batch, a background response, a run, a fine-tuning job.

Rule: what an object used is charged once, to the client for whom it was made. Each way of learning it gives the same ledger
fields under the same ids, so learning it again changes nothing.

Shapes: https://platform.openai.com/docs/api-reference/batch/object, .../batch/request-output, .../responses/object,
.../fine-tuning/object, .../evals/run-object and .../runs/object.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from shared.core.api.operations import CATALOGUE, Operation, UrlStyle
from shared.core.call_ids import mint, opened_at
from shared.core.call_record import CallRecord, Outcome, UsageSource
from shared.core.money.prices import BATCH, STANDARD_TIERS, TRAINING, with_length, without_length
from shared.core.usage import TokenUsage, parse_response
from shared.core.usage.wire import Count

_OPERATIONS = {operation.name: operation for operation in CATALOGUE}
_BY_PATH = {operation.path: operation for operation in CATALOGUE if operation.method == "POST"}
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class Deferred(msgspec.Struct, frozen=True, kw_only=True):
    """An object whose usage is still to be learnt, and the call that made it."""

    object_id: str
    call_id: str
    client_id: str
    cost_center: str
    operation: str
    model: str = ""
    upstream: str
    deployment: str | None = None
    region: str | None = None
    tier: str | None = None
    """As the call asked for it, or was answered at first."""
    api_version: str | None = None
    parent_id: str | None = None
    """The object that it stands below: a run's thread or evaluation."""
    told: str = ""
    """What it told and is not known to be recorded yet: a Told, as JSON."""

    @property
    def kind(self) -> "Kind":
        """What it is."""
        return KINDS[self.operation]

    @property
    def path(self) -> str:
        """Where the object is asked for."""
        return self.kind.path.format(id=self.object_id, parent=self.parent_id)


def deferred_of(record: CallRecord) -> Deferred | None:
    """What a call has made that will tell its usage later; None where it has told it, or makes no such thing."""
    operation = _OPERATIONS.get(record.operation)
    is_made = record.outcome is not None and record.status is not None and record.status < 300
    if not (operation and operation.told_later and is_made and record.response_id and record.upstream):
        return None
    if "{parent}" in KINDS[operation.name].path and not record.response_parent:
        return None
    if record.usage is not None or record.usage_source is not None:
        return None
    return Deferred(
        object_id=record.response_id,
        call_id=record.call_id,
        client_id=record.client_id,
        cost_center=record.cost_center,
        operation=record.operation,
        model=record.model,
        upstream=record.upstream,
        deployment=record.deployment,
        region=record.region,
        tier=record.tier,
        api_version=record.api_version,
        parent_id=record.response_parent,
    )


def counted_tier(record: CallRecord) -> str | None:
    """The tier that a call counts in: none until its usage is told, with which it comes."""
    return None if deferred_of(record) else record.tier


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch, as its upstream tells it. Instants are seconds since 1970."""

    status: str
    endpoint: str = ""
    output_file_id: str | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelled_at: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in _ENDED

    @property
    def ended_at(self) -> datetime | None:
        """When; None where it does not say."""
        return _instant(self.completed_at or self.cancelled_at or self.expired_at or self.failed_at)


class _LineResponse(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw(b"{}")


class _Line(msgspec.Struct):
    response: _LineResponse | None = None


_batch_decoder = msgspec.json.Decoder(Batch)
_line_decoder = msgspec.json.Decoder(_Line)


def parse_batch(body: bytes) -> Batch:
    """A batch. Raises msgspec.DecodeError."""
    return _batch_decoder.decode(body)


type _Served = tuple[str, str]
"""The model, and the tier."""


class BatchUsage:
    """What the lines of a batch's output file add up to, by the model that served and the tier: long lines cost more."""

    def __init__(self, batch: Batch) -> None:
        self._parse = _operation_of(batch.endpoint).parse
        self._lines: dict[_Served, list[TokenUsage]] = {}
        self._bytes: dict[_Served, int] = {}
        self._is_whole = True

    def add(self, line: bytes) -> None:
        """One line. What failed has no usage; of what cannot be read, or does not say, it is not known."""
        try:
            response = _line_decoder.decode(line).response
            if response is None or response.status_code >= 300:
                return
            part = self._parse(bytes(response.body))
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._is_whole = False
            return
        if part.usage is None:
            self._is_whole = False
            return
        served = part.model or "", with_length(BATCH, part.usage.input_tokens)
        self._lines.setdefault(served, []).append(part.usage)
        self._bytes[served] = self._bytes.get(served, 0) + len(line)

    def records(self, made: Deferred, batch: Batch) -> list[CallRecord]:
        """A record for each model and tier, in the hour in which the batch ended; one more where some lines did not tell."""
        at = batch.ended_at or opened_at(made.call_id)
        untold = [] if self._is_whole else [unknown_record(made)]
        return untold + [
            msgspec.structs.replace(_told_record(made, at, *served, _sum(usages)), response_bytes=self._bytes[served])
            for served, usages in self._lines.items()
        ]


def unknown_record(made: Deferred) -> CallRecord:
    """The record of what did not tell all that it used, or is gone before it did: unknown is not nothing."""
    at = opened_at(made.call_id)
    return msgspec.structs.replace(_record(made, at, tier=made.kind.tier), usage_source=UsageSource.NONE)


class LateUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a background response or a run used: fields of the entry of the call that made it."""

    usage_source: UsageSource
    usage: TokenUsage
    model_served: str | None = None
    tier: str | None = None
    """None: it says nothing of it. Empty: the standard, whatever was asked for."""


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an object told of its usage, as it is to be recorded: of the call that made it, or in records of its own."""

    late: LateUsage | None = None
    records: list[CallRecord] = []


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of object that tells its usage later."""

    path: str
    """Where it is asked for: its `id`, and its `parent`'s."""
    read: Callable[[Deferred, bytes], Told | None] | None
    """What it says of its usage; None while it has not ended. Raises msgspec.DecodeError. No such: its output file says it."""
    has_records: bool = False
    """Whether it tells in records of its own."""
    tier: str = ""
    """Of these."""

    def unknown(self, made: Deferred) -> Told:
        """What is recorded of one that will never tell."""
        return Told(records=[unknown_record(made)]) if self.has_records else Told(late=_UNKNOWN)


class _Job(msgspec.Struct):
    status: str
    model: str | None = None
    trained_tokens: Count | None = None
    finished_at: int | None = None


class _ModelUsage(msgspec.Struct):
    model_name: str
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    cached_tokens: Count = 0


class _EvalRun(msgspec.Struct):
    status: str
    per_model_usage: tuple[_ModelUsage, ...] | None = None


class _RunUsage(msgspec.Struct):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0


class _Run(msgspec.Struct):
    status: str
    model: str | None = None
    usage: _RunUsage | None = None


def _of_response(made: Deferred, body: bytes) -> Told | None:
    late = late_usage(body, made.tier or "")
    return Told(late=late) if late else None


def _of_run(_: Deferred, body: bytes) -> Told | None:
    run = msgspec.json.decode(body, type=_Run)
    if run.status not in _RUN_ENDED:
        return None
    if run.usage is None:
        return Told(late=_UNKNOWN)
    usage = TokenUsage(input_tokens=run.usage.prompt_tokens, output_tokens=run.usage.completion_tokens)
    return Told(late=LateUsage(usage_source=UsageSource.PROVIDER, usage=usage, model_served=run.model))


def _of_job(made: Deferred, body: bytes) -> Told | None:
    job = msgspec.json.decode(body, type=_Job)
    if job.status not in _JOB_ENDED:
        return None
    if job.trained_tokens is None:
        return Told(records=[unknown_record(made)])
    at = _instant(job.finished_at) or opened_at(made.call_id)
    return Told(
        records=[_told_record(made, at, job.model or "", TRAINING, TokenUsage(input_tokens=job.trained_tokens))]
    )


def _of_eval_run(made: Deferred, body: bytes) -> Told | None:
    run = msgspec.json.decode(body, type=_EvalRun)
    if run.status not in _RUN_ENDED:
        return None
    if run.per_model_usage is None:
        return Told(records=[unknown_record(made)])
    at = opened_at(made.call_id)  # when it ended it does not say
    by_model: dict[str, list[TokenUsage]] = {}
    for each in run.per_model_usage:  # one that was both asked and judge may be told twice
        by_model.setdefault(each.model_name, []).append(_usage_of(each))
    return Told(records=[_told_record(made, at, model, "", _sum(usages)) for model, usages in by_model.items()])


def _usage_of(told: _ModelUsage) -> TokenUsage:
    return TokenUsage(
        input_tokens=told.prompt_tokens, cached_input_tokens=told.cached_tokens, output_tokens=told.completion_tokens
    )


_NO_INSTANT = int(datetime(3000, 1, 1, tzinfo=UTC).timestamp())
_JOB_ENDED = frozenset({"succeeded", "failed", "cancelled", "canceled"})
_RUN_ENDED = frozenset({"completed", "failed", "cancelled", "canceled", "expired", "incomplete"})
_UNKNOWN = LateUsage(usage_source=UsageSource.NONE, usage=TokenUsage())

KINDS: Mapping[str, Kind] = {
    "batches.create": Kind(path="batches/{id}", read=None, has_records=True, tier=BATCH),
    "responses": Kind(path="responses/{id}", read=_of_response),
    "fine_tuning.jobs.create": Kind(path="fine_tuning/jobs/{id}", read=_of_job, has_records=True, tier=TRAINING),
    "evals.runs.create": Kind(path="evals/{parent}/runs/{id}", read=_of_eval_run, has_records=True),
    "threads.runs.create": Kind(path="threads/{parent}/runs/{id}", read=_of_run),
    "threads.create_and_run": Kind(path="threads/{parent}/runs/{id}", read=_of_run),
}
"""By the operation that makes them."""


def late_usage(body: bytes, asked_tier: str = "") -> LateUsage | None:
    """What a response says of its usage; None while it has not ended. Raises msgspec.DecodeError."""
    part = parse_response(body)
    if not part.finish_reasons:
        return None
    source = UsageSource.NONE if part.usage is None else UsageSource.PROVIDER
    told = asked_tier if part.tier is None else part.tier
    tier = "" if told in STANDARD_TIERS else without_length(told)
    return LateUsage(
        usage_source=source,
        usage=part.usage or TokenUsage(),
        model_served=part.model,
        tier=with_length(tier, part.usage.input_tokens if part.usage else None),
    )


def told_late(record: CallRecord, late: LateUsage, at: datetime) -> CallRecord:
    """The record of the call that made a response, with what it said at `at`. Closed then: of two accounts the later counts."""
    return msgspec.structs.replace(
        record,
        closed_at=at,
        usage=late.usage,
        usage_source=late.usage_source,
        model_served=late.model_served or record.model_served,
        tier=record.tier if late.tier is None else late.tier or None,
    )


def _told_record(made: Deferred, at: datetime, model: str, tier: str, usage: TokenUsage) -> CallRecord:
    return msgspec.structs.replace(
        _record(made, at, model, tier), usage_source=UsageSource.PROVIDER, usage=usage, model_served=model or None
    )


def _record(made: Deferred, at: datetime, model: str = "", tier: str = BATCH) -> CallRecord:
    named = (made.object_id, model) if tier == BATCH else (made.object_id, model, tier)
    digest = hashlib.sha256("\n".join(named).encode()).digest()
    return CallRecord(
        call_id=mint(at, digest[:10]),
        client_id=made.client_id,
        cost_center=made.cost_center,
        operation=made.operation.partition(".")[0],
        url_style=UrlStyle.OPENAI,
        api_version=made.api_version,
        model=made.model or model,
        stream=False,
        end_user=None,
        caller_ip=None,
        user_agent=None,
        opened_at=at,
        request_bytes=0,
        request_sha256=hashlib.sha256().hexdigest(),
        outcome=Outcome.COMPLETED,
        closed_at=at,
        deployment=made.deployment,
        upstream=made.upstream,
        region=made.region,
        tier=tier,
    )


def _instant(seconds: int | None) -> datetime | None:
    """Seconds since 1970 as an instant. None where it is no time of day: an upstream may tell milliseconds."""
    return datetime.fromtimestamp(seconds, UTC) if seconds and 0 < seconds < _NO_INSTANT else None


def _sum(usages: Iterable[TokenUsage]) -> TokenUsage:
    """Unknown where none of them knows."""
    sums: dict[str, int] = {}
    for usage in usages:
        for name, amount in msgspec.structs.asdict(usage).items():
            if amount is not None:
                sums[name] = sums.get(name, 0) + amount
    return TokenUsage(**sums)


def _operation_of(endpoint: str) -> Operation:
    """What the lines ask for: `/v1/chat/completions`, or Azure's `/chat/completions`."""
    path = endpoint.strip("/").removeprefix("v1/")
    return _BY_PATH.get(path, _BY_PATH["chat/completions"])
