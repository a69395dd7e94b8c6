"""Estimates: what a call used, counted by us where the provider will not say, because the upstream was stopped.

Rule: an estimate is named one wherever it shows (UsageSource.ESTIMATED), and it is made off the event loop. It counts words
only: pictures and sound in a prompt, and reasoning that was not shown, are not in it.
"""

import asyncio
from collections.abc import Iterable, Sequence

from shared.core.api.completion_text import ChoiceText, completion_text
from shared.core.api.operations import Operation
from shared.core.api.prompt_text import prompt_text
from shared.core.usage import TokenUsage

_NEWEST = "o200k_base"
_OLDER = "cl100k_base"
_OLDER_MODELS = ("gpt-3.5", "gpt-35", "gpt-4-", "text-embedding-", "davinci-002", "babbage-002")
_TOKENS_PER_MESSAGE = 3
"""What goes round each message, and before the answer:
https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken."""


async def estimate(
    operation: Operation, model: str, request: bytes, response: bytes, encoding: str | None
) -> TokenUsage:
    """The tokens of a request and of what has come of its answer, by the tokenizer of `model`; `encoding` is the answer's
    Content-Encoding. Takes a thread for as long as it counts."""
    return await asyncio.to_thread(_estimate, operation, model, request, response, encoding)


def prepare(models: Iterable[str]) -> None:
    """Loads the vocabularies of these models. The first use of each takes a third of a second, which no thread can take
    off the event loop (the GIL is held), so it belongs before the first call."""
    for vocabulary in {_vocabulary(model) for model in models}:
        _count([""], vocabulary)


def _estimate(operation: Operation, model: str, request: bytes, response: bytes, encoding: str | None) -> TokenUsage:
    vocabulary = _vocabulary(model)
    asked = prompt_text(operation, request)
    said = completion_text(operation, response, encoding)
    input_tokens = _count([text for message in asked for text in (message.role, message.content)], vocabulary)
    return TokenUsage(
        input_tokens=input_tokens + _TOKENS_PER_MESSAGE * (len(asked) + 1),
        output_tokens=_count([text for choice in said.choices for text in _texts(choice)], vocabulary),
    )


def _texts(choice: ChoiceText) -> Sequence[str]:
    calls = (text for call in choice.tool_calls for text in (call.name or "", call.arguments))
    return (choice.content, choice.refusal, choice.reasoning, *calls)


def _vocabulary(model: str) -> str:
    """The one a model was trained with: https://github.com/openai/tiktoken/blob/main/tiktoken/model.py. Of a name that is
    not known, a deployment's say, the newest."""
    return _OLDER if model == "gpt-4" or model.startswith(_OLDER_MODELS) else _NEWEST


def _count(texts: list[str], vocabulary: str) -> int:
    import toktok  # 60 MB that a process without estimates need not hold

    return sum(toktok.batch_count(texts, vocabulary, threads=1))
