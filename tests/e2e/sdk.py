"""The SDK's clients, one for each style of URL, and what they sent and got to the byte."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import override

import httpx2
import openai

from tests.stack import API_VERSION

type MakeClient = Callable[[str, str, httpx2.Client | None], openai.OpenAI]
"""(the gateway's address, a key, the SDK's own HTTP client where it is to be another) -> a client."""

STYLES: Mapping[str, MakeClient] = {
    "OpenAI /v1": lambda base, key, http: openai.OpenAI(
        base_url=f"{base}/v1", api_key=key, max_retries=0, http_client=http
    ),
    "OpenAI /openai/v1": lambda base, key, http: openai.OpenAI(
        base_url=f"{base}/openai/v1", api_key=key, max_retries=0, http_client=http
    ),
    "AzureOpenAI": lambda base, key, http: openai.AzureOpenAI(
        azure_endpoint=base, api_key=key, api_version=API_VERSION, max_retries=0, http_client=http
    ),
}
"""Nothing is retried: every answer is one call's."""


@dataclass
class Seen:
    """One exchange as it was on the wire."""

    request: httpx2.Request
    body_sha256: str
    """Of the request."""
    response: bytes = b""
    """Not decompressed."""


@dataclass
class Wire(httpx2.BaseTransport):
    """The SDK's usual transport, watched."""

    seen: list[Seen] = field(default_factory=list)
    inner: httpx2.HTTPTransport = field(default_factory=httpx2.HTTPTransport)

    @override
    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        seen = Seen(request, hashlib.sha256(request.read()).hexdigest())
        self.seen.append(seen)
        response = self.inner.handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Watched(response.stream, seen),
            extensions=response.extensions,
        )

    @override
    def close(self) -> None:
        self.inner.close()


@dataclass
class _Watched(httpx2.SyncByteStream):
    stream: httpx2.SyncByteStream
    seen: Seen

    @override
    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.stream:
            self.seen.response += chunk
            yield chunk

    @override
    def close(self) -> None:
        self.stream.close()
