"""The values that every reader of answers gives.

Rule: absent is None or empty, never zero.
"""

import msgspec


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens by class, in the words of OpenAI's Responses API, and what is billed by other measures.

    Every other class of input is part of `input_tokens`, every other class of output part of `output_tokens`. A model that
    has no output, such as an embedding's, has no `output_tokens`.
    """

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    """Read from the prompt cache."""
    cache_write_input_tokens: int | None = None
    """Written to the prompt cache."""
    audio_input_tokens: int | None = None
    image_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_output_tokens: int | None = None
    image_output_tokens: int | None = None
    audio_ms: int | None = None
    """Milliseconds of sound that were listened to."""
    images: int | None = None
    """Images that were made."""
    characters: int | None = None
    """Characters that were to be spoken."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one JSON body or one event of a stream tells. Absent is None or empty."""

    model: str | None = None
    response_id: str | None = None
    parent_id: str | None = None
    """Of the thread or evaluation that a run stands below."""
    finish_reasons: tuple[str, ...] = ()
    """In the provider's own words."""
    usage: TokenUsage | None = None
    tier: str | None = None
    """What the price depends on, where the answer says it: a service tier; of images quality and size."""
    error: str | None = None
    """The code or type of an error that the answer reports, inside a 200 too. Never its message, which may quote anything."""
    content_filter: tuple[str, ...] = ()
    """What Azure's content filter held back: `prompt.violence`, `completion.hate`, ..."""
    only_usage: bool = False
    """An event that carries usage and no content: the one that `include_usage` asks for."""
    done: bool = False
    """The terminal event of a stream."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer has told so far. Usage is cumulative on the wire: the last one counts."""

    model: str | None = None
    response_id: str | None = None
    parent_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    usage: TokenUsage | None = None
    tier: str | None = None
    error: str | None = None
    content_filter: tuple[str, ...] = ()

    def after(self, part: Part) -> "Reading":
        """The reading once `part` is known too."""
        return Reading(
            model=part.model or self.model,
            response_id=part.response_id or self.response_id,
            parent_id=part.parent_id or self.parent_id,
            finish_reasons=self.finish_reasons + part.finish_reasons,
            usage=part.usage or self.usage,
            tier=part.tier or self.tier,
            error=part.error or self.error,
            content_filter=tuple(dict.fromkeys(self.content_filter + part.content_filter))
            if part.content_filter
            else self.content_filter,
        )
