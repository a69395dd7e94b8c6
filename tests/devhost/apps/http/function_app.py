"""HTTP functions that show what the host did to the request, and misbehave on demand."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import azure.functions as func
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, Response, StreamingResponse

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
PAUSE_S = 0.2


def note(line: str) -> None:
    """Leave a trace for the test, in the order of events."""
    with Path(os.environ["NOTES"]).open("a") as notes:
        notes.write(f"{line}\n")


@app.route("hello", methods=["GET"])
async def hello(req: Request) -> Response:
    return Response("hello")


@app.route("sync-hello", methods=["GET"])
def sync_hello(req: Request) -> Response:
    return Response("hello from a thread")


@app.route("echo/{word}/{*path}", methods=["GET", "POST"])
async def echo(req: Request, context: func.Context) -> Response:
    seen = {
        "params": dict(req.path_params),
        "raw_path": req.scope["raw_path"].decode(),
        "query": req.url.query,
        "scheme": req.url.scheme,
        "headers": [[name.decode(), value.decode("latin-1")] for name, value in req.headers.raw],
        "invocation_id": context.invocation_id,
        "trace_parent": context.trace_context.trace_parent,
        "body": (await req.body()).decode(),
    }
    return JSONResponse(seen)


@app.function_name("a_first_by_name")
@app.route("order/{any}", methods=["GET"])
async def a_first_by_name(req: Request) -> Response:
    return Response("parameter")


@app.function_name("b_second_by_name")
@app.route("order/literal", methods=["GET"])
async def b_second_by_name(req: Request) -> Response:
    return Response("literal")


@app.route("count", methods=["POST"])
async def count(req: Request) -> Response:
    total = 0
    async for chunk in req.stream():
        if not total:
            note(f"first {len(chunk)}")
        total += len(chunk)
    return Response(str(total))


@app.route("events", methods=["GET"])
async def events(req: Request) -> Response:
    async def three() -> AsyncIterator[str]:
        for number in range(3):
            yield f"data: {number} {time.time()}\n\n"
            await asyncio.sleep(PAUSE_S)

    return StreamingResponse(three(), media_type="text/event-stream")


@app.route("endless", methods=["GET"])
async def endless(req: Request) -> Response:
    async def forever() -> AsyncIterator[str]:
        try:
            while True:
                yield ": ping\n\n"
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            note("cancelled")
            raise

    return StreamingResponse(forever(), media_type="text/event-stream")


@app.route("silent", methods=["GET"])
async def silent(req: Request) -> Response:
    while not await req.is_disconnected():  # noqa: ASYNC110  # polling is what there is
        await asyncio.sleep(0.02)
    note("disconnected before the response")
    return Response("nobody reads this")


@app.route("slow", methods=["GET"])
async def slow(req: Request) -> Response:
    note("slow began")
    await asyncio.sleep(float(req.query_params["seconds"]))
    note("slow ended")
    return Response("slow")


@app.route("blocked", methods=["GET"])
async def blocked(req: Request) -> Response:
    time.sleep(60)  # noqa: ASYNC251  # the point: nothing else runs in this event loop
    return Response("never")


@app.route("broken", methods=["GET"])
async def broken(req: Request) -> Response:
    raise ValueError("this function fails")


@app.route("broken-stream", methods=["GET"])
async def broken_stream(req: Request) -> Response:
    async def fail() -> AsyncIterator[bytes]:
        yield b"first"
        raise ValueError("this stream fails")

    return StreamingResponse(fail())


@app.route("references", methods=["GET"])
async def references(req: Request) -> Response:
    coordinator = sys.modules["azure_functions_runtime.http_v2"].http_coordinator
    return Response(str(len(coordinator._context_references)))
