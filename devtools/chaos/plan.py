"""What a run does, decided before it begins. The rule: the same seed gives the same plan, and nothing here does anything."""

import random
from enum import StrEnum
from typing import Any

import msgspec

CALLS_PER_FAULT = 16
MOST_FAULTS = 60
"""Unless more are asked for: each takes seconds, in which less is called."""
CHAT_MODELS = ("gpt-4o", "o4-mini")
MODELS = (*CHAT_MODELS, "text-embedding-3-small")
RESOURCES = ("east", "west")


class Transport(StrEnum):
    """As TOLLGATE_TRANSPORT has them."""

    STORAGE_QUEUE = "storage-queue"
    EVENT_HUBS = "event-hubs"


class Kind(StrEnum):
    """What is broken."""

    WORKER_KILLED = "worker killed"
    HOST_KILLED = "host killed"
    STORAGE_KILLED = "storage killed"
    STORAGE_STOPPED = "storage stopped"
    UPSTREAM_FAILED = "upstream failed"
    MESSAGES_DOUBLED = "messages doubled"
    ACKS_LOST = "acks lost"
    SENDS_REFUSED = "sends refused"
    EVENTS_REPEATED = "events repeated"
    HUB_AWAY = "hub away"
    ANALYSIS_AWAY = "analysis away"
    ANALYSIS_THROTTLED = "analysis throttled"
    ANALYSIS_SLOW = "analysis slow"
    ANALYSIS_ANSWERS_LOST = "analysis answers lost"


_ALWAYS = (
    Kind.WORKER_KILLED,
    Kind.HOST_KILLED,
    Kind.STORAGE_KILLED,
    Kind.STORAGE_STOPPED,
    Kind.UPSTREAM_FAILED,
    Kind.ANALYSIS_AWAY,
    Kind.ANALYSIS_THROTTLED,
    Kind.ANALYSIS_SLOW,
)
KINDS = {
    Transport.STORAGE_QUEUE: (*_ALWAYS, Kind.MESSAGES_DOUBLED),
    Transport.EVENT_HUBS: (
        *_ALWAYS,
        *(Kind.ACKS_LOST, Kind.SENDS_REFUSED, Kind.EVENTS_REPEATED, Kind.HUB_AWAY),
        Kind.ANALYSIS_ANSWERS_LOST,  # of streaming ingestion, see run.INGESTION
    ),
}


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something to break once so many calls have begun, and for how long."""

    after: int
    kind: Kind
    seconds: float


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call of one client, and the moment at which that hangs up, if it does."""

    request_id: str
    client: int
    path: str
    fields: dict[str, Any]
    """Of the request body, but for the prompt."""
    prompt: str
    prompt_bytes: int
    hints: dict[str, str]
    """Headers that the simulator takes orders from."""
    leaves_after_s: float | None = None
    leaves_after_bytes: int | None = None

    @property
    def stream(self) -> bool:
        return bool(self.fields.get("stream"))


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    calls: tuple[Call, ...]
    faults: tuple[Fault, ...]


_STREAM = {"stream": True}
_STREAM_WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
_SHAPES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    # path, the field of the prompt, further fields
    ("chat/completions", "messages", {}),
    ("chat/completions", "messages", _STREAM),
    ("chat/completions", "messages", _STREAM_WITH_USAGE),
    ("responses", "input", {"store": False}),
    ("responses", "input", _STREAM),
    ("embeddings", "input", {}),
)
_FAULTS = (
    "status=500", "status=400", "drop", "cut-after-chunks=3", "error-after-chunks=4", "no-usage", "gzip",
    "huge-mb=0.2", "huge-mb=2", "delay-ms=1500", "stall-after-chunks=2; stall-s=1",
)  # fmt: skip
_SIZES = ((100, 4_000, 800), (4_000, 100_000, 170), (100_000, 1_000_000, 25), (1_000_000, 4_000_000, 5))
"""Bytes from, to, and how often of a thousand: within one message, several, chunks, and by claim check."""


def plan(
    calls: int, seed: int, transport: Transport, faults: int | None = None, kinds: tuple[Kind, ...] | None = None
) -> Plan:
    """The plan of a run; every kind of fault comes up, or those that are named. As many `faults` as are asked for, or one in so
    many calls."""
    chance = random.Random(f"{seed} {transport}")
    return Plan(
        calls=tuple(_call(chance, f"chaos-{seed}-{number:05d}") for number in range(calls)),
        faults=_faults(chance, calls, faults or min(calls // CALLS_PER_FAULT, MOST_FAULTS), kinds or KINDS[transport]),
    )


def outage(planned: Plan, seconds: float) -> Plan:
    """The same calls, and no fault but one: after a tenth of them the storage is gone for so long."""
    fault = Fault(after=len(planned.calls) // 10, kind=Kind.STORAGE_KILLED, seconds=seconds)
    return Plan(calls=planned.calls, faults=(fault,))


def _faults(chance: random.Random, calls: int, wanted: int, kinds: tuple[Kind, ...]) -> tuple[Fault, ...]:
    count = max(len(kinds), wanted)
    order = [kind for _ in range(-(-count // len(kinds))) for kind in chance.sample(kinds, len(kinds))]
    moments = sorted(chance.randrange(calls // 20, calls) for _ in range(count))
    return tuple(
        Fault(after=after, kind=kind, seconds=round(chance.uniform(0.2, 6), 1))
        for after, kind in zip(moments, order, strict=False)
    )


def _call(chance: random.Random, request_id: str) -> Call:
    path, prompt, fields = chance.choice(_SHAPES)
    model = MODELS[-1] if path == "embeddings" else chance.choice(CHAT_MODELS)
    low, high, _ = chance.choices(_SIZES, weights=[share for *_, share in _SIZES])[0]
    hints = {"x-simulator-pace": f"tokens_per_second={chance.choice((50, 200, 0))}; first_token_ms=50"}
    if chance.random() < 0.12:
        hints["x-simulator-fault"] = chance.choice(_FAULTS)
    leaves = chance.random()
    return Call(
        request_id=request_id,
        client=chance.randrange(2),
        path=chance.choice(("v1", "openai/v1")) + f"/{path}",
        fields={"model": model, "user": request_id, **fields},
        prompt=prompt,
        prompt_bytes=chance.randint(low, high),
        hints=hints,
        leaves_after_s=chance.uniform(0.01, 1) if leaves < 0.08 else None,
        leaves_after_bytes=chance.randint(1, 3000) if 0.08 <= leaves < 0.16 else None,
    )
