"""`make run`: the gateway and all it needs, on this machine.

The rule: either everything runs, or nothing does and the last lines printed say why and what to change. What the user
has set, in the environment or in local.settings.json, wins over every default here.
"""

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from devtools import launch, local_config, processes
from devtools.azurite import ROOT
from devtools.launch import LOCAL, Family, LaunchError, say

RUN_INFO = LOCAL / "run.json"
APP_DEFAULTS = {
    "FUNCTIONS_WORKER_RUNTIME": "python",
    "AzureWebJobsDisableHomepage": "true",
    "TOLLGATE_CONFIG": str(LOCAL / "tollgate.toml"),
    "TOLLGATE_ROLLUP_SCHEDULE": "*/5 * * * * *",
}


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`.local/run.json`, for scripts: there from ready until stopped.

    None stands for what is not ours to know (the keys of an own TOLLGATE_CONFIG) or was not started (the simulator).
    """

    base_url: str
    openai_base_url: str
    api_key: str | None
    second_api_key: str | None
    admin_key: str
    usage_url: str
    simulator_url: str | None
    simulator_account_url: str | None
    storage_connection_string: str
    pids: dict[str, int]


class _Upstreams(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers, and whose keys open the gateway."""

    model: str
    simulator_url: str | None = None
    clients: tuple[local_config.LocalClient, ...] = ()


def main() -> int:
    """Run until told to stop. 0 after Ctrl-C or SIGTERM; 1 when something is in the way or a child ends by itself."""
    parser = argparse.ArgumentParser(prog="make run")
    parser.add_argument("--stop-with-parent", action="store_true", help="stop when make, which started this, is gone")
    options = parser.parse_args()
    wanted = _parents_wish() if options.stop_with_parent else lambda: True
    _interrupt_on_signals()
    try:
        with _only_one_here():
            _run(wanted)
        say("stopped")
    except KeyboardInterrupt:
        say("stopped")
    except LaunchError as error:
        say(str(error))
        return 1
    except processes.ChildError as error:
        say(f"{error}\nEverything else was stopped.")
        return 1
    return 0


def _run(wanted: Callable[[], bool]) -> None:
    family = Family()
    launch.end_leftovers()
    try:
        info, model = _start(family, launch.read_settings(ROOT / "local.settings.json", os.environ))
        local_config.write_private(RUN_INFO, msgspec.json.format(msgspec.json.encode(info)))
        print(_how_to_use(info, model), flush=True)
        family.watch(wanted)
    finally:
        RUN_INFO.unlink(missing_ok=True)
        family.stop()


def _start(family: Family, settings: Mapping[str, str]) -> tuple[RunInfo, str]:
    began = time.monotonic()
    port = launch.port(settings, "PORT", 7071) or launch.free_port()
    keys = local_config.load_keys(LOCAL / "keys.json")
    say("starting the storage, the upstream and the app ...")
    storage = launch.start_storage(family, settings)
    upstreams = _start_upstreams(family, settings, keys)
    defaults = {**APP_DEFAULTS, "TOLLGATE_ADMIN_KEY": keys.admin_key}
    app_settings = defaults | {name: value for name, value in settings.items() if value or name not in defaults}
    launch.start_app(family, port, app_settings | {"AzureWebJobsStorage": storage})
    say(f"ready in {time.monotonic() - began:.1f} s")
    base_url = f"http://{launch.HOST}:{port}"
    first, second = (client.key.text for client in upstreams.clients) if upstreams.clients else (None, None)
    info = RunInfo(
        base_url=base_url,
        openai_base_url=f"{base_url}/v1",
        api_key=first,
        second_api_key=second,
        admin_key=app_settings["TOLLGATE_ADMIN_KEY"],
        usage_url=f"{base_url}/usage",
        simulator_url=upstreams.simulator_url,
        simulator_account_url=upstreams.simulator_url and f"{upstreams.simulator_url}/_simulator/account",
        storage_connection_string=storage,
        pids={"launcher": os.getpid()} | {child.name: child.process.pid for child in family.children},
    )
    return info, upstreams.model


def _start_upstreams(family: Family, settings: Mapping[str, str], keys: local_config.LocalKeys) -> _Upstreams:
    if settings.get("TOLLGATE_CONFIG"):
        say("upstreams and clients: as your TOLLGATE_CONFIG says")
        return _Upstreams(model="gpt-4o")
    simulator_url = None
    upstream = local_config.choose_upstream(settings)
    if upstream is None:
        simulator_url = launch.start_simulator(family, settings)
        upstream = local_config.simulator_upstream(simulator_url, settings)
        say(f"upstream: the simulator at {simulator_url} (OPENAI_API_KEY=... make run for the real service)")
    else:
        say(f"upstream: {upstream.url}, the real service; it bills ({upstream.key[1:]}= make run for the simulator)")
    config = local_config.config_toml(upstream, keys.clients)
    local_config.write_private(LOCAL / "tollgate.toml", config.encode())
    return _Upstreams(model=upstream.models[0], simulator_url=simulator_url, clients=keys.clients)


def _how_to_use(info: RunInfo, model: str) -> str:
    key = info.api_key or "$TOLLGATE_KEY"
    curl = f"""curl -N {info.openai_base_url}/chat/completions \\
    -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]"""
    return f"""
  OpenAI base URL        {info.openai_base_url}
  Azure OpenAI endpoint  {info.base_url}
  Client key             {key}
  Usage                  {info.usage_url}
  Dashboard              {info.base_url}/dashboard
  Logs                   {(LOCAL / "logs").relative_to(ROOT)}/
  For scripts            {RUN_INFO.relative_to(ROOT)} (this and more: second client key, admin key, process ids)

  {curl.replace(" -N", "", 1)}}}'

  {curl}, "stream": true}}'

  from openai import OpenAI
  client = OpenAI(base_url="{info.openai_base_url}", api_key="{key}")
  print(client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "Hello"}}]))

  The usage so far:
  curl -H "Authorization: Bearer {key}" {info.usage_url}

Ctrl-C stops everything; what was recorded stays in .local/.
"""


@contextlib.contextmanager
def _only_one_here() -> Iterator[None]:
    """Hold the checkout's lock; the system lets go of it however we end. Raises LaunchError."""
    LOCAL.mkdir(exist_ok=True)
    with (LOCAL / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LaunchError(f"`make run` runs here already{_where()}. Stop that one first (Ctrl-C there)") from error
        yield


def _where() -> str:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        info = msgspec.json.decode(RUN_INFO.read_bytes(), type=RunInfo)
        return f": {info.base_url}, process {info.pids['launcher']}"
    return ""


def _parents_wish() -> Callable[[], bool]:
    """True while the process that started us lives and has not been interrupted.

    GNU make passes SIGTERM on but not SIGINT, which it takes for a Ctrl-C that we have received too; sent to make alone,
    it would wait for us for ever. What it does at once is to stop catching the signal, and that can be seen.
    """
    parent = os.getppid()
    was_caught = _catches_sigint(parent)
    return lambda: os.getppid() == parent and _catches_sigint(parent) == was_caught


def _catches_sigint(pid: int) -> bool:
    """From proc(5), the mask SigCgt; False where there is no such thing."""
    with contextlib.suppress(OSError):
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return bool(int(status["SigCgt"], 16) & 1 << (signal.SIGINT - 1))
    return False


def _interrupt_on_signals() -> None:
    """Make SIGINT and SIGTERM, and SIGHUP unless nohup has it ignored, end `main` once by KeyboardInterrupt."""
    ours = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ours.append(signal.SIGHUP)

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        for number in ours:
            signal.signal(number, signal.SIG_IGN)  # the children are being stopped: do not stop half-way
        raise KeyboardInterrupt

    for number in ours:
        signal.signal(number, interrupt)


if __name__ == "__main__":
    sys.exit(main())
