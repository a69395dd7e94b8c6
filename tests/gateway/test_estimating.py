"""Estimates of tokens, without a network."""

import json
import threading

import pytest

from shared.core.api.operations import CATALOGUE
from shared.core.usage import TokenUsage
from shared.gateway import estimating

OPERATIONS = {operation.name: operation for operation in CATALOGUE}
CHAT = OPERATIONS["chat.completions"]

# Counted with tiktoken 0.14.0 and the vocabularies that it downloads: o200k_base, cl100k_base.
COUNTS = {
    "hello world": (2, 2),
    "Grüße aus Zürich": (5, 7),
    "東京 is 🙂 \u2028 fine": (5, 8),
    "def f(x):\n    return x**2\n": (10, 10),
    "a" * 1000: (125, 125),
    "   \n\n\t": (2, 2),
    "<|endoftext|>": (7, 7),
    "1234567890": (4, 4),
    "": (0, 0),
}
MODELS = {
    "gpt-4o": 0,
    "gpt-4o-mini-2024-07-18": 0,
    "gpt-4.1": 0,
    "gpt-5": 0,
    "o3": 0,
    "a-deployment": 0,
    "gpt-4": 1,
    "gpt-4-turbo": 1,
    "gpt-35-turbo-0125": 1,
    "gpt-3.5-turbo": 1,
    "text-embedding-3-small": 1,
}


def answer(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


@pytest.mark.parametrize("text", COUNTS)
@pytest.mark.parametrize("model", MODELS)
async def test_words_are_counted_as_the_models_tokenizer_does(model: str, text: str) -> None:
    usage = await estimating.estimate(CHAT, model, b"{}", answer(text), None)
    assert usage.output_tokens == COUNTS[text][MODELS[model]]


async def test_a_prompt_counts_its_roles_and_what_goes_round_each_message() -> None:
    """https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken"""
    request = b'{"messages":[{"role":"system","content":"hello world"},{"role":"user","content":"hello world"}]}'
    usage = await estimating.estimate(CHAT, "gpt-4o", request, b"", None)
    assert usage == TokenUsage(input_tokens=2 * (3 + 1 + 2) + 3, output_tokens=0)


async def test_an_estimate_is_made_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards that counting a long answer holds up no other call."""
    threads: list[threading.Thread] = []
    count = estimating._count

    def counted(texts: list[str], vocabulary: str) -> int:
        threads.append(threading.current_thread())
        return count(texts, vocabulary)

    monkeypatch.setattr(estimating, "_count", counted)
    await estimating.estimate(CHAT, "gpt-4o", b"{}", answer("a"), None)
    assert threads
    assert threading.main_thread() not in threads


def test_vocabularies_can_be_loaded_before_they_are_needed() -> None:
    estimating.prepare(["gpt-4o", "gpt-5", "gpt-4"])
    estimating.prepare([])
