"""`DevHost`: a host as a child process, for tests. The rule: what a test starts, its end stops.

    async with DevHost.start(app_dir, settings={"AzureWebJobsStorage": azurite.connection_string}) as host:
        ... host.base_url ...

The environment variable TOLLGATE_HOST=func makes it start `func start` of Azure Functions Core Tools instead.
"""

import asyncio
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from devtools import processes

_ROOT = Path(__file__).resolve().parents[2]
_SHOWN = 20_000


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a host runs on: an interpreter, and the folder that holds `devtools`."""

    python: str = sys.executable
    folder: Path = _ROOT


class StartError(Exception):
    """The host ended or stayed silent; the message ends with the last of what it printed."""


class DevHost:
    """A host of one app on a port of 127.0.0.1. The port stays the same through `restart` and `kill`."""

    def __init__(self, app_dir: Path, settings: Mapping[str, str], arguments: Sequence[str], tools: Tools) -> None:
        self._app_dir, self._settings, self._arguments = app_dir.resolve(), dict(settings), list(arguments)
        self._tools = tools
        self._port = _free_port()
        self._logs = Path(tempfile.mkdtemp(prefix="devhost-"))
        self._child: processes.Child | None = None
        self._starts = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        app_dir: Path,
        settings: Mapping[str, str] | None = None,
        *,
        arguments: Sequence[str] = (),
        ready_timeout: float = 60.0,
        tools: Tools | None = None,
    ) -> AsyncIterator[Self]:
        """Start, wait until it serves, and stop at the end.

        settings: added to this process's environment. arguments: further ones of the command line, for this host only.
        ready_timeout: seconds. Raises StartError.
        """
        host = cls(app_dir, settings or {}, arguments, tools or Tools())
        try:
            await host.begin(ready_timeout)
            yield host
        finally:
            await host.stop()
            shutil.rmtree(host._logs, ignore_errors=True)

    @property
    def base_url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """The port it listens at."""
        return self._port

    @property
    def pid(self) -> int:
        """The process that was started: the supervisor."""
        return self._running().process.pid

    @property
    def log(self) -> str:
        """All that this and the earlier starts have printed."""
        return "".join(path.read_text(errors="replace") for path in sorted(self._logs.iterdir()))

    async def begin(self, ready_timeout: float = 60.0) -> None:
        """Start after `stop` or `kill`; wait until it serves. Raises StartError."""
        self._starts += 1
        self._child = processes.start(
            "devhost",
            self._command(),
            log=self._logs / f"{self._starts:03d}.log",
            env={**os.environ, "PYTHONUNBUFFERED": "1", **self._settings},
            cwd=self._app_dir if _uses_core_tools() else self._tools.folder,
        )
        await self.wait_until_ready(ready_timeout)

    async def wait_until_ready(self, timeout: float = 60.0) -> None:  # noqa: ASYNC109  # a plain bound, not a scope
        """Wait until it answers, for instance after its worker process was killed. Raises StartError."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._running().process.poll() is not None:
                raise StartError(f"the host ended with {self._running().process.returncode}:\n{self.log[-_SHOWN:]}")
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                if (await self.status()).get("state") == "Running":
                    return
            await asyncio.sleep(0.02)
        raise StartError(f"the host does not answer after {timeout:.0f} s:\n{self.log[-_SHOWN:]}")

    async def status(self) -> Mapping[str, object]:
        """GET /admin/host/status; this host adds `processId`, that of the worker process."""
        _, body = await asyncio.to_thread(self._request, "GET", "/admin/host/status", None)
        document: Mapping[str, object] = json.loads(body)
        return document

    async def worker_pid(self) -> int:
        """The worker process, in which the app runs."""
        return int(str((await self.status())["processId"]))

    async def invoke(self, function: str, given: str = "") -> None:
        """Start a function that is not an HTTP function. Returns when the host has accepted it (202), before it ran."""
        body = json.dumps({"input": given})
        status, answer = await asyncio.to_thread(self._request, "POST", f"/admin/functions/{function}", body)
        if status != http.client.ACCEPTED:
            raise ValueError(f"{function}: {status} {answer.decode(errors='replace')}")

    async def wait_for_log(self, pattern: str, timeout: float = 30.0) -> re.Match[str]:  # noqa: ASYNC109  # as above
        """Wait until what it printed matches. Raises TimeoutError with the log."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if match := re.search(pattern, self.log):
                return match
            await asyncio.sleep(0.02)
        raise TimeoutError(f"{pattern!r} not found in:\n{self.log}")

    async def stop(self) -> int:
        """End it gracefully. Returns its exit code."""
        if self._child is None:
            return 0
        await asyncio.to_thread(processes.stop, [self._child])
        code: int = self._child.process.wait()
        return code

    async def kill(self) -> None:
        """End the supervisor and the worker process with SIGKILL, both at once, as a crash of the machine would."""
        await asyncio.to_thread(processes.kill, self._running())
        # The worker process has the port too, and may take a moment to be gone.
        while not _is_free(self._port):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)

    async def kill_worker(self) -> None:
        """End the worker process with SIGKILL; the supervisor starts another."""
        os.kill(await self.worker_pid(), signal.SIGKILL)

    async def restart(self) -> None:
        """`stop`, then `begin`."""
        await self.stop()
        await self.begin()

    def _running(self) -> processes.Child:
        assert self._child is not None, "the host was never started"
        return self._child

    def _command(self) -> list[str]:
        if _uses_core_tools():
            return ["func", "start", "--port", str(self._port)]
        own = ["--app", str(self._app_dir), "--port", str(self._port)]
        return [self._tools.python, "-m", "devtools.devhost", *own, *self._arguments]

    def _request(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def _uses_core_tools() -> bool:
    return os.environ.get("TOLLGATE_HOST") == "func"


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
