"""Child processes of a tool. The rule: a child never outlives the process that started it, however that one ends."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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


class ChildError(Exception):
    """A child ended, or is not ready in time; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Child:
    """A started program, and the file that holds everything it prints."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        """Everything it has printed so far."""
        return self.log.read_text(errors="replace")

    def failure(self, what: str) -> ChildError:
        """The error to raise when something is wrong with it."""
        tail = "\n".join(f"  | {line}" for line in self.output().splitlines()[-20:])
        return ChildError(f"{self.name} {what}. The end of its log, {self.log}:\n{tail or '  (empty)'}")


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


def wait_until[T](child: Child, ready: Callable[[], T | None], timeout_s: float) -> T:
    """Poll until `ready` gives something. Raises ChildError when the child ends, or the time is up, before that."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if child.process.poll() is not None:
            raise child.failure(f"ended with {child.process.returncode}")
        if (result := ready()) is not None:
            return result
        time.sleep(0.02)
    raise child.failure(f"is not ready after {timeout_s:.0f} s")


def stop(children: Iterable[Child], grace_s: float = GRACE_S) -> None:
    """Ask each child to end, one after the other, and kill what has not ended in time, or was left by one that has."""
    for child in children:
        _signal(child.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(grace_s)
        kill(child)


def kill(child: Child) -> None:
    """End a child, and what it has started, without a chance to clean up."""
    _signal(child.process.pid, signal.SIGKILL)
    child.process.wait()


def identity(pid: int) -> str | None:
    """What tells a process from a later one with the same pid: when it began. None when there is no such process."""
    if Path("/proc/self/stat").exists():
        with contextlib.suppress(OSError):
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            state, began = after_name[0], after_name[19]  # proc(5), fields 3 and 22
            return None if state == "Z" else began
        return None
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def end_leftovers(began: Mapping[int, str], grace_s: float = GRACE_S) -> list[int]:
    """End the processes that still are what `began` says (pid -> identity); a reused pid is left alone."""
    ours = [pid for pid, when in began.items() if identity(pid) == when]
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + grace_s
        for pid in ours:
            if identity(pid) == began[pid]:
                _signal(pid, number)
        while any(identity(pid) == began[pid] for pid in ours) and time.monotonic() < deadline:
            time.sleep(0.05)
    return ours


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended, with all it started
        os.killpg(group, number)


def _tethered(command: Sequence[str]) -> list[str]:
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-ISc", _TETHER, str(os.getpid()), *command]
