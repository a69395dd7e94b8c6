"""The simulator's own arithmetic of tokens: simple, deterministic, and not what an outsider's estimate would give."""

from typing import Any

import msgspec

type Json = dict[str, Any]

_CACHE_FROM = 1024
_CACHE_STEP = 128
_IMAGE_TOKENS = 85
_AUDIO_TOKENS = 40


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of one answer. `cached` and `audio` are part of `input`, `reasoning` is part of `output`."""

    input: int
    audio: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def cached(self) -> int:
        """The input tokens a provider would have found in its prompt cache."""
        return self.input * 3 // 4 // _CACHE_STEP * _CACHE_STEP if self.input > _CACHE_FROM else 0

    def upto(self, generated: int) -> "Tokens":
        """Returns what is used when so many tokens are out; reasoning comes first."""
        return msgspec.structs.replace(
            self, output=min(self.output, generated), reasoning=min(self.reasoning, generated)
        )

    def chat(self, generated: int) -> Json:
        """Returns `usage` in the shape of chat completions, after so many generated tokens."""
        used = self.upto(generated)
        return {
            "prompt_tokens": used.input,
            "completion_tokens": used.output,
            "total_tokens": used.input + used.output,
            "prompt_tokens_details": {"cached_tokens": used.cached, "audio_tokens": used.audio},
            "completion_tokens_details": {
                "reasoning_tokens": used.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def responses(self, generated: int) -> Json:
        """Returns `usage` in the shape of the Responses API, after so many generated tokens."""
        used = self.upto(generated)
        return {
            "input_tokens": used.input,
            "input_tokens_details": {"cached_tokens": used.cached},
            "output_tokens": used.output,
            "output_tokens_details": {"reasoning_tokens": used.reasoning},
            "total_tokens": used.input + used.output,
        }


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """A usage object of any API, read: what it does not say is 0."""

    input: int
    cached: int
    output: int
    reasoning: int

    @classmethod
    def read(cls, usage: Json) -> "Totals":
        """Returns what a usage object of chat completions or of any other API says."""
        into, out = ("prompt", "completion") if "prompt_tokens" in usage else ("input", "output")
        return cls(
            input=usage.get(f"{into}_tokens", 0),
            cached=(usage.get(f"{into}_tokens_details") or {}).get("cached_tokens", 0),
            output=usage.get(f"{out}_tokens", 0),
            reasoning=(usage.get(f"{out}_tokens_details") or {}).get("reasoning_tokens", 0),
        )


def count_text(text: str) -> int:
    """Returns the tokens of a text: one for each four bytes begun."""
    return -(-len(text.encode()) // 4)


def count(value: object) -> int:
    """Returns the tokens of any JSON value: its texts, and a fixed price for each image and sound."""
    match value:
        case str():
            return count_text(value)
        case {"type": "image_url" | "input_image"}:
            return _IMAGE_TOKENS
        case {"type": "input_audio"}:
            return _AUDIO_TOKENS
        case dict():
            return sum(map(count, value.values()))
        case list():
            return sum(map(count, value))
    return 0 if value is None or isinstance(value, bool) else 1


def count_prompt(messages: object) -> int:
    """Returns the input tokens of a prompt: a text, or messages, each with an overhead of three."""
    if isinstance(messages, list):
        return 3 + sum(3 + count(message) for message in messages)
    return 3 + count(messages)


def count_audio(messages: object) -> int:
    """Returns those of the input tokens that are sound."""
    match messages:
        case {"type": "input_audio"}:
            return _AUDIO_TOKENS
        case dict():
            return sum(map(count_audio, messages.values()))
        case list():
            return sum(map(count_audio, messages))
    return 0
