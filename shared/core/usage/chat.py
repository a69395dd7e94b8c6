"""Chat completions, completions and embeddings (https://platform.openai.com/docs/api-reference/chat).

Rule: some servers send usage with every chunk: it is the usage so far, never an amount to add.
"""

import msgspec

from shared.core.usage.reading import Part, TokenUsage
from shared.core.usage.wire import (
    NOTHING,
    Count,
    InputDetails,
    OutputDetails,
    annotated,
    error_in,
    filtered,
    token_usage,
    word,
)


class _Usage(msgspec.Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None

    def read(self) -> TokenUsage:
        return token_usage(
            self.prompt_tokens, self.prompt_tokens_details, self.completion_tokens, self.completion_tokens_details
        )


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    content_filter_results: msgspec.Raw = NOTHING


class _Chat(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: tuple[_Choice, ...] | None = None
    usage: _Usage | None = None
    service_tier: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING
    prompt_filter_results: msgspec.Raw = NOTHING


_decoder = msgspec.json.Decoder(_Chat)


def parse_chat(data: bytes) -> Part:
    """A chat completion or one chunk of it; a completion; embeddings, which have input only.

    Raises msgspec.DecodeError for what is not that.
    """
    chat = _decoder.decode(data)
    choices = chat.choices or ()
    error, refused = error_in(chat.error)
    return Part(
        model=chat.model,
        response_id=chat.id,
        finish_reasons=tuple(choice.finish_reason for choice in choices if choice.finish_reason),
        usage=chat.usage.read() if chat.usage else None,
        tier=None if chat.service_tier is NOTHING else word(chat.service_tier),
        error=error,
        content_filter=refused or (_held_back(chat, choices) if b"true" in data else ()),
        only_usage=chat.usage is not None and not choices,
        done=error is not None,
    )


def _held_back(chat: _Chat, choices: tuple[_Choice, ...]) -> tuple[str, ...]:
    completions = (name for choice in choices for name in filtered(choice.content_filter_results, "completion"))
    return (*annotated(chat.prompt_filter_results), *completions)
