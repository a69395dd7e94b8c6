"""What an answer says about itself: tokens by class, the model that served, why it stopped.

Rule: unknown is not zero. A count that the provider did not give is None and stays None. A JSON body is read as a stream
of one part, so there is one reader per operation, not two.
"""

import msgspec


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens by class, in the words of OpenAI's Responses API. Cached and audio input are part of `input_tokens`;
    reasoning and audio output are part of `output_tokens`."""

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    audio_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_output_tokens: int | None = None


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one JSON body or one event of a stream tells. Absent is None or empty."""

    model: str | None = None
    response_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    usage: TokenUsage | None = None
    only_usage: bool = False
    """An event that carries usage and no content: the one that `include_usage` asks for."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer has told so far. Usage is cumulative on the wire: the last one counts."""

    model: str | None = None
    response_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    usage: TokenUsage | None = None

    def after(self, part: Part) -> "Reading":
        """The reading once `part` is known too."""
        return Reading(
            model=part.model or self.model,
            response_id=part.response_id or self.response_id,
            finish_reasons=self.finish_reasons + part.finish_reasons,
            usage=part.usage or self.usage,
        )


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    audio_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _ChatUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Chat(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: tuple[_Choice, ...] | None = None
    usage: _ChatUsage | None = None


_chat_decoder = msgspec.json.Decoder(_Chat)


def parse_chat(data: bytes) -> Part:
    """A chat completion or one chunk of it (https://platform.openai.com/docs/api-reference/chat).

    Raises msgspec.DecodeError for what is not that.
    """
    chat = _chat_decoder.decode(data)
    choices = chat.choices or ()
    return Part(
        model=chat.model,
        response_id=chat.id,
        finish_reasons=tuple(choice.finish_reason for choice in choices if choice.finish_reason),
        usage=_chat_usage(chat.usage) if chat.usage else None,
        only_usage=chat.usage is not None and not choices,
    )


def _chat_usage(usage: _ChatUsage) -> TokenUsage:
    inputs = usage.prompt_tokens_details or _InputDetails()
    outputs = usage.completion_tokens_details or _OutputDetails()
    return TokenUsage(
        input_tokens=usage.prompt_tokens,
        cached_input_tokens=inputs.cached_tokens,
        audio_input_tokens=inputs.audio_tokens,
        output_tokens=usage.completion_tokens,
        reasoning_tokens=outputs.reasoning_tokens,
        audio_output_tokens=outputs.audio_tokens,
    )


class _Object(msgspec.Struct):
    id: str | None = None
    model: str | None = None


_object_decoder = msgspec.json.Decoder(_Object)


def parse_object(data: bytes) -> Part:
    """Any object of the API: its id and model, no usage. Raises msgspec.DecodeError for what is not that."""
    found = _object_decoder.decode(data)
    return Part(model=found.model, response_id=found.id)
