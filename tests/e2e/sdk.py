"""The SDK's clients, one for each style of URL."""

from collections.abc import Callable, Mapping

import openai

from tests.stack import API_VERSION

STYLES: Mapping[str, Callable[[str, str], openai.OpenAI]] = {
    "OpenAI /v1": lambda base, key: openai.OpenAI(base_url=f"{base}/v1", api_key=key, max_retries=0),
    "OpenAI /openai/v1": lambda base, key: openai.OpenAI(base_url=f"{base}/openai/v1", api_key=key, max_retries=0),
    "AzureOpenAI": lambda base, key: openai.AzureOpenAI(
        azure_endpoint=base, api_key=key, api_version=API_VERSION, max_retries=0
    ),
}
"""By what to call it: (the gateway's address, a key) -> a client. Nothing is retried: every answer is one call's."""
