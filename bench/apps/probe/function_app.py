"""The whole app with one function more: `GET /probe` says what the worker process holds.

{"rss_bytes", "references": requests that the runtime has not let go of, "tasks": of the event loop}, once what can be given
back is given back.
"""

import asyncio
import ctypes
import gc
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.web import json_response

_ROOT = Path(__file__).resolve().parents[3]
_spec = spec_from_file_location("tollgate_app", _ROOT / "function_app.py")
assert _spec is not None
assert _spec.loader is not None
_module = module_from_spec(_spec)
_spec.loader.exec_module(_module)

app: func.FunctionApp = _module.app


@app.route("probe", methods=["GET"])
async def probe(req: Request) -> Response:  # noqa: ARG001 - the binding wants it
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    statm = Path("/proc/self/statm").read_text(encoding="ascii").split()  # noqa: ASYNC240 - no disk is behind it
    coordinator = sys.modules["azure_functions_runtime.http_v2"].http_coordinator
    references = len(coordinator._context_references) - 1  # noqa: SLF001 - no public way; one is this request's own
    held = {"rss_bytes": int(statm[1]) * 4096, "references": references, "tasks": len(asyncio.all_tasks())}
    return json_response(held)
