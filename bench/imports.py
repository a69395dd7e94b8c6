"""`make bench-imports`, or `python -m bench.imports`: how long function_app.py takes to load, and the app to answer first.

The rule: each figure is the least of several fresh processes, since whatever else the machine does can only add. `CPU` is the
process's own, and the one to trust on a busy machine. Without byte code is how a deployment begins that ships none.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bench import subjects
from bench.subjects import Upstream
from devtools.azurite import ROOT, Azurite

_TIMES = 5
_LOADED = (
    "import sys, time; began = time.perf_counter(); import {module}; "
    "print(time.perf_counter() - began, time.process_time(), len(sys.modules))"
)
MODULES = ("azure.functions", "azurefunctions.extensions.http.fastapi", "azure.storage.blob.aio", "function_app")


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading a module took, in seconds."""

    module: str
    byte_code: bool
    seconds: float
    cpu_s: float
    modules: int


def loaded(module: str, cache: Path, *, byte_code: bool, times: int = _TIMES) -> Loaded:
    """The best of so many processes."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env = kept | {"PYTHONPYCACHEPREFIX": str(cache if byte_code else cache / "none")}
    env |= {} if byte_code else {"PYTHONDONTWRITEBYTECODE": "1"}
    runs = [_once(module, env) for _ in range(times + byte_code)][byte_code:]  # the first one writes the byte code
    seconds, cpu_s, modules = (min(column) for column in zip(*runs, strict=True))
    return Loaded(module=module, byte_code=byte_code, seconds=seconds, cpu_s=cpu_s, modules=int(modules))


def _once(module: str, env: Mapping[str, str]) -> Sequence[float]:
    command = [sys.executable, "-c", _LOADED.format(module=module)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    return [float(number) for number in done.stdout.split()[-3:]]


def first_answers() -> Mapping[str, float]:
    """Seconds from the start of the dev host's process to the first whole answer, by subject."""
    named = {subject.name: subject for subject in subjects.SUBJECTS}
    found = {}
    with Azurite.start() as azurite, subjects.simulator(azurite.connection_string) as direct:
        upstream = Upstream(port=direct.port, storage=azurite.connection_string)
        for name in ("empty function", "Tollgate durable"):
            began = time.perf_counter()
            with named[name].start(upstream):  # returns when the first call has been answered
                found[name] = time.perf_counter() - began
    return found


def main() -> int:
    """Measures and prints."""
    print(f"{'':44}{'byte code':>10}{'seconds':>9}{'CPU s':>8}{'modules':>9}")
    with tempfile.TemporaryDirectory() as cache:
        for module in MODULES:
            for byte_code in (True, False):
                each = loaded(module, Path(cache), byte_code=byte_code)
                kind = "yes" if byte_code else "no"
                print(f"{module:44}{kind:>10}{each.seconds:>9.2f}{each.cpu_s:>8.2f}{each.modules:>9}")
    for name, seconds in first_answers().items():
        print(f"{name:44}from process start to first answer {seconds:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
