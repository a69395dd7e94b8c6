"""What is asked of every subject. The rule: a scenario is a value, and its number of calls bounds it."""

from math import ceil

import msgspec

MODEL = "gpt-4o"
REQUEST_BYTES = 1_700
ANSWER_TOKENS = 122
"""Makes a JSON answer of 1.2 KB and a stream of 126 events: the role, 122 tokens, the reason to end, the usage, the end."""
PACED_FIRST_TOKEN_MS = 300
PACED_TOKENS_PER_SECOND = 50


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of load. Calls begin one after the other on each connection."""

    name: str
    stream: bool
    connections: int
    calls: int
    paced: bool = False
    """Whether the upstream answers at the pace of a model; then connections begin spread over `ramp_s`."""
    ramp_s: float = 0.0

    @property
    def body(self) -> bytes:
        """The request body, REQUEST_BYTES long."""
        fields = {"model": MODEL, "messages": [{"role": "user", "content": ""}], "stream": self.stream}
        if self.stream:
            # Asked for here, so that every subject passes the same events on.
            fields["stream_options"] = {"include_usage": True}
        room = REQUEST_BYTES - len(msgspec.json.encode(fields))
        return msgspec.json.encode(fields | {"messages": [{"role": "user", "content": ("measure " * 300)[:room]}]})

    @property
    def pace(self) -> str:
        """What the simulator is told of the answer, in its header `x-simulator-pace`."""
        length = f"answer_tokens={ANSWER_TOKENS}"
        speed = f"; first_token_ms={PACED_FIRST_TOKEN_MS}; tokens_per_second={PACED_TOKENS_PER_SECOND}"
        return length + speed if self.paced else length


def scenarios(calls: int) -> tuple[Scenario, ...]:
    """Every scenario; `calls` is how often the busiest asks. Streams and single connections ask less: they take longer."""
    return (
        Scenario(name="JSON", stream=False, connections=1, calls=ceil(calls / 4)),
        Scenario(name="JSON", stream=False, connections=min(32, calls), calls=calls),
        Scenario(name="SSE", stream=True, connections=1, calls=ceil(calls / 10)),
        Scenario(name="SSE", stream=True, connections=min(32, calls), calls=ceil(calls / 4)),
        Scenario(
            name="SSE paced", stream=True, connections=min(50, calls), calls=min(50, calls), paced=True, ramp_s=1.0
        ),
    )
