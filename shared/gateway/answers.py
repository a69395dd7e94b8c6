"""What a client gets.

Rule: an answer that is a stream is finished, once, whatever becomes of its client: its call ends in the record.
"""

import math
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from shared.core.errors import GatewayError, to_openai_json
from shared.core.headers import Headers

JSON: Headers = (("content-type", "application/json"),)


class Stream(Protocol):
    """A body that comes bit by bit."""

    def chunks(self) -> AsyncIterator[bytes]:
        """What the client gets, as it comes."""
        ...

    async def finish(self) -> None:
        """Called when the client has all, or has gone: returns when the call is closed."""
        ...


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole body, or a stream to read from and to finish."""

    status: int
    headers: Headers
    body: bytes | Stream


def refusal(error: GatewayError, more: Headers = ()) -> Answer:
    """An error as a client gets it, with `more` headers."""
    headers = (*JSON, *more)
    if error.retry_after_s is not None:
        headers += (("retry-after", str(math.ceil(error.retry_after_s))),)
    return Answer(status=error.status, headers=headers, body=to_openai_json(error))
