"""What a request asked for besides its words: temperature, maxima, formats, the names of tools.

Rule: an allow-list. What is not on it, and what is long, is not a parameter but content, and is not given.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from shared.core.operations import Form, Operation

_NAMES = frozenset(
    {
        "background",
        "best_of",
        "dimensions",
        "encoding_format",
        "frequency_penalty",
        "input_fidelity",
        "logprobs",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "max_tool_calls",
        "modalities",
        "n",
        "output_compression",
        "output_format",
        "parallel_tool_calls",
        "presence_penalty",
        "quality",
        "reasoning",
        "reasoning_effort",
        "response_format",
        "seed",
        "service_tier",
        "size",
        "speed",
        "store",
        "stream_format",
        "style",
        "temperature",
        "tool_choice",
        "top_logprobs",
        "top_p",
        "truncation",
        "verbosity",
        "voice",
    }
)
_LONGEST = 256
"""Bytes of JSON: a schema or a list that somebody put where a parameter goes is longer."""


def request_parameters(operation: Operation, body: bytes) -> dict[str, Any]:
    """The parameters that the body of a request states; `tools` are the tools' names, or their types. Empty: none, or no JSON."""
    if operation.form is not Form.JSON:
        return {}
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        known = {
            name: msgspec.json.decode(value)
            for name, value in fields.items()
            if name in _NAMES and len(bytes(value)) <= _LONGEST
        }
        tools = tuple(_tool_names(msgspec.json.decode(fields["tools"]))) if "tools" in fields else ()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return known | ({"tools": tools} if tools else {})


def _tool_names(tools: Any) -> Iterable[str]:
    for tool in tools if isinstance(tools, list) else ():
        match tool:
            case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}} | {"name": str(name)}:
                yield name[:_LONGEST]
            case {"type": str(kind)}:
                yield kind[:_LONGEST]
