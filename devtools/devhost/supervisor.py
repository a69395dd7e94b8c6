"""The parent process. The rule: it holds the port and one worker process, and it always knows why either ends.

The listening socket is made here and inherited, so that connections wait, not fail, while a worker process starts
again. The worker's standard input is a pipe from here: when this process ends, however it ends, the worker reads the end
of the pipe and stops. Closing it on purpose is how a worker is asked to stop. POSIX only.
"""

import dataclasses
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from devtools.devhost.options import BAD_APP_EXIT_CODE, TIMEOUT_EXIT_CODE, Options

_ROOT = Path(__file__).resolve().parents[2]
_STOP = (signal.SIGTERM, signal.SIGINT)
_STEADY_S = 30.0
_LONGEST_DELAY_S = 10.0
_NOT_ITS_FAULT = (TIMEOUT_EXIT_CODE, -signal.SIGKILL)


def supervise(options: Options) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, or 1 when the app or the port cannot be had."""
    # Blocked, and then waited for: no signal is lost between a look at the worker and the wait for the next event.
    signal.pthread_sigmask(signal.SIG_BLOCK, (*_STOP, signal.SIGCHLD, signal.SIGALRM))
    try:
        listener = socket.create_server((options.host, options.port), backlog=1024)
    except OSError as error:
        print(f"Port {options.port} is unavailable: {error.strerror}", flush=True)
        return 1
    with listener:
        # Inherited by each connection: asyncio sets it only on sockets that name their protocol, and these do not.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _keep_worker(dataclasses.replace(options, port=listener.getsockname()[1]), listener)


def _keep_worker(options: Options, listener: socket.socket) -> int:
    delay = 0.1
    while True:
        worker, started = _start_worker(options, listener), time.monotonic()
        if not _ends_by_itself(worker):
            _stop(worker, options.grace_s)
            return 0
        if worker.returncode == BAD_APP_EXIT_CODE:
            return 1
        steady = time.monotonic() - started > _STEADY_S or worker.returncode in _NOT_ITS_FAULT
        delay = 0.1 if steady else min(2 * delay, _LONGEST_DELAY_S)
        print(f"The worker process ended with {worker.returncode}, starting again in {delay:.1f} s", flush=True)
        if not _sleep(delay):
            return 0


def _start_worker(options: Options, listener: socket.socket) -> subprocess.Popen[bytes]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "devtools.devhost.worker", str(listener.fileno()), *options.as_arguments()],
        stdin=subprocess.PIPE,
        pass_fds=[listener.fileno()],
        cwd=_ROOT,
    )
    print(f"Worker process {worker.pid} started", flush=True)
    return worker


def _ends_by_itself(worker: subprocess.Popen[bytes]) -> bool:
    """Wait for the worker's end (True) or for a signal to stop (False)."""
    while worker.poll() is None:
        if signal.sigwait((*_STOP, signal.SIGCHLD)) in _STOP:
            return False
    return True


def _stop(worker: subprocess.Popen[bytes], grace_s: float) -> None:
    assert worker.stdin is not None
    worker.stdin.close()
    try:
        worker.wait(grace_s + 2)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def _sleep(seconds: float) -> bool:
    """False when a signal to stop came instead."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    return signal.sigwait((*_STOP, signal.SIGALRM)) not in _STOP
