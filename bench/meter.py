"""CPU time and memory of a subject's processes, from proc(5). The rule: where there is no /proc there are no numbers."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

_PROC = Path("/proc")
_POLL_S = 0.5
_QUIET_SHARE = 0.08
"""Of one core: an idle host looks at its queue and its timers."""


def cpu_s(session: int) -> float | None:
    """CPU seconds that all living processes of a session (setsid(2)) have used; None where nobody knows."""
    if not _PROC.is_dir():
        return None
    return sum(int(stat[11]) + int(stat[12]) for _, stat in _processes(session)) / os.sysconf("SC_CLK_TCK")


def peak_rss_mb(session: int) -> float | None:
    """The sum of the highest resident sizes that those processes have had, in MB of 10^6 bytes."""
    if not _PROC.is_dir():
        return None
    return sum(_peak_kib(pid) for pid, _ in _processes(session)) * 1024 / 1e6


def settled(session: int, has_work: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until no work is left and the processes do no more than idle ones; False when that is never so."""
    deadline = time.monotonic() + timeout_s
    before = cpu_s(session)
    if before is None:
        return False
    while time.monotonic() < deadline:
        time.sleep(_POLL_S)
        now = cpu_s(session) or 0.0
        if now - before < _QUIET_SHARE * _POLL_S and not has_work():
            return True
        before = now
    return False


def _processes(session: int) -> list[tuple[int, list[str]]]:
    """Pid and the fields from `state` (field 3) on, of each process of the session."""
    found = []
    for entry in _PROC.iterdir():
        with contextlib.suppress(OSError, ValueError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
            if stat and int(stat[3]) == session:
                found.append((int(entry.name), stat))
    return found


def _peak_kib(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
