"""The one module that touches the internals of `azure-functions-runtime`; written for 1.3.0, and it checks that.

What it leans on, and why:

- `handle_event.worker_init_request`, `functions_metadata_request` and `invocation_request`: what the Azure worker calls
  for the gRPC messages of the same names. They take any object with the right attributes, and build their answers from
  the `protos` module they are handed, so plain classes stand in for protobuf here.
- `handle_event.initialize_http_server`, wrapped while indexing: it would start uvicorn on a second port. The web app
  that it builds (the extension's FastAPI with one catch-all route) is kept and called in-process, which saves a hop.
  The extension's `WebServer` is replaced for that call, not subclassed: its metaclass allows one web extension only.
- The runtime keeps module-level state, so a process can hold one app only.

Message shapes: https://github.com/Azure/azure-functions-language-worker-protobuf
"""

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from azure_functions_runtime import handle_event, start_threadpool_executor
from azure_functions_runtime.http_v2 import HttpV2Registry
from azure_functions_runtime.version import VERSION

from devtools.devhost.config import ConfigError

WRITTEN_FOR = "1.3.0"


class Message(SimpleNamespace):
    """Any message without behaviour."""


class TypedData(SimpleNamespace):
    """A union: one keyword of string, bytes, json, http, collection_bytes, collection_string, collection_sint64."""

    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802  # protobuf's name
        """Name the field that is set."""
        return next(iter(self.__dict__), None)


class _Input(SimpleNamespace):
    def WhichOneof(self, _group: str) -> str:  # noqa: N802  # protobuf's name
        return "data"


class _StatusResult(SimpleNamespace):
    Failure, Success = 0, 1


class _BindingInfo(SimpleNamespace):
    undefined = 0
    out, inout = 1, 2


_PROTOS = SimpleNamespace(
    BindingInfo=_BindingInfo,
    StatusResult=_StatusResult,
    TypedData=TypedData,
    **dict.fromkeys(
        (
            "FunctionMetadataResponse",
            "InvocationResponse",
            "ParameterBinding",
            "RpcException",
            "RpcFunctionMetadata",
            "RpcRetryOptions",
            "WorkerInitResponse",
            "WorkerMetadata",
        ),
        Message,
    ),
)
_NOTHING = TypedData()


def json_data(value: object) -> TypedData:
    """What the host sends for numbers, times and objects: their JSON."""
    return TypedData(json=json.dumps(value))


def bytes_array(values: Sequence[bytes]) -> TypedData:
    """What the host sends for byte[][]."""
    return TypedData(collection_bytes=Message(bytes=list(values)))


def string_array(values: Sequence[str | None]) -> TypedData:
    """What the host sends for string[]: empty entries are left out (ToRpcStringArray), so indexes shift."""
    return TypedData(collection_string=Message(string=[value for value in values if value]))


def long_array(values: Sequence[int]) -> TypedData:
    """What the host sends for long[]."""
    return TypedData(collection_sint64=Message(sint64=list(values)))


def route_data(params: Mapping[str, str]) -> TypedData:
    """What the host sends for an HTTP trigger when the worker serves HTTP itself: route parameters only."""
    return TypedData(http=Message(method="", url="", headers={}, body=_NOTHING, params=params, query={}))


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """`@app.retry`; max_retries -1 is for ever. A fixed delay has minimum == maximum, in seconds."""

    max_retries: int
    minimum_s: float
    maximum_s: float


@dataclass(frozen=True, kw_only=True)
class Function:
    """One indexed function. `trigger` is its trigger binding as in function.json, settings not yet resolved."""

    name: str
    id: str
    trigger: Mapping[str, Any]
    retry: RetryPolicy | None

    @property
    def trigger_type(self) -> str:
        """For example `httpTrigger`."""
        return str(self.trigger["type"])


@dataclass(frozen=True, kw_only=True)
class Call:
    """What one InvocationRequest carries."""

    id: str
    function: Function
    data: TypedData
    metadata: Mapping[str, TypedData]
    trace_parent: str = ""
    retry_count: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an invocation ended. `escaped`: the error came out of the runtime, so no HTTP response was set either."""

    error: str | None = None
    escaped: bool = False


@dataclass(frozen=True, kw_only=True)
class App:
    """An indexed app. `web_app` is the ASGI app of its HTTP functions; `authority` is the host:port it believes in."""

    functions: tuple[Function, ...]
    web_app: Any | None
    authority: str


async def load(app_dir: Path) -> App:
    """Index the app in this process and change into its folder. Raises ConfigError when it does not load."""
    if VERSION != WRITTEN_FOR:
        raise ConfigError(f"azure-functions-runtime {VERSION} is installed; this host is written for {WRITTEN_FOR}")
    sys.path.insert(0, str(app_dir))
    os.chdir(app_dir)
    start_threadpool_executor()
    web_apps: list[Any] = []
    original = handle_event.initialize_http_server
    handle_event.initialize_http_server = lambda host: _without_listening(original, host, web_apps)
    try:
        answer = await handle_event.worker_init_request(_init_request(app_dir))
    finally:
        handle_event.initialize_http_server = original
    if answer.result.status != _StatusResult.Success:
        raise ConfigError(f"{answer.result.exception.message}\n{answer.result.exception.stack_trace}")
    indexed = await handle_event.functions_metadata_request(None)
    if indexed.function_metadata_results is None:
        raise ConfigError(f"{app_dir} has no function_app.py")
    return App(
        functions=tuple(_function(metadata) for metadata in indexed.function_metadata_results),
        web_app=web_apps[0] if web_apps else None,
        authority=answer.capabilities.get("HttpUri", "").removeprefix("http://"),
    )


async def invoke(call: Call) -> Outcome:
    """Run one invocation to its end. Never raises, except when this task itself is cancelled."""
    request = Message(
        invocation_id=call.id,
        function_id=call.function.id,
        input_data=[_Input(name=call.function.trigger["name"], data=call.data)],
        trigger_metadata=call.metadata,
        trace_context=Message(trace_parent=call.trace_parent, trace_state="", attributes={}),
        retry_context=_retry_context(call),
    )
    try:
        answer = await handle_event.invocation_request(Message(request=Message(invocation_request=request)))
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return Outcome(error=repr(error), escaped=True)
    except Exception as error:  # noqa: BLE001  # a conversion can raise anything, and that is a failed invocation
        return Outcome(error=f"{type(error).__name__}: {error}", escaped=True)
    if answer.result.status != _StatusResult.Success:
        return Outcome(error=f"{answer.result.exception.message}\n{answer.result.exception.stack_trace}")
    return Outcome()


def _init_request(app_dir: Path) -> Message:
    init = Message(capabilities={}, function_app_directory=str(app_dir))
    return Message(request=Message(worker_init_request=init), properties={"host": "127.0.0.1", "protos": _PROTOS})


def _without_listening(original: Any, host: str, web_apps: list[Any]) -> Any:
    extension: Any = importlib.import_module(HttpV2Registry.ext_base().ModuleTrackerMeta.get_module())

    class Captured:
        def __init__(self, _host: str, _port: int, web_app: Any) -> None:
            web_apps.append(web_app.get_app())

        async def serve(self) -> None: ...

    original_server, extension.WebServer = extension.WebServer, Captured
    try:
        return original(host)
    finally:
        extension.WebServer = original_server


def _function(metadata: Any) -> Function:
    bindings = [json.loads(binding) for binding in metadata.raw_bindings]
    triggers = [binding for binding in bindings if str(binding["type"]).lower().endswith("trigger")]
    others = [binding["type"] for binding in bindings if binding not in triggers and binding["type"] != "http"]
    if others:
        raise ConfigError(f"{metadata.name}: this host has no binding of the type {others[0]}; use the SDK")
    return Function(
        name=metadata.name, id=metadata.function_id, trigger=triggers[0], retry=_retry_policy(metadata.retry_options)
    )


def _retry_policy(options: Any | None) -> RetryPolicy | None:
    if options is None:
        return None
    fixed: timedelta | None = getattr(options, "delay_interval", None)
    minimum = options.minimum_interval if fixed is None else fixed
    maximum = options.maximum_interval if fixed is None else fixed
    return RetryPolicy(
        max_retries=options.max_retry_count, minimum_s=minimum.total_seconds(), maximum_s=maximum.total_seconds()
    )


def _retry_context(call: Call) -> Message:
    policy = call.function.retry
    return Message(retry_count=call.retry_count, max_retry_count=policy.max_retries if policy else 0, exception=None)
