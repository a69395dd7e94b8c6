"""The configuration that `make run` gives the app. The rule: keys are made once per checkout, the rest at every start.

`choose_upstream` and `config_toml` are pure; `load_keys` and `write_private` touch files, which only their owner reads.
"""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shared.core.clients import keys

MODELS = (
    "gpt-4o",
    "gpt-4o-mini",
    "o4-mini",
    "gpt-5",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "gpt-image-1",
    "whisper-1",
    "gpt-4o-mini-tts",
    "omni-moderation-latest",
)


class LocalClient(msgspec.Struct, frozen=True, kw_only=True):
    """A client of the local gateway, with its key in clear: it is to be copied and pasted."""

    id: str
    name: str
    cost_center: str
    key: keys.MintedKey


class LocalKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of one checkout."""

    clients: tuple[LocalClient, LocalClient]
    admin_key: str


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """Where the local gateway sends calls. A `key` that begins with $ names the setting that holds it."""

    name: str
    kind: str  # azure-v1 | openai
    url: str
    key: str
    models: tuple[str, ...]


def load_keys(path: Path) -> LocalKeys:
    """Read the checkout's keys; the first time, make them."""
    if not path.exists():
        write_private(path, msgspec.json.format(msgspec.json.encode(_new_keys())))
    return msgspec.json.decode(path.read_bytes(), type=LocalKeys)


def choose_upstream(settings: Mapping[str, str]) -> Upstream | None:
    """The real service that the settings name: Azure OpenAI before OpenAI. None means the simulator."""
    models = _models(settings)
    if settings.get("AZURE_OPENAI_ENDPOINT") and settings.get("AZURE_OPENAI_API_KEY"):
        root = settings["AZURE_OPENAI_ENDPOINT"].split("/openai")[0].rstrip("/")
        return Upstream(name="azure", kind="azure-v1", url=root, key="$AZURE_OPENAI_API_KEY", models=models)
    if settings.get("OPENAI_API_KEY"):
        url = settings.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        return Upstream(name="openai", kind="openai", url=url.rstrip("/"), key="$OPENAI_API_KEY", models=models)
    return None


def simulator_upstream(url: str, settings: Mapping[str, str]) -> Upstream:
    """The simulator, at its root address."""
    return Upstream(name="simulator", kind="openai", url=f"{url}/v1", key="simulator-key", models=_models(settings))


def config_toml(upstream: Upstream, clients: tuple[LocalClient, ...]) -> str:
    """The configuration file: one upstream, one deployment per model, the clients with the hashes of their keys."""
    tables = [_table("upstreams", name=upstream.name, kind=upstream.kind, url=upstream.url, key=upstream.key)]
    tables += [_table("deployments", name=model, model=model, upstream=upstream.name) for model in upstream.models]
    for client in clients:
        tables.append(_table("clients", id=client.id, name=client.name, cost_center=client.cost_center))
        tables.append(_table("clients.keys", **msgspec.structs.asdict(client.key.hash)))
    return "# Written by `make run` at every start. For your own file, set TOLLGATE_CONFIG.\n\n" + "\n".join(tables)


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)


def _models(settings: Mapping[str, str]) -> tuple[str, ...]:
    named = (name.strip() for name in settings.get("TOLLGATE_MODELS", "").split(","))
    return tuple(dict.fromkeys(name for name in named if name)) or MODELS


def _new_keys() -> LocalKeys:
    def client(letter: str, cost_center: str) -> LocalClient:
        key = keys.mint(secrets.token_bytes(keys.RANDOM_BYTES))
        return LocalClient(id=f"team-{letter.lower()}", name=f"Team {letter}", cost_center=cost_center, key=key)

    return LocalKeys(
        clients=(client("A", "CC-100"), client("B", "CC-200")),
        admin_key=f"tga-{secrets.token_urlsafe(32)}",
    )


def _table(array: str, /, **values: str) -> str:
    # A JSON string of printable text is a TOML basic string too.
    return f"[[{array}]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
