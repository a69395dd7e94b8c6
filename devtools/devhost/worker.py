"""The worker process. The rule: one event loop holds the runtime, the web server and the listeners, as in Azure.

Started by the supervisor only: `python -m devtools.devhost.worker FD ...`, with the listening socket as FD and a pipe
as standard input, whose end means stop.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, override

import uvicorn

from devtools.devhost import runtime
from devtools.devhost.config import ConfigError, HostConfig, apply_settings, host_id, read_host_json, read_http_options
from devtools.devhost.event_hubs import EventHubListener
from devtools.devhost.front import Front
from devtools.devhost.invocations import Invocations
from devtools.devhost.listener import Listener, keep_running
from devtools.devhost.options import BAD_APP_EXIT_CODE, Options, parse
from devtools.devhost.queues import QueueListener
from devtools.devhost.routes import RouteError, RouteTable, compile_route
from devtools.devhost.runtime import Function
from devtools.devhost.timers import TimerListener

_DEFAULT_METHODS = ("GET", "POST")
_KESTREL_KEEP_ALIVE_S = 130
_log = logging.getLogger("devhost")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be served: checked, but nothing of it started."""

    routes: RouteTable[Function]
    listeners: Mapping[str, Listener]


class _Server(uvicorn.Server):
    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: the supervisor decides about the end."""
        yield


async def run(options: Options, listener: socket.socket) -> None:
    """Serve until the end of standard input, then end the process. Raises ConfigError, RouteError for an unfit app."""
    apply_settings(options.app, options.port)
    host = read_host_json(options.app)
    app = await runtime.load(options.app)
    invocations = Invocations(host.function_timeout_s)
    plan = make_plan(app, host, options, invocations)
    _print_functions(plan, options)
    http = read_http_options(os.environ, options.idle_timeout_s)
    front = Front(app.web_app, plan.routes, invocations, http, _ByName(app, plan, invocations), app.authority)
    stopping = asyncio.Event()
    _stop_at_end_of_input(asyncio.get_running_loop(), stopping, options.grace_s)
    server = _Server(_server_config(front))
    serving = [asyncio.create_task(server.serve([listener]))]
    serving += [asyncio.create_task(keep_running(one, stopping)) for one in plan.listeners.values()]
    await stopping.wait()
    server.should_exit = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(options.grace_s):
            await asyncio.wait(serving)
            await invocations.drain()
    _end_process(0)  # here, for the end of the loop would cancel functions, and Azure does not do that


def make_plan(app: runtime.App, host: HostConfig, options: Options, invocations: Invocations) -> Plan:
    """Raises ConfigError, RouteError."""
    settings = os.environ
    known_as = host_id(options.app, settings)
    make: dict[str, Callable[[Function], Listener]] = {
        "timerTrigger": lambda function: TimerListener(function, settings, invocations, known_as),
        "queueTrigger": lambda function: QueueListener(
            function, settings, invocations, host.queues, options.queue_lease_s
        ),
        "eventHubTrigger": lambda function: EventHubListener(function, settings, invocations, host.event_hubs),
    }
    routes, listeners = [], {}
    for function in app.functions:
        if function.trigger_type == "httpTrigger":
            methods = function.trigger.get("methods") or _DEFAULT_METHODS
            route = function.trigger.get("route")
            routes.append(compile_route(function.name, route, methods, host.route_prefix, function))
        elif function.trigger_type in make:
            listeners[function.name] = make[function.trigger_type](function)
        elif function.trigger_type != "warmupTrigger":  # which the real host fires on scale-out only
            raise ConfigError(f"{function.name}: this host has no trigger of the type {function.trigger_type}")
    if routes and app.web_app is None:
        raise ConfigError("this host serves HTTP functions of azurefunctions.extensions.http.fastapi only")
    return Plan(routes=RouteTable(routes), listeners=listeners)


class _ByName:
    """Runs a function as `POST /admin/functions/{name}` asks: at once, beside what its listener does."""

    def __init__(self, app: runtime.App, plan: Plan, invocations: Invocations) -> None:
        self._names = {function.name.lower() for function in app.functions}
        self._listeners = {name.lower(): listener for name, listener in plan.listeners.items()}
        self._invocations = invocations
        self._running: set[asyncio.Task[bool]] = set()

    def __call__(self, name: str, text: str) -> None:
        if name.lower() not in self._names:
            raise KeyError(name)
        if (listener := self._listeners.get(name.lower())) is None:
            raise ValueError(f"{name} has no input to be given here")
        run = self._invocations.trigger(listener.function, listener.manual_input(text))
        task = asyncio.get_running_loop().create_task(run)
        self._running.add(task)
        task.add_done_callback(self._running.discard)


def _server_config(front: Front) -> uvicorn.Config:
    return uvicorn.Config(
        front,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KESTREL_KEEP_ALIVE_S,
    )


def _print_functions(plan: Plan, options: Options) -> None:
    address = f"http://{options.host}:{options.port}"
    lines = [
        f"{route.name}: [{','.join(sorted(route.methods))}] {address}/{route.template}" for route in plan.routes.routes
    ] + [f"{name}: {listener.function.trigger_type}" for name, listener in plan.listeners.items()]
    print("\nFunctions:\n", *(f"\n\t{line}\n" for line in lines), f"\nListening at {address}", flush=True)


def _stop_at_end_of_input(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event, grace_s: float) -> None:
    def watch() -> None:
        while os.read(0, 4096):
            pass
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(stopping.set)
        threading.Event().wait(grace_s + 1)
        os._exit(0)

    threading.Thread(target=watch, name="end-of-input", daemon=True).start()


def _set_up_logging(*, verbose: bool) -> None:
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.DEBUG if verbose else logging.INFO,
        format="[%(asctime)s.%(msecs)03d] %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    if not verbose:
        # The Azure SDKs and the runtime (logger azure.functions) write several lines for every call.
        for name in ("azure", "uvicorn"):
            logging.getLogger(name).setLevel(logging.WARNING)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    # Ctrl-C and a signal to the process group reach this process too; the supervisor answers them for both.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    options = parse(arguments[1:])
    _set_up_logging(verbose=options.verbose)
    try:
        asyncio.run(run(options, socket.socket(fileno=int(arguments[0]))))
    except (ConfigError, RouteError) as error:
        _log.critical("%s", error)
        return BAD_APP_EXIT_CODE
    return 0


def _end_process(code: int) -> NoReturn:
    logging.shutdown()
    os._exit(code)  # threads of the app's synchronous functions must not hold the process up


if __name__ == "__main__":
    _end_process(main(sys.argv[1:]))
