"""The parts of a local gateway and how each is started. The rule: a part is handed on only once it serves."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path

import msgspec

from devtools import local_config, processes
from devtools.azurite import ROOT, Azurite, Ports

LOCAL = ROOT / ".local"
HOST = "127.0.0.1"
MAX_PORT = 65535
DEVELOPMENT_STORAGE = "UseDevelopmentStorage=true"
READY_TIMEOUT_S = 60.0
FUNC_READY_TIMEOUT_S = 300.0  # the first time, Core Tools download the extension bundle

SIMULATOR_PORT = "TOLLGATE_SIMULATOR_PORT"
AZURITE_PORTS = ("TOLLGATE_AZURITE_BLOB_PORT", "TOLLGATE_AZURITE_QUEUE_PORT", "TOLLGATE_AZURITE_TABLE_PORT")


_NOTE = LOCAL / "pids.json"


class _SettingsFile(msgspec.Struct, rename={"values": "Values"}):
    values: dict[str, str] = {}


class LaunchError(Exception):
    """Something is in the way; the message says what to change."""


class Family:
    """The children started so far, and a note of them on disk that outlives a killed launcher."""

    def __init__(self) -> None:
        self.children: list[processes.Child] = []

    def add(self, child: processes.Child) -> processes.Child:
        """Look after a child from now on."""
        self.children.append(child)
        began = {one.process.pid: processes.identity(one.process.pid) for one in self.children}
        local_config.write_private(_NOTE, json.dumps(began).encode())
        return child

    def watch(self, wanted: Callable[[], bool]) -> None:
        """Return when nobody wants them any more. Raises ChildError when one ends by itself."""
        while wanted():
            for child in self.children:
                if (code := child.process.poll()) is not None:
                    raise child.failure(f"ended by itself with {code}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the last started first: the app still needs its storage to finish what it does."""
        processes.stop(reversed(self.children))
        _NOTE.unlink(missing_ok=True)


def say(what: str) -> None:
    """A line on stdout, at once even when stdout is a file."""
    print(f"tollgate: {what}", flush=True)


def end_leftovers() -> list[int]:
    """End what a killed launcher of this checkout has left running."""
    if not _NOTE.exists():
        return []
    return processes.end_leftovers(msgspec.json.decode(_NOTE.read_bytes(), type=dict[int, str]))


def read_settings(file: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The settings as Core Tools see them: `Values` of local.settings.json, then the environment, which wins.

    Raises LaunchError.
    """
    if not file.exists():
        return dict(environment)
    try:
        return msgspec.json.decode(file.read_bytes(), type=_SettingsFile).values | dict(environment)
    except msgspec.MsgspecError as error:
        raise LaunchError(f"{file.name}: {error}") from error


def port(settings: Mapping[str, str], name: str, default: int = 0) -> int:
    """A port that the user may choose, found free; 0 leaves the choice to the system. Raises LaunchError."""
    text = settings.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_PORT):
        raise LaunchError(f"{name} is {text!r}, which is no port number. For example: {name}=7072 make run")
    try:
        socket.create_server((HOST, int(text))).close()
    except OSError as error:
        other = f"{name}={int(text) + 1} make run"
        raise LaunchError(f"port {text} cannot be used: {error.strerror}. Choose another one: {other}") from error
    return int(text)


def free_port() -> int:
    """A port that was free a moment ago, for a program that must be told one."""
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def start_storage(family: Family, settings: Mapping[str, str]) -> str:
    """Azurite on .local/azurite, unless the settings name a storage account. Returns the connection string."""
    configured = settings.get("AzureWebJobsStorage") or DEVELOPMENT_STORAGE
    if configured.strip("; ") != DEVELOPMENT_STORAGE:
        return configured
    ports = Ports(*(port(settings, name) for name in AZURITE_PORTS))
    azurite = Azurite.start(LOCAL / "azurite", ports, fresh_log("azurite"))
    family.add(azurite.child)
    return azurite.connection_string


def start_simulator(family: Family, settings: Mapping[str, str]) -> str:
    """The stand-in for OpenAI. Returns its root URL."""
    command = [sys.executable, "-m", "devtools.simulator", "--port", str(port(settings, SIMULATOR_PORT))]
    child = family.add(processes.start("simulator", command, log=fresh_log("simulator"), env=settings, cwd=ROOT))
    ready = re.compile(r"simulator ready on (http://[^\s/]+)")
    return processes.wait_until(child, lambda: ready.search(child.output()), READY_TIMEOUT_S)[1]


def start_app(family: Family, app_port: int, settings: Mapping[str, str]) -> None:
    """The app, in Core Tools when they are installed, else in the dev host."""
    func = shutil.which("func")
    # After a kill -9, what the app had taken from the queue comes back after the lease: soon, here.
    command = [func, "start"] if func else [sys.executable, "-m", "devtools.devhost", "--queue-lease", "30"]
    # Core Tools take the Python of the active virtual environment.
    env = {**settings, "VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin{os.pathsep}{settings['PATH']}"}
    child = family.add(
        processes.start("app", [*command, "--port", str(app_port)], log=fresh_log("app"), env=env, cwd=ROOT)
    )
    processes.wait_until(child, _Health(app_port).ready, FUNC_READY_TIMEOUT_S if func else READY_TIMEOUT_S)


def fresh_log(name: str) -> Path:
    """Where a child's output goes; the output of the start before is kept beside it."""
    log = LOCAL / "logs" / f"{name}.log"
    if log.exists():
        log.replace(log.with_suffix(".previous.log"))
    return log


class _Health:
    """What the app says of itself; a new problem is shown at once, for waiting may not cure it."""

    def __init__(self, app_port: int) -> None:
        self._port = app_port
        self._shown = b""

    def ready(self) -> bool | None:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=5)  # not urllib: no proxy between us
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health/ready")
            response = connection.getresponse()
            body = response.read()
            if response.status == HTTPStatus.OK:
                return True
            if b'"problems"' in body and body != self._shown:
                self._shown = body
                say(f"not ready: /health/ready says {body.decode(errors='replace')}")
        return None
