"""What is asked of every subject. The rule: a scenario is a value, a row of the table, and its number of calls bounds it."""

from math import ceil
from typing import Any

import msgspec

CHAT = "gpt-4o"
EMBEDDING = "text-embedding-3-small"
REQUEST_BYTES = 1_700
LARGE_BYTES = 1_000_000
ANSWER_TOKENS = 122
"""Makes a JSON answer of 1.2 KB and a stream of 126 events: the role, 122 tokens, the reason to end, the usage, the end."""
PACED_FIRST_TOKEN_MS = 300
PACED_TOKENS_PER_SECOND = 50


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of load. Calls begin one after the other on each connection; what has no call opens none."""

    name: str
    connections: int
    calls: int
    path: str = "/v1/chat/completions"
    model: str = CHAT
    stream: bool = False
    request_bytes: int = REQUEST_BYTES
    paced: bool = False
    """Whether the upstream answers at the pace of a model; then connections begin spread over `ramp_s`."""
    ramp_s: float = 0.0

    @property
    def body(self) -> bytes:
        """The request body, `request_bytes` long."""
        room = self.request_bytes - len(msgspec.json.encode(self._fields("")))
        return msgspec.json.encode(self._fields(("measure " * (room // 8 + 1))[:room]))

    def _fields(self, text: str) -> dict[str, Any]:
        if self.model == EMBEDDING:
            return {"model": self.model, "input": text}
        fields = {"model": self.model, "messages": [{"role": "user", "content": text}], "stream": self.stream}
        # Asked for here, so that every subject passes the same events on.
        return fields | ({"stream_options": {"include_usage": True}} if self.stream else {})

    @property
    def pace(self) -> str:
        """What the simulator is told of the answer, in its header `x-simulator-pace`."""
        length = f"answer_tokens={ANSWER_TOKENS}"
        speed = f"; first_token_ms={PACED_FIRST_TOKEN_MS}; tokens_per_second={PACED_TOKENS_PER_SECOND}"
        return length + speed if self.paced else length


_STREAM = {"stream": True}
_PACED = {"stream": True, "paced": True, "ramp_s": 2.0}
_EMBEDDING = {"path": "/v1/embeddings", "model": EMBEDDING}
_LARGE = {"request_bytes": LARGE_BYTES}
_ROWS: tuple[tuple[str, int, float, dict[str, Any]], ...] = (
    # name        connections  share of the calls
    ("JSON", 1, 0.25, {}),
    ("JSON", 32, 1.0, {}),
    ("JSON", 256, 1.0, {}),
    ("SSE", 1, 0.1, _STREAM),
    ("SSE", 32, 0.25, _STREAM),
    ("SSE", 256, 0.45, _STREAM),
    ("embeddings", 32, 0.5, _EMBEDDING),
    ("1 MB", 8, 0.1, _LARGE),
    ("SSE paced", 500, 500 / 600, _PACED),
)


def scenarios(calls: int) -> tuple[Scenario, ...]:
    """Every scenario; `calls` is how often the busiest asks. Streams and single connections ask less: they take longer."""
    return tuple(
        Scenario(name=name, connections=connections, calls=ceil(share * calls), **fields)
        for name, connections, share, fields in _ROWS
    )
