"""The adapter between the Functions host's HTTP types and ours; the only one.

Rule: whatever happens to the client, an answer is finished: its call is closed in the record and the host's own bookkeeping
of the request is given back.
"""

from collections.abc import AsyncIterator
from typing import override

import anyio
import msgspec
from azure_functions_runtime.http_v2 import http_coordinator
from fastapi import Request, Response
from starlette.convertors import PathConvertor
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from shared import wiring
from shared.core.calls import InboundRequest
from shared.core.clients.networks import caller_ip
from shared.core.errors import BadRequest
from shared.core.headers import Headers
from shared.gateway.answers import Answer

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
"""What a route takes that tells a wrong method in the API's own shape; the host's own answer is an empty 404."""

_INVOCATION_ID = b"x-ms-invocation-id"

# The runtime routes by "/{path:path}", in which `.*` stops at a line end: "/v1/%0A" would get a 404 of FastAPI's own while its
# invocation waits for it, until functionTimeout ends the worker process and every other call in it.
PathConvertor.regex = "(?s:.*)"


def inbound(request: Request) -> InboundRequest:
    """The request in our own words. Its path is taken raw: the decoded one cannot be told from what was sent."""
    scope = request.scope
    headers: Headers = tuple(
        (name.decode("latin-1"), value.decode("latin-1").strip(" \t")) for name, value in scope["headers"]
    )
    settings = wiring.settings_for_bindings()
    return InboundRequest(
        method=request.method,
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        caller_ip=caller_ip(headers, settings.caller_ip_header, settings.trusted_proxies),
        chunks=lambda: _body(request),
        is_gone=request.is_disconnected,
    )


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:
        raise BadRequest("The request broke off before its end.") from error


def json_response(value: object, status: int = 200) -> Response:
    """Any value as JSON."""
    headers: Headers = (("content-type", "application/json"),)
    return AnswerResponse(Answer(status=status, headers=headers, body=msgspec.json.encode(value)))


class AnswerResponse(Response):
    """Sends an Answer, and finishes it even where the client is gone before the first byte."""

    def __init__(self, answer: Answer) -> None:
        body = answer.body if isinstance(answer.body, bytes) else b""
        super().__init__(body, answer.status)
        self._stream = None if isinstance(answer.body, bytes) else answer.body
        lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
        if self._stream is None:
            lines.append((b"content-length", str(len(body)).encode()))
        self.raw_headers = lines

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._stream is None:
                await super().__call__(scope, receive, send)
            else:
                streaming = StreamingResponse(self._stream.chunks(), self.status_code)
                streaming.raw_headers = self.raw_headers
                await streaming(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):  # a client that leaves cancels us, but not the end of its call
                if self._stream is not None:
                    await self._stream.finish()
            _forget(scope)


def _forget(scope: Scope) -> None:
    """Drops the runtime's reference to a finished request: azure-functions-runtime 1.3.0 keeps it, 2 KB, for ever."""
    for name, value in scope["headers"]:
        if name == _INVOCATION_ID:
            http_coordinator._context_references.pop(value.decode("latin-1"), None)  # noqa: SLF001 - no public way
