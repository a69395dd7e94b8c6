"""What is measured: each program, one process each, answering on a port of 127.0.0.1 what the simulator answers.

The rule: a subject is started alone, is handed on once it has answered a call, and is stopped before the next one starts.
What cannot be had on this machine says so by NotHere.
"""

import contextlib
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from azure.storage.queue import QueueClient

from bench.scenarios import CHAT, EMBEDDING, Scenario
from devtools import processes
from devtools.azurite import ROOT
from devtools.launch import HOST, free_port
from devtools.local_config import write_private
from shared.core.clients.keys import RANDOM_BYTES, MintedKey, mint

WORK = ROOT / ".local" / "bench"
LITELLM = "litellm[proxy]==1.106.2"
PORTKEY = "@portkey-ai/gateway@1.15.2"

_READY_S = 120.0
_UPSTREAM_KEY = "simulator-key"
_NGINX = """
daemon off; worker_processes 1; pid nginx.pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_max_body_size 100m; client_body_temp_path body; proxy_temp_path proxy;
  fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  upstream simulator {{ server 127.0.0.1:{upstream}; keepalive 128; }}
  server {{
    listen 127.0.0.1:{port}; keepalive_requests 10000000;
    location / {{ proxy_pass http://simulator; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""


class NotHere(Exception):
    """A subject that cannot be measured on this machine; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """What the subjects stand in front of."""

    port: int
    storage: str
    """The connection string of a Storage account."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A started subject. `session` is that of its processes."""

    port: int
    session: int
    headers: Mapping[str, str]
    has_work: Callable[[], bool] = lambda: False
    """Whether something that calls left behind is still to be done."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A name for the table, what is behind it, and how it is started."""

    name: str
    what: str
    start: Callable[[Upstream], contextlib.AbstractContextManager[Running]]
    asks_upstream: bool = True
    """Whether the simulator's pace reaches it."""
    share: float = 1.0
    """Of the calls: the slow are measured by fewer."""


@contextlib.contextmanager
def _started(
    name: str, command: list[str], port: int, headers: Mapping[str, str], env: Mapping[str, str] | None = None
) -> Iterator[Running]:
    log = WORK / "logs" / f"{name}.log"
    child = processes.start(name, command, log=log, env={**os.environ, **(env or {})}, cwd=ROOT)
    try:
        running = Running(port=port, session=child.process.pid, headers=headers)
        processes.wait_until(child, lambda: _answers(running), _READY_S)
        yield running
    finally:
        processes.stop([child])


def _answers(running: Running) -> bool | None:
    once = Scenario(name="ready", connections=1, calls=1)
    connection = http.client.HTTPConnection(HOST, running.port, timeout=10)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("POST", once.path, once.body, {**running.headers, "x-simulator-pace": once.pace})
        response = connection.getresponse()
        response.read()
        return response.status == http.client.OK or None
    return None


def _headers(key: str, **more: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {"authorization": f"Bearer {key}", "content-type": "application/json", **named}


def simulator(storage: str) -> contextlib.AbstractContextManager[Running]:
    """The upstream itself, which keeps no account; it is the baseline too. Needs no storage."""
    del storage
    port = free_port()
    command = [sys.executable, "-m", "devtools.simulator", "--no-account", "--port", str(port)]
    command += ["--tokens-per-second", "0", "--first-token-ms", "0"]
    return _started("simulator", command, port, _headers(_UPSTREAM_KEY))


@contextlib.contextmanager
def _nginx(upstream: Upstream) -> Iterator[Running]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise NotHere("nginx is not installed (Debian: apt-get install nginx-light)")
    folder, port = WORK / "nginx", free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nginx.conf").write_text(_NGINX.format(port=port, upstream=upstream.port))
    command = [program, "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
    with _started("nginx", command, port, _headers(_UPSTREAM_KEY)) as running:
        yield running


def _dev_host(
    name: str, app: Path, port: int, key: str, env: Mapping[str, str]
) -> contextlib.AbstractContextManager[Running]:
    command = [sys.executable, "-m", "devtools.devhost", "--app", str(app), "--port", str(port)]
    return _started(name, command, port, _headers(key), env)


def _empty(upstream: Upstream) -> contextlib.AbstractContextManager[Running]:
    env = {"AzureWebJobsStorage": upstream.storage}
    return _dev_host("empty", ROOT / "bench" / "apps" / "empty", free_port(), "none", env)


def _tollgate(
    recording: str, *, bare: bool = False
) -> Callable[[Upstream], contextlib.AbstractContextManager[Running]]:
    @contextlib.contextmanager
    def start(upstream: Upstream) -> Iterator[Running]:
        key = mint(secrets.token_bytes(RANDOM_BYTES))
        name = f"tollgate-{recording}" + ("-bare" if bare else "")
        prefix, port = name.replace("-", ""), free_port()
        env = {
            "AzureWebJobsStorage": upstream.storage,
            "TOLLGATE_PREFIX": prefix,
            "TOLLGATE_RECORDING": recording,
            "TOLLGATE_ROLLUP_SCHEDULE": "0 0 0 1 1 *",  # its work depends on the time, not on the calls
            "TOLLGATE_CONFIG": json.dumps(_configuration(upstream, key)),
        }
        if bare:
            command = [sys.executable, "-m", "bench.apps.bare", str(port)]
            with _started(name, command, port, _headers(key.text), env) as running:
                yield running
            return
        with (
            QueueClient.from_connection_string(upstream.storage, f"{prefix}-calls") as queue,
            _dev_host(name, ROOT, port, key.text, env) as running,
        ):
            # Messages count until the recorder has deleted them.
            yield replace(running, has_work=lambda: bool(queue.get_queue_properties().approximate_message_count))

    return start


def _configuration(upstream: Upstream, key: MintedKey) -> dict[str, object]:
    url = f"http://{HOST}:{upstream.port}/v1"
    hashed = {"id": key.hash.id, "salt": key.hash.salt, "hash": key.hash.hash}
    return {
        "upstreams": [{"name": "simulator", "kind": "openai", "url": url, "key": _UPSTREAM_KEY}],
        "deployments": [{"name": model, "model": model, "upstream": "simulator"} for model in (CHAT, EMBEDDING)],
        "clients": [{"id": "bench", "cost_center": "CC-1", "keys": [hashed]}],
    }


@contextlib.contextmanager
def _litellm(upstream: Upstream) -> Iterator[Running]:
    folder, port = WORK / "litellm", free_port()
    program = folder / "bin" / "litellm"
    if not program.exists():
        if (uv := shutil.which("uv")) is None:
            raise NotHere("LiteLLM is installed with uv, which is not on PATH")
        _install([uv, "venv", "--clear", "--python", sys.executable, str(folder)])
        _install([uv, "pip", "install", "--python", str(folder / "bin" / "python"), LITELLM])
    served = {"api_base": f"http://{HOST}:{upstream.port}/v1", "api_key": _UPSTREAM_KEY}
    config = {
        "model_list": [
            {"model_name": model, "litellm_params": {"model": f"openai/{model}", **served}}
            for model in (CHAT, EMBEDDING)
        ],
        "general_settings": {"master_key": "sk-bench", "forward_client_headers_to_llm_api": True},
        "litellm_settings": {"forward_client_headers_to_llm_api": True, "telemetry": False},
    }
    write_private(folder / "config.yaml", json.dumps(config).encode())  # JSON is YAML
    command = [str(program), "--config", str(folder / "config.yaml"), "--host", HOST, "--port", str(port)]
    command += ["--num_workers", "1", "--telemetry", "False"]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with _started("litellm", command, port, _headers("sk-bench"), env) as running:
        yield running


@contextlib.contextmanager
def _portkey(upstream: Upstream) -> Iterator[Running]:
    folder, port = WORK / "portkey", free_port()
    program = folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        _install(["npm", "install", "--prefix", str(folder), *quiet, PORTKEY])
    headers = _headers(
        _UPSTREAM_KEY,
        x_portkey_provider="openai",
        x_portkey_custom_host=f"http://{HOST}:{upstream.port}/v1",
        x_portkey_forward_headers="x-simulator-pace",
    )
    command = ["node", str(program), f"--port={port}", "--headless"]
    with _started(
        "portkey", command, port, headers, {"TRUSTED_CUSTOM_HOSTS": HOST, "NODE_ENV": "production"}
    ) as running:
        yield running


def _install(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NotHere(f"{command[0]} could not install it: {said[-1] if said else done.returncode}")


SUBJECTS = (
    Subject(name="nginx", what="as a plain proxy: the limit", start=_nginx),
    Subject(name="empty function", what="the dev host alone, no upstream", start=_empty, asks_upstream=False),
    Subject(
        name="Tollgate durable", what="the dev host, every answer waits for its record", start=_tollgate("durable")
    ),
    Subject(name="Tollgate fast", what="the dev host, recording behind the answers", start=_tollgate("fast")),
    Subject(name="bare durable", what="no host and no recorder: our own code", start=_tollgate("durable", bare=True)),
    Subject(name="bare fast", what="the same, recording behind the answers", start=_tollgate("fast", bare=True)),
)
PEERS = (
    Subject(name="Portkey", what=f"{PORTKEY}, records nothing", start=_portkey),
    Subject(name="LiteLLM", what=f"{LITELLM}, one worker, records nothing", start=_litellm, share=0.2),
)
"""What a user would otherwise run."""
