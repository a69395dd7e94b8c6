"""`python -m bench.apps.bare PORT`: the gateway on nothing but uvicorn, without the Functions host and without the recorder.

Rule: the same code and the same records as in the app; what a call costs here is what our own code costs.
"""

import sys

import uvicorn
from fastapi import Request
from starlette.types import Receive, Scope, Send

from functions.web import AnswerResponse, inbound
from shared import wiring


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """One call."""
    gateway = (await wiring.services()).gateway
    answer = AnswerResponse(await gateway.handle(inbound(Request(scope, receive))))
    await answer(scope, receive, send)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), http="httptools", lifespan="off", access_log=False, log_level="error")
