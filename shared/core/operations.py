"""The catalogue of operations: what a URL means, whichever of the three styles it is written in.

Rule: an operation is a row. What differs between operations is in the row's columns; code that asks for an operation by
name belongs here or nowhere.
"""

from collections.abc import Callable
from enum import StrEnum
from urllib.parse import unquote

import msgspec

from shared.core.errors import MethodNotAllowed, NotFound
from shared.core.usage import Part, parse_chat


class UrlStyle(StrEnum):
    """How a client writes its URLs."""

    OPENAI = "openai"
    """`/v1/chat/completions`"""
    AZURE = "azure"
    """`/openai/deployments/{model}/chat/completions?api-version=...`"""
    AZURE_V1 = "azure-v1"
    """`/openai/v1/chat/completions`"""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a client can ask for."""

    name: str
    """OpenTelemetry's and the OpenAI SDK's word for it."""
    method: str
    path: str
    """The URL's part behind the style's prefix."""
    parse: Callable[[bytes], Part]
    """Reads a JSON body, or the data of one SSE event, of the answer."""
    usage_chunk: bool = False
    """Whether a stream tells its usage only when `stream_options.include_usage` asks for it."""


CATALOGUE = (
    Operation(name="chat.completions", method="POST", path="chat/completions", parse=parse_chat, usage_chunk=True),
)

_BY_PATH = {operation.path: operation for operation in CATALOGUE}


class Route(msgspec.Struct, frozen=True):
    """What a URL says: the operation, the style it was written in, and the model where the path names it."""

    operation: Operation
    style: UrlStyle
    model: str | None


def match(method: str, path: str) -> Route:
    """The route of a request; `path` is raw (percent-encoded). Raises NotFound or MethodNotAllowed."""
    style, model, rest = _split(path)
    operation = _BY_PATH.get(rest)
    if style is None or operation is None:
        raise NotFound(f"Invalid URL ({method} {path})", code="unknown_url")
    if method != operation.method:
        raise MethodNotAllowed(f"Not allowed to {method} on {path}. (HINT: make it {operation.method}.)")
    return Route(operation, style, model)


def _split(path: str) -> tuple[UrlStyle | None, str | None, str]:
    match path.lstrip("/").split("/", 3):
        case ["openai", "deployments", model, rest]:
            return UrlStyle.AZURE, unquote(model), rest
        case ["openai", "v1", *rest]:
            return UrlStyle.AZURE_V1, None, "/".join(rest)
        case ["v1", *rest]:
            return UrlStyle.OPENAI, None, "/".join(rest)
        case _:
            return None, None, ""
