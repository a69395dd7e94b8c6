"""Runs a simulator: in this thread for the command line, in a thread of its own for tests."""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, Self, override

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from devtools.simulator.account import Entry, ModelTotal
from devtools.simulator.app import App
from devtools.simulator.faults import Fault
from devtools.simulator.settings import Settings

_POLL_S = 0.005


class _Protocol(HttpToolsProtocol):
    """Hands the app the connection, so that a fault can reset it."""

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"simulator.transport": self.transport}  # type: ignore[dict-item]  # ASGI lets a server add to it


class _Server(uvicorn.Server):
    def __init__(self, app: App, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=True,
                backlog=2048,
                timeout_graceful_shutdown=1,
            )
        )
        self._on_ready = on_ready

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def serve(settings: Settings, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serves until the process is told to stop; calls `on_ready` with the base URL once it listens."""
    listener = _listen(host, port)
    base_url = f"http://{host}:{listener.getsockname()[1]}"
    _Server(App(settings), lambda: on_ready(base_url)).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket. asyncio leaves Nagle's algorithm on for a socket it did not make (its `proto` is 0),
    and then each answer waits 40 ms for an acknowledgement; what is accepted inherits the option."""
    listener = socket.create_server((host, port), backlog=2048)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class Simulator:
    """A running simulator on a free port of 127.0.0.1, and its account and faults without HTTP.

    `async with Simulator.start() as simulator:`, or `with` from code that is not async.
    """

    def __init__(self, settings: Settings) -> None:
        self._app = App(settings)
        self._listener = _listen("127.0.0.1", 0)
        self._ready = threading.Event()
        self._server = _Server(self._app, self._ready.set)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._listener],), name="simulator", daemon=True
        )
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @classmethod
    def start(cls, settings: Settings | None = None, /, **fields: Any) -> Self:
        """Returns a simulator to enter; it listens from then on. `fields` are those of `Settings`."""
        return cls(settings or Settings(**fields))

    def url(self, resource: str = "default") -> str:
        """Returns the base URL of one upstream resource, to which `/openai/...` or `/v1` is added."""
        return f"{self.base_url}/r/{resource}"

    def calls(self) -> list[Entry]:
        """Returns the account as it is now."""
        return self._app.account.entries()

    def summary(self) -> dict[str, ModelTotal]:
        """Returns the account's totals by model served."""
        return self._app.account.summary()

    def clear_account(self) -> None:
        """Forgets all calls."""
        self._app.account.clear()

    def set_fault(self, target: str, fault: Fault) -> None:
        """Puts a fault in force: for `deployment`, `resource:deployment`, `resource:*` or `*`."""
        self._app.faults.set(target, fault)

    def clear_faults(self) -> None:
        """Heals everything."""
        self._app.faults.clear()

    async def settled(self, calls: int = 0, timeout_s: float = 10) -> list[Entry]:
        """Returns the account once it holds at least so many calls and none is under way; `TimeoutError` if never."""
        return await self._until(lambda entries: len(entries) >= calls and all(e.ended for e in entries), timeout_s)

    async def arrived(self, calls: int, timeout_s: float = 10) -> list[Entry]:
        """Returns the account once it holds at least so many calls, answered or not; `TimeoutError` if never."""
        return await self._until(lambda entries: len(entries) >= calls, timeout_s)

    async def _until(self, is_so: Callable[[list[Entry]], bool], timeout_s: float) -> list[Entry]:
        async with asyncio.timeout(timeout_s):
            while not is_so(entries := self.calls()):  # noqa: ASYNC110 - another thread keeps the account
                await asyncio.sleep(_POLL_S)
        return entries

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the simulator did not start within 10 s")
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.__exit__)
