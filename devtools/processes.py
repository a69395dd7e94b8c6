"""Child processes of a tool. The rule: a child never outlives the process that started it, however that one ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GRACE_S = 10.0

# Run by a bare interpreter that then becomes the command (same pid). prctl(2): PR_SET_PDEATHSIG survives execve, and
# the kernel sends the signal when the thread that started us ends. Not a preexec_fn: that is unsafe beside threads.
_TETHER = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent ended before its child began")
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""


@dataclass(frozen=True)
class Child:
    """A started program, and the file that holds everything it prints."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self, lines: int = 20) -> str:
        """The last lines it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def start(name: str, command: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> Child:
    """Start a program in a process group of its own, so that Ctrl-C in a terminal reaches only the launcher.

    Call it from a thread that lives as long as the child should.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            _tethered(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    return Child(name, process, log)


def stop(children: Iterable[Child], grace_s: float = GRACE_S) -> None:
    """Ask every child to end, in the given order, and kill those that have not ended in time."""
    for child in children:
        _signal(child, signal.SIGTERM)
        try:
            child.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            kill(child)


def kill(child: Child) -> None:
    """End a child, and what it has started, without a chance to clean up."""
    _signal(child, signal.SIGKILL)
    child.process.wait()


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process.poll() is None:
        os.killpg(child.process.pid, number)


def _tethered(command: Sequence[str]) -> list[str]:
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-ISc", _TETHER, str(os.getpid()), *command]
