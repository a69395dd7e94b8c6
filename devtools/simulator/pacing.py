"""How fast an answer is generated. Zero means as fast as possible."""

import msgspec


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The generation speed of one answer."""

    tokens_per_second: float = 0
    first_token_ms: float = 0
    answer_tokens: int | None = None
    """How long the answer is, in tokens; None leaves that to the request. `max_tokens` still cuts it."""

    def due_s(self, tokens: int) -> float:
        """When the given token is out, in seconds after generation began."""
        steady = tokens / self.tokens_per_second if self.tokens_per_second else 0.0
        return self.first_token_ms / 1000 + steady

    def generated(self, elapsed_s: float) -> int:
        """How many tokens are out after so many seconds, if the answer is long enough."""
        return max(0, int((elapsed_s - self.first_token_ms / 1000) * self.tokens_per_second))
