"""HTTP as the real host does it, around the runtime's web app. The rule: bytes pass as they come, both ways.

Follows DefaultHttpProxyService, HomepageMiddleware, HttpRequestBodySizeMiddleware, FunctionsController and
HostController of Azure/azure-functions-host, and the defaults of the YARP forwarder that it uses
(https://learn.microsoft.com/aspnet/core/fundamentals/servers/yarp/direct-forwarding).
"""

import asyncio
import json
import logging
import os
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from devtools.devhost.config import HttpOptions
from devtools.devhost.invocations import Invocations, new_trace_parent
from devtools.devhost.routes import Match, RouteTable
from devtools.devhost.runtime import Function, Outcome

type Scope = MutableMapping[str, Any]
type AsgiMessage = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[AsgiMessage]]
type Send = Callable[[AsgiMessage], Awaitable[None]]
type AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
type Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade http2-settings".split()
)
_REPLACED = frozenset((b"host", b"x-ms-invocation-id", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"))
_HOMEPAGE = b"<!DOCTYPE html><html><body><h1>Your Functions app is up and running</h1></body></html>"
_INVOCATION_ID = b"x-ms-invocation-id"
_log = logging.getLogger("devhost")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A short answer of the host itself."""

    status: int
    body: bytes = b""
    content_type: bytes = b"text/plain"


class Front:
    """The ASGI app that this host serves.

    `run_by_name` starts a function that is not an HTTP function with the given text as its input; it raises KeyError
    for an unknown name and ValueError for an HTTP function.
    """

    def __init__(
        self,
        web_app: AsgiApp | None,
        routes: RouteTable[Function],
        invocations: Invocations,
        options: HttpOptions,
        run_by_name: Callable[[str, str], None],
        authority: str,
    ) -> None:
        self._web_app, self._routes, self._invocations = web_app, routes, invocations
        self._options, self._run_by_name, self._authority = options, run_by_name, authority.encode()
        self._tasks: set[asyncio.Task[Outcome]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path: str = scope["path"]
        if path.lower().split("/")[1:2] == ["admin"]:
            await _reply(send, await self._admin(scope, receive))
        elif (match := self._routes.match(scope["method"], scope["raw_path"])) and self._web_app:
            await self._forward(self._web_app, match, scope, receive, send)
        elif path == "/":
            homepage = Reply(status=200, body=_HOMEPAGE, content_type=b"text/html")
            await _reply(send, homepage if self._options.homepage else Reply(status=204))
        else:
            await _reply(send, Reply(status=404))

    async def _forward(
        self, web_app: AsgiApp, match: Match[Function], scope: Scope, receive: Receive, send: Send
    ) -> None:
        declared = _header(scope["headers"], b"content-length")
        if declared.isdigit() and int(declared) > self._options.max_body_bytes:
            await _reply(send, Reply(status=413))
            return
        call_id = str(uuid.uuid4())
        trace_parent = new_trace_parent(_header(scope["headers"], b"traceparent").decode("latin-1"))
        # AppServiceHeaderFixupMiddleware: the scheme is what the front end says it was.
        scheme = _header(scope["headers"], b"x-forwarded-proto").decode("latin-1") or scope["scheme"]
        seen = {**scope, "scheme": scheme}
        seen["headers"] = forwarded_headers(seen, call_id.encode(), self._authority)
        invocation = asyncio.get_running_loop().create_task(
            self._invocations.http(match.target, match.params, call_id=call_id, trace_parent=trace_parent)
        )
        self._tasks.add(invocation)  # the loop itself holds tasks weakly
        invocation.add_done_callback(self._tasks.discard)
        await _Exchange(receive, send, self._options, invocation).run(web_app, seen)

    async def _admin(self, scope: Scope, receive: Receive) -> Reply:
        parts = scope["path"].strip("/").split("/")[1:]
        match scope["method"], parts:
            case "GET", ["host", "status"]:
                return _json(200, {"state": "Running", "processId": os.getpid()})
            case "GET" | "POST", ["host", "ping"]:
                return Reply(status=200)
            case "POST", ["functions", name]:
                return self._invoke(name, await _body(receive))
            case _:
                return Reply(status=404)

    def _invoke(self, name: str, body: bytes) -> Reply:
        try:
            document = json.loads(body)
            given = document.get("input")
            self._run_by_name(name, given if isinstance(given, str) else "" if given is None else json.dumps(given))
        except KeyError:
            return Reply(status=404)
        except (ValueError, AttributeError) as error:
            return Reply(status=400, body=str(error).encode())
        return Reply(status=202)


class _Exchange:
    """One forwarded request: it watches the bytes pass, and ends what stands still for too long."""

    def __init__(self, receive: Receive, send: Send, options: HttpOptions, invocation: asyncio.Task[Outcome]) -> None:
        self._outer_receive, self._outer_send, self._invocation = receive, send, invocation
        self._idle_timeout_s = options.idle_timeout_s
        self._body_left = options.max_body_bytes
        self._loop = asyncio.get_running_loop()
        self._touched = self._loop.time()
        self._deadline = asyncio.timeout_at(self._touched + self._idle_timeout_s)
        self._broken: Reply | None = None
        self._started = self._ended = False
        self._forwarding = True

    async def run(self, web_app: AsgiApp, scope: Scope) -> None:
        """Returns when both the forwarding and the invocation are over. Raises to cut a response that has begun."""
        self._invocation.add_done_callback(self._invocation_ended)
        try:
            async with self._deadline:
                await web_app(scope, self._receive, self._send)
        except TimeoutError:
            self._broken = self._broken or Reply(status=504)
        except Exception:
            if (
                self._started and not self._ended
            ):  # uvicorn logs it and cuts the connection, as the worker's and YARP do
                raise
            if not self._ended:
                self._broken = self._broken or Reply(status=500)
        finally:
            self._forwarding = False
        if self._broken is None:
            await asyncio.wait((self._invocation,))
        else:
            await self._break_off(self._broken)

    async def _receive(self) -> AsgiMessage:
        if self._broken is not None:
            return {"type": "http.disconnect"}
        message = await self._outer_receive()
        self._touch()
        self._body_left -= len(message.get("body", b""))
        if self._body_left < 0:  # only a chunked body comes here; a declared length was checked before
            self._fail(Reply(status=413))
            return {"type": "http.disconnect"}
        return message

    async def _send(self, message: AsgiMessage) -> None:
        if self._broken is not None and not self._started:
            return  # the answer is ours now
        self._touch()
        if message["type"] == "http.response.start":
            self._started = True
        elif not message.get("more_body") and not self._invocation.done():
            # The real host ends the response when the invocation has ended too.
            await self._outer_send({**message, "more_body": True})
            await asyncio.wait((self._invocation,))
            message = {"type": "http.response.body", "body": b""}
        await self._outer_send(message)
        self._ended = message["type"] == "http.response.body" and not message.get("more_body")

    def _touch(self) -> None:
        now = self._loop.time()
        if now - self._touched > self._idle_timeout_s / 100:  # not for every chunk: moving a timer costs
            self._touched = now
            self._deadline.reschedule(now + self._idle_timeout_s)

    def _invocation_ended(self, invocation: asyncio.Task[Outcome]) -> None:
        if not invocation.cancelled() and invocation.result().escaped:
            self._fail(Reply(status=500))

    def _fail(self, reply: Reply) -> None:
        if self._broken is None and self._forwarding:
            self._broken = reply
            self._deadline.reschedule(self._loop.time())

    async def _break_off(self, reply: Reply) -> None:
        _log.error("An HTTP request was broken off (%d)", reply.status)
        if self._started:
            raise ConnectionAbortedError("the response had begun")
        await _reply(self._outer_send, reply)


def forwarded_headers(scope: Scope, call_id: bytes, authority: bytes) -> Headers:
    """The headers that the function sees. YARP does not pass the Host on, and sets X-Forwarded-* rather than adds."""
    original: Headers = scope["headers"]
    named = {part.strip().lower() for part in _header(original, b"connection").split(b",")}
    kept = [
        (name, value)
        for name, value in original
        if name not in _HOP_BY_HOP and name not in _REPLACED and name not in named
    ]
    client = scope["client"][0] if scope.get("client") else ""
    return [
        *kept,
        (b"host", authority),
        (_INVOCATION_ID, call_id),
        (b"x-forwarded-for", client.encode()),
        (b"x-forwarded-host", _header(original, b"host")),
        (b"x-forwarded-proto", scope["scheme"].encode()),
    ]


def _header(headers: Headers, name: bytes) -> bytes:
    return next((value for key, value in headers if key == name), b"")


def _json(status: int, document: Mapping[str, object]) -> Reply:
    return Reply(status=status, body=json.dumps(document).encode(), content_type=b"application/json")


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _reply(send: Send, reply: Reply) -> None:
    headers = [(b"content-length", str(len(reply.body)).encode())]
    if reply.body:
        headers.append((b"content-type", reply.content_type))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
