"""A checkout to run: a copy of this one, with its own .local and this one's installed packages."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.processes import identity

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 60
OUR_SETTINGS = ("TOLLGATE_", "OPENAI_", "AZURE_OPENAI_", "AzureWebJobs")


class Run:
    """One `make run`, without make and without a terminal."""

    def __init__(self, checkout: Path, *arguments: str, **settings: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(OUR_SETTINGS)}
        self._checkout = checkout
        self._log = checkout / f"run-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "devtools.run", *arguments],
                cwd=checkout,
                env={**environment, "PORT": "0", **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._log.read_text()

    def info(self) -> dict[str, Any]:
        """run.json, once this run has written it."""
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline and self.process.poll() is None:
            file = self._checkout / ".local" / "run.json"
            if file.exists() and (info := json.loads(file.read_text()))["pids"]["launcher"] == self.process.pid:
                assert isinstance(info, dict)
                return info
            time.sleep(0.05)
        raise AssertionError(f"not ready:\n{self.output}")

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Signal it, and wait for its end."""
        self.process.send_signal(number)
        return self.exit_code()

    def exit_code(self) -> int:
        """Wait for its end."""
        return self.process.wait(READY_WITHIN_S)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that git knows or would take, without the tests."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", ":!tests"], cwd=ROOT, capture_output=True, check=True
    )
    folder = tmp_path / "checkout"
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.decode().splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    return folder


@pytest.fixture
def start(checkout: Path) -> Iterator[Callable[..., Run]]:
    """Start the gateway in the checkout; whatever still runs at the end is stopped."""
    runs: list[Run] = []

    def start_one(*arguments: str, **settings: str) -> Run:
        runs.append(Run(checkout, *arguments, **settings))
        return runs[-1]

    yield start_one
    for run in runs:
        if run.process.poll() is None:
            run.stop(signal.SIGTERM)


def ends(pid: int) -> bool:
    """Whether a process has ended, or does within a while."""
    deadline = time.monotonic() + READY_WITHIN_S
    while identity(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    return identity(pid) is None
