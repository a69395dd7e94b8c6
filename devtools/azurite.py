"""Azurite, the Storage emulator, as a child process: for `make run` and as the fixture of the tests.

The rule: nobody guesses a port. Port 0 lets Azurite choose, and the addresses are the ones it says it listens at.

    with Azurite.start() as azurite:
        BlobServiceClient.from_connection_string(azurite.connection_string)

https://learn.microsoft.com/azure/storage/common/storage-use-azurite
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from devtools import processes

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
DURABLE = ROOT / "devtools" / "azurite_durable.cjs"
ACCOUNT = "devstoreaccount1"
# The same well-known account and key in every installation of Azurite; it opens nothing else.
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
START_TIMEOUT_S = 60.0  # one second on an idle machine
_CRASH_TIMEOUT_S = 60.0

_LISTENING = re.compile(r"Azurite (Blob|Queue|Table) service is successfully listening at http://127\.0\.0\.1:(\d+)")
_TAKEN = re.compile(r"EADDRINUSE.*:(\d+)")


@dataclass(frozen=True)
class Ports:
    """Where the three services listen on 127.0.0.1; 0 lets Azurite choose."""

    blob: int = 0
    queue: int = 0
    table: int = 0


class PortTakenError(processes.ChildError):
    """Another program listens on a port that was asked for."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} is taken")
        self.port = port


class Azurite:
    """A running Azurite. As a context manager it stops at the end."""

    def __init__(self, data: Path | None, ports: Ports, log: Path | None, *, crashes: bool = False) -> None:
        self._data = data
        self._crashes = crashes
        self._env = {**os.environ, "AZURITE_SAVES_AT_CRASH": "1"} if crashes else os.environ
        self._scratch = None if log else Path(tempfile.mkdtemp(prefix="azurite-"))
        self._log = log or Path(f"{self._scratch}/azurite.log")
        self._child, self.ports = _launch(data, ports, self._log, self._env)

    @classmethod
    def start(
        cls,
        data: Path | None = None,
        ports: Ports = Ports(),
        log: Path | None = None,
        *,
        crashes: bool = False,
    ) -> Self:
        """Start on a data folder (None: everything in memory, gone at the end) and wait until it serves.

        crashes: `kill` loses nothing that was acknowledged, however much there is; any other end may.
        Raises PortTakenError, and ChildError for all else.
        """
        return cls(data, ports, log, crashes=crashes)

    @property
    def child(self) -> processes.Child:
        """The process, with its log."""
        return self._child

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process itself."""
        return self._child.process

    @property
    def connection_string(self) -> str:
        """What `AzureWebJobsStorage` and every `from_connection_string` take."""
        return connection_string(self.ports)

    def start_again(self) -> None:
        """Start after `stop` or `kill`, on the same ports and the same data."""
        self._child, self.ports = _launch(self._data, self.ports, self._log, self._env)

    def stop(self) -> None:
        """Stop it cleanly: data is written first."""
        processes.stop([self._child])

    def kill(self) -> None:
        """Stop it with SIGKILL, as a crash would."""
        if self._crashes:
            self.process.send_signal(signal.SIGUSR2)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_CRASH_TIMEOUT_S)
        processes.kill(self._child)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._scratch:
            shutil.rmtree(self._scratch)


def connection_string(ports: Ports) -> str:
    """The connection string of an Azurite on these ports."""
    endpoints = {"Blob": ports.blob, "Queue": ports.queue, "Table": ports.table}
    return (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
        + ";".join(f"{kind}Endpoint=http://127.0.0.1:{port}/{ACCOUNT}" for kind, port in endpoints.items())
        + ";"
    )


def _launch(data: Path | None, ports: Ports, log: Path, env: Mapping[str, str]) -> tuple[processes.Child, Ports]:
    child = processes.start("azurite", _command(data, ports), log=log, env=env, cwd=ROOT)
    try:
        return child, processes.wait_until(child, lambda: _listening_ports(child), START_TIMEOUT_S)
    except BaseException as error:
        processes.stop([child])
        if isinstance(error, processes.ChildError) and (taken := _TAKEN.search(child.output())):
            raise PortTakenError(int(taken[1])) from error
        raise


def _command(data: Path | None, ports: Ports) -> list[str]:
    node = ["node"] if data is None else ["node", "--require", str(DURABLE)]
    where = ["--inMemoryPersistence"] if data is None else ["--location", str(data)]
    services = {"blob": ports.blob, "queue": ports.queue, "table": ports.table}
    listen = [
        word for kind, port in services.items() for word in (f"--{kind}Host", "127.0.0.1", f"--{kind}Port", str(port))
    ]
    # The SDKs speak newer API versions than Azurite knows of; without skipApiVersionCheck it answers them 400.
    return [*node, str(PROGRAM), "--silent", "--skipApiVersionCheck", "--disableTelemetry", *where, *listen]


def _listening_ports(child: processes.Child) -> Ports | None:
    listening = {kind: int(port) for kind, port in _LISTENING.findall(child.output())}
    if listening.keys() != {"Blob", "Queue", "Table"}:
        return None
    return Ports(blob=listening["Blob"], queue=listening["Queue"], table=listening["Table"])
