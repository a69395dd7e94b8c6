"""The whole app, running: real host, real Storage emulator, the simulator as its upstream."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from azure.storage.blob.aio import ContainerClient

from devtools.azurite import Azurite
from devtools.devhost.client import DevHost, Tools
from devtools.simulator import Simulator
from shared.core.clients.keys import RANDOM_BYTES, MintedKey, mint
from shared.core.recording import archive
from shared.core.recording.archive import ArchivedCall

APP = Path(__file__).resolve().parent.parent
ADMIN_KEY = "admin-key-of-the-tests"
UPSTREAM_KEY = "upstream-key-of-the-tests"
API_VERSION = "2025-04-01-preview"
MODELS = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-5",
    "o4-mini",
    "text-embedding-3-small",
    "gpt-image-1",
    "dall-e-3",
    "whisper-1",
    "gpt-4o-transcribe",
    "gpt-4o-mini-tts",
    "omni-moderation-latest",
    "sora-2",
)
CLIENTS = ("team-a", "team-b")


@dataclass(frozen=True)
class Stack:
    """One running app and what a test needs to talk to it."""

    host: DevHost
    simulator: Simulator
    azurite: Azurite
    prefix: str
    keys: Mapping[str, MintedKey]

    def key(self, client_id: str = "team-a") -> str:
        return self.keys[client_id].text

    async def archived(self, call_id: str) -> ArchivedCall:
        """What the archive holds of a call, once it is there."""
        container = ContainerClient.from_connection_string(self.azurite.connection_string, f"{self.prefix}-archive")
        async with container:
            for _ in range(200):
                if await container.get_blob_client(archive.blob_name(call_id)).exists():
                    download = await container.download_blob(archive.blob_name(call_id))
                    return archive.decode(await download.readall())
                await asyncio.sleep(0.05)
        raise AssertionError(f"call {call_id} never reached the archive")

    async def usage(self, key: str = ADMIN_KEY, **parameters: str) -> dict[str, Any]:
        """`GET /usage`."""
        async with httpx.AsyncClient(base_url=self.host.base_url) as http:
            answer = await http.get("/usage", params=parameters, headers={"authorization": f"Bearer {key}"})
        answer.raise_for_status()
        return dict(answer.json())

    async def usage_when(
        self, is_right: Callable[[dict[str, Any]], bool], key: str = ADMIN_KEY, **parameters: str
    ) -> dict[str, Any]:
        """The usage report as soon as `is_right` holds of it; fails, showing the last one, where it never does."""
        report: dict[str, Any] = {}
        for _ in range(300):
            await self.host.invoke("roll_up_usage")
            report = await self.usage(key, **parameters)
            if is_right(report):
                return report
            await asyncio.sleep(0.1)
        raise AssertionError(f"usage never became right: {report['total']}")


def configuration(simulator: Simulator, keys: Mapping[str, MintedKey], kind: str = "openai") -> dict[str, Any]:
    """Every model on one upstream of the given kind."""
    return {
        "upstreams": [upstream_of(simulator, "simulator", kind)],
        "deployments": [{"name": model, "model": model, "upstream": "simulator"} for model in MODELS],
        "clients": [
            {"id": client_id, "cost_center": f"CC-{client_id}", "keys": [key_hash(keys[client_id])]}
            for client_id in CLIENTS
        ],
    }


def upstream_of(simulator: Simulator, name: str, kind: str, resource: str = "default") -> dict[str, Any]:
    """One of the simulator's resources."""
    url = simulator.url(resource) + ("/v1" if kind == "openai" else "")
    version = {"api_version": API_VERSION} if kind == "azure" else {}
    return {"name": name, "kind": kind, "url": url, "key": "$UPSTREAM_KEY", **version}


def key_hash(key: MintedKey) -> dict[str, str]:
    return {"id": key.hash.id, "salt": key.hash.salt, "hash": key.hash.hash}


@contextlib.asynccontextmanager
async def running(
    azurite: Azurite,
    simulator: Simulator,
    prefix: str,
    document: Mapping[str, Any] | None = None,
    *,
    app: Path = APP,
    tools: Tools | None = None,
    **settings: str,
) -> AsyncIterator[Stack]:
    """Starts the app; parts of a configuration `document`, and further settings, win over the usual ones. `app`: another
    folder with a function_app.py that is to be hosted. `tools`: what the host runs on, where that is not what the tests do."""
    keys = {client_id: mint(secrets.token_bytes(RANDOM_BYTES)) for client_id in CLIENTS}
    usual = {
        "AzureWebJobsStorage": azurite.connection_string,
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "TOLLGATE_PREFIX": prefix,
        "TOLLGATE_ADMIN_KEY": ADMIN_KEY,
        "TOLLGATE_ROLLUP_SCHEDULE": "* * * * * *",
        "TOLLGATE_CONFIG": json.dumps(configuration(simulator, keys) | dict(document or {})),
        "UPSTREAM_KEY": UPSTREAM_KEY,
    }
    # A message that a killed host had taken comes back after the lease: minutes in Azure, seconds here.
    arguments = ("--queue-lease", "3")
    async with DevHost.start(app, settings=usual | settings, arguments=arguments, tools=tools) as host:
        yield Stack(host=host, simulator=simulator, azurite=azurite, prefix=prefix, keys=keys)


__all__ = [
    "ADMIN_KEY",
    "API_VERSION",
    "CLIENTS",
    "MODELS",
    "UPSTREAM_KEY",
    "Stack",
    "configuration",
    "running",
    "upstream_of",
]
