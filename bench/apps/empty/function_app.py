"""The least a Functions app can do: it reads the request and answers from memory, in as many pieces as the simulator.

Rule: no upstream, no record, no JSON. What a call costs here, every app on this host pays.
"""

from collections.abc import AsyncIterator

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response, StreamingResponse

_ANSWER = b'{"choices":[{"message":{"content":"%s"}}]}' % (b"a" * 1150)
_EVENT = b'data: {"id":"%s","choices":[{"delta":{"content":"a"}}]}\n\n' % (b"0" * 150)
_EVENTS = 126

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route(route="v1/{*path}", methods=["POST"])
async def answer(req: Request) -> Response:
    """A whole answer, or a stream of events where the request asks for one."""
    if b'"stream":true' in await req.body():
        return StreamingResponse(_events(), media_type="text/event-stream")
    return Response(_ANSWER, media_type="application/json")


async def _events() -> AsyncIterator[bytes]:
    for _ in range(_EVENTS - 1):
        yield _EVENT
    yield b"data: [DONE]\n\n"
