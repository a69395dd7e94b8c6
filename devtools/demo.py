"""A month of made-up calls, for looking at the dashboard and for its tests.

Rule: the calls are made up, what is made of them is not: they go through the sinks that real calls go through, and the app's
own timer rolls them up. The same seed and the same end give the same month.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from random import Random

import msgspec

from shared.core import call_ids
from shared.core.call_record import Attempt, CallRecord, Outcome, UsageSource
from shared.core.recording.events import Body, Closed, Opened, Record
from shared.core.usage import TokenUsage
from shared.sinks.archive import Archive
from shared.sinks.ledger import Ledger

_BATCH = 500
_OFFICE_HOURS = tuple(0.15 + math.exp(-(((hour - 11.5) / 4.2) ** 2)) for hour in range(24))


class DemoClient(msgspec.Struct, frozen=True, kw_only=True):
    """One who calls: how often against the others, how that changes over the month, and which models by which share."""

    id: str
    cost_center: str
    weight: float
    growth: float
    models: dict[str, float]
    people: tuple[str, ...] = ()


class DemoModel(msgspec.Struct, frozen=True, kw_only=True):
    """How long its prompts and answers are, how fast it is, and where it runs."""

    input_tokens: int
    output_tokens: int
    ms_per_token: float
    deployments: tuple[str, ...]
    served: str


CLIENTS = (
    DemoClient(
        id="support-copilot",
        cost_center="CC-2200",
        weight=5,
        growth=0.5,
        models={"gpt-4o": 0.7, "gpt-4o-mini": 0.3},
        people=("amelia.novak", "tomas.berg", "ines.duarte"),
    ),
    DemoClient(
        id="contract-review",
        cost_center="CC-3050",
        weight=2,
        growth=0.2,
        models={"gpt-5": 0.75, "o4-mini": 0.15, "acme-legal": 0.1},
        people=("j.okafor", "l.meyer"),
    ),
    DemoClient(id="checkout-assistant", cost_center="CC-4100", weight=4, growth=0.9, models={"gpt-4o-mini": 1}),
    DemoClient(id="search-index", cost_center="CC-1200", weight=3, growth=0, models={"text-embedding-3-small": 1}),
    DemoClient(
        id="data-science",
        cost_center="CC-1400",
        weight=1.5,
        growth=-0.3,
        models={"o4-mini": 0.6, "gpt-5": 0.4},
        people=("r.sato", "m.lindqvist"),
    ),
    DemoClient(id="marketing-studio", cost_center="CC-5100", weight=1, growth=0.4, models={"gpt-4o": 1}),
    DemoClient(id="intranet-chat", cost_center="CC-2200", weight=1.2, growth=0.1, models={"gpt-4o-mini": 1}),
)

MODELS = {
    "gpt-4o": DemoModel(
        input_tokens=1400,
        output_tokens=380,
        ms_per_token=14,
        deployments=("gpt-4o-eastus2", "gpt-4o-sweden"),
        served="gpt-4o-2024-11-20",
    ),
    "gpt-4o-mini": DemoModel(
        input_tokens=900,
        output_tokens=260,
        ms_per_token=7,
        deployments=("gpt-4o-mini-eastus2",),
        served="gpt-4o-mini-2024-07-18",
    ),
    "gpt-5": DemoModel(
        input_tokens=5200,
        output_tokens=1500,
        ms_per_token=17,
        deployments=("gpt-5-sweden", "gpt-5-eastus2"),
        served="gpt-5-2025-08-07",
    ),
    "o4-mini": DemoModel(
        input_tokens=2100,
        output_tokens=1900,
        ms_per_token=9,
        deployments=("o4-mini-eastus2",),
        served="o4-mini-2025-04-16",
    ),
    "acme-legal": DemoModel(  # one's own, for which nobody has a price
        input_tokens=3000,
        output_tokens=500,
        ms_per_token=20,
        deployments=("acme-legal-own",),
        served="acme-legal-7b",
    ),
    "text-embedding-3-small": DemoModel(
        input_tokens=3000, output_tokens=0, ms_per_token=0, deployments=("embedding-eastus2",), served=""
    ),
}

_TALKS = (
    (
        "Where is order 88213? The customer is waiting.",
        "It left the warehouse this morning and arrives tomorrow by noon.",
    ),
    ("Summarise clause 7.2 in one sentence.", "Either party may end the contract with 90 days' notice in writing."),
    (
        "Give me three headlines for the autumn campaign.",
        "1. Warmer than wool\n2. Made for first frosts\n3. Stay out longer",
    ),
    ("Explain this stack trace.", "The list is empty when the first element is read; check its length before that."),
)
_AGENTS = ("OpenAI/Python 2.8.1", "OpenAI/JS 6.9.0", "AsyncAzureOpenAI/Python 2.8.1")


def month(
    end: datetime, *, days: int = 30, calls_per_day: int = 200, hours: Sequence[int] = range(24), seed: int = 7
) -> Iterator[Record]:
    """The events of calls opened in the `days` before `end`, in these hours of the day (UTC). A few never ended."""
    random = Random(seed)
    for day in range(days):
        since = end - timedelta(days=days - day)
        busy = calls_per_day * (0.35 if since.weekday() >= 5 else 1) * random.uniform(0.85, 1.15)
        weights = [client.weight * (1 + client.growth * day / days) for client in CLIENTS]
        for client in random.choices(CLIENTS, weights, k=int(busy)):
            yield call(random, _moment(random, since, hours), client)


async def write(events: Sequence[Record], ledger: Ledger, archive: Archive, *, archived: int = 200) -> None:
    """Writes the events into the ledger, and the latest `archived` calls into the archive too."""
    for start in range(0, len(events), _BATCH):
        await ledger.write(events[start : start + _BATCH])
    await archive.write(sorted(events, key=lambda event: event.record.opened_at)[-archived:] if archived else ())


def _moment(random: Random, since: datetime, hours: Sequence[int]) -> datetime:
    """An instant in the 24 hours from `since`, rather at noon than at night."""
    [hour] = random.choices(hours, [_OFFICE_HOURS[each] for each in hours])
    offset = timedelta(milliseconds=random.randrange(3_600_000))
    moment = since.replace(hour=hour, minute=0, second=0, microsecond=0) + offset
    return moment if moment >= since else moment + timedelta(days=1)


def call(random: Random, opened_at: datetime, client: DemoClient, ending: str = "") -> Record:
    """One call of a client, which ends as any may or as one of ENDINGS."""
    [name] = random.choices(list(client.models), list(client.models.values()))
    model = MODELS[name]
    question, answer = random.choice(_TALKS)
    request = _request(name, question)
    opened = CallRecord(
        call_id=call_ids.mint(opened_at, random.randbytes(10)),
        client_id=client.id,
        cost_center=client.cost_center,
        operation="chat.completions" if model.served else "embeddings",
        url_style="openai",
        api_version=None,
        model=name,
        stream=bool(model.served) and random.random() < 0.7,
        end_user=random.choice(client.people) if client.people else None,
        caller_ip=f"10.20.{len(client.id)}.{random.randrange(2, 30)}",
        user_agent=random.choice(_AGENTS),
        opened_at=opened_at,
        request_bytes=len(request),
        request_sha256=hashlib.sha256(request).hexdigest(),
    )
    ending = ending or random.choices(list(ENDINGS), [share for share, _ in ENDINGS.values()])[0]
    if ending == "incomplete":
        return Opened(record=opened)
    usage = _usage(random, model)
    response = _response(name, answer, usage)
    closed = ENDINGS[ending][1](_completed(random, opened, model, usage, response), random)
    return Closed(record=closed, request=Body.of(request), response=Body.of(response if closed.usage else b""))


def _completed(random: Random, opened: CallRecord, model: DemoModel, usage: TokenUsage, response: bytes) -> CallRecord:
    first = int(random.lognormvariate(5.9, 0.45))
    duration = first + int((usage.output_tokens or 0) * model.ms_per_token * random.lognormvariate(0, 0.3))
    attempts = [Attempt(deployment=model.deployments[0], upstream="demo", status=200, error=None, duration_ms=duration)]
    if len(model.deployments) > 1 and random.random() < 0.04:  # the first was at its limit
        limited = Attempt(deployment=model.deployments[0], upstream="demo", status=429, error=None, duration_ms=40)
        attempts = [limited, msgspec.structs.replace(attempts[0], deployment=model.deployments[1])]
    return msgspec.structs.replace(
        opened,
        outcome=Outcome.COMPLETED,
        closed_at=opened.opened_at + timedelta(milliseconds=duration),
        first_byte_ms=first,
        duration_ms=duration,
        status=200,
        attempts=tuple(attempts),
        deployment=attempts[-1].deployment,
        upstream="demo",
        region=attempts[-1].deployment.rpartition("-")[2],
        model_served=model.served or opened.model,
        finish_reasons=("stop",) if model.served else (),
        usage=usage,
        usage_source=UsageSource.PROVIDER,
        response_bytes=len(response),
        response_sha256=hashlib.sha256(response).hexdigest(),
    )


def _left(record: CallRecord, random: Random) -> CallRecord:
    """The client hung up."""
    source = random.choice((UsageSource.DRAINED, UsageSource.DRAINED, UsageSource.ESTIMATED))
    return msgspec.structs.replace(record, outcome=Outcome.CLIENT_CLOSED, usage_source=source)


def _failed(record: CallRecord, _random: Random) -> CallRecord:
    """The upstream broke off, and said nothing of usage."""
    return msgspec.structs.replace(
        record,
        outcome=Outcome.UPSTREAM_ERROR,
        status=502,
        error="upstream_failed",
        attempts=(msgspec.structs.replace(record.attempts[-1], status=500),),
        usage=None,
        usage_source=UsageSource.NONE,
        finish_reasons=(),
        response_bytes=0,
    )


def _refused(record: CallRecord, _random: Random) -> CallRecord:
    """The gateway refused it for a limit."""
    return msgspec.structs.replace(
        record,
        outcome=Outcome.REJECTED,
        status=429,
        error="rate_limit_exceeded",
        attempts=(),
        deployment=None,
        upstream=None,
        model_served=None,
        usage=None,
        usage_source=UsageSource.NONE,
        finish_reasons=(),
        response_bytes=0,
        duration_ms=2,
    )


type _Ending = Callable[[CallRecord, Random], CallRecord]

ENDINGS: dict[str, tuple[float, _Ending]] = {
    "completed": (96.0, lambda record, _random: record),
    "left": (1.9, _left),
    "failed": (1.1, _failed),
    "refused": (0.8, _refused),
    "incomplete": (0.2, lambda record, _random: record),
}
"""How calls end: the share of each in per cent, and what it makes of a call that went well."""


def _usage(random: Random, model: DemoModel) -> TokenUsage:
    input_tokens = int(model.input_tokens * random.lognormvariate(0, 0.5))
    if not model.served:
        return TokenUsage(input_tokens=input_tokens)
    output_tokens = int(model.output_tokens * random.lognormvariate(0, 0.5))
    return TokenUsage(
        input_tokens=input_tokens,
        cached_input_tokens=int(input_tokens * random.choice((0, 0, 0.5))),
        output_tokens=output_tokens,
    )


def _request(model: str, question: str) -> bytes:
    if not MODELS[model].served:
        return msgspec.json.encode({"model": model, "input": [question]})
    rules = {"role": "system", "content": "You are a careful assistant. Answer briefly."}
    return msgspec.json.encode({"model": model, "messages": [rules, {"role": "user", "content": question}]})


def _response(model: str, answer: str, usage: TokenUsage) -> bytes:
    if not MODELS[model].served:
        return msgspec.json.encode({"object": "list", "model": model, "data": []})
    message = {"role": "assistant", "content": answer}
    return msgspec.json.encode(
        {
            "object": "chat.completion",
            "model": MODELS[model].served,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens},
        }
    )
