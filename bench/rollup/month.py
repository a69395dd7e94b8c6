"""A month of calls, made from a seed: 50 clients, 20 models, each client with a few of them, over 720 hours.

Rule: the same seed makes the same calls. Each call is told as it was known first, and once more where that was not the end of it:
late ones are not told at first, replaced ones are open at first.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from shared.core.call_ids import mint
from shared.core.call_record import Outcome, UsageSource
from shared.core.money.ledger import UsageEntry

START = datetime(2026, 10, 1, tzinfo=UTC)
HOURS = 720
END = START + timedelta(days=31)
CLIENTS = 50
MODELS = (
    "gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "o3", "o4-mini", "o3-mini", "gpt-5", "gpt-5-mini",
    "gpt-5-nano", "gpt-5.1", "gpt-5.2", "gpt-5.4", "gpt-5.4-mini", "text-embedding-3-small", "text-embedding-3-large",
    "gpt-3.5-turbo", "dall-e-3", "of-our-own",
)  # fmt: skip
"""The last one has no price."""
_EMBEDDINGS = frozenset({"text-embedding-3-small", "text-embedding-3-large"})
_LATE_HOURS = 20
"""One hour in so many has calls that are told late, or replaced."""
_OUTCOMES = (Outcome.COMPLETED, Outcome.CLIENT_CLOSED, Outcome.UPSTREAM_ERROR, Outcome.REJECTED)


class Told(msgspec.Struct, frozen=True):
    """A call as it is known first, if it is, and at last."""

    first: UsageEntry | None
    last: UsageEntry


def hours(entries: int, seed: int, count: int = HOURS) -> Iterator[list[Told]]:
    """The calls of each of so many hours. Working hours have more of them."""
    draw = random.Random(seed)
    weights = [3 if 8 <= hour % 24 < 18 else 1 for hour in range(count)]
    total, made, due = sum(weights), 0, 0
    for hour, weight in enumerate(weights):
        due += weight
        calls = entries * due // total - made
        made += calls
        yield [_told(draw, hour, hour % _LATE_HOURS == 0) for _ in range(calls)]


def _told(draw: random.Random, hour: int, has_late: bool) -> Told:
    last = _entry(draw, START + timedelta(hours=hour, milliseconds=draw.randrange(3_600_000)))
    if not has_late or (fate := draw.random()) > 0.12:
        return Told(last, last)
    if fate < 0.1 or last.outcome is Outcome.REJECTED:
        return Told(None, last)
    return Told(_opened(last), last)


def _opened(entry: UsageEntry) -> UsageEntry:
    said = ("call_id", "client_id", "cost_center", "operation", "model", "stream", "opened_at", "request_bytes")
    return UsageEntry(**{name: getattr(entry, name) for name in said})


def _entry(draw: random.Random, at: datetime) -> UsageEntry:
    client = int(CLIENTS * draw.random() ** 2)
    model = MODELS[(client + int(5 * draw.random() ** 2)) % len(MODELS)]
    outcome = draw.choices(_OUTCOMES, (94, 3, 2, 1))[0]
    fields = {} if outcome is Outcome.REJECTED else _answered(draw, model, outcome)
    return UsageEntry(
        call_id=mint(at, draw.randbytes(10)),
        client_id=f"client-{client:02}",
        cost_center=f"CC-{client % 7}",
        operation=_operation(model),
        model=model,
        stream=draw.random() < 0.5,
        opened_at=at,
        request_bytes=draw.randrange(100, 100_000),
        outcome=outcome,
        duration_ms=int(draw.lognormvariate(7, 1)),
        **fields,
    )


def _operation(model: str) -> str:
    if model in _EMBEDDINGS:
        return "embeddings"
    return "images.generate" if model == "dall-e-3" else "chat.completions"


def _answered(draw: random.Random, model: str, outcome: Outcome) -> dict[str, Any]:
    answered: dict[str, Any] = {
        "model_served": model,
        "deployment": f"{model}-{draw.choice(('east', 'east', 'west'))}",
        "region": "swedencentral",
        "attempt_count": 1 + (draw.random() < 0.03) + (draw.random() < 0.01),
        "response_bytes": draw.randrange(200, 20_000),
    }
    if outcome is Outcome.UPSTREAM_ERROR:
        return answered | {"usage_source": UsageSource.NONE}
    source = UsageSource.DRAINED if outcome is Outcome.CLIENT_CLOSED else UsageSource.PROVIDER
    answered |= {"first_byte_ms": int(draw.lognormvariate(6, 1)), "usage_source": source}
    if model == "dall-e-3":
        return answered | {"images": 1, "tier": draw.choice(("standard/1024x1024", "hd/1024x1024"))}
    prompt = draw.randrange(20, 8000)
    tokens: dict[str, Any] = {"input_tokens": prompt, "cached_input_tokens": draw.choice((0, 0, prompt // 2))}
    if model not in _EMBEDDINGS:
        output = draw.randrange(1, 2000)
        tokens |= {
            "output_tokens": output,
            "reasoning_tokens": output // 3 if model.startswith(("o", "gpt-5")) else None,
        }
    return answered | tokens
