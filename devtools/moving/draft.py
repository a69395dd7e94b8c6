"""A configuration that is being written: its parts, the secrets that it refers to, and what could not be carried over."""

import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import msgspec
import tomli_w

from shared.core.clients import keys
from shared.core.configuration import Client, Configuration, Deployment, Model, Upstream, parse
from shared.core.money.prices import Price

_HEAD = """\
#:schema ./tollgate.schema.json
# Written by `python -m devtools.cli {command}`; yours from here on. `python -m devtools.cli config check FILE` reads it again.

"""


class Draft(msgspec.Struct, kw_only=True):
    """Grows while a source is read; hence not frozen."""

    upstreams: list[Upstream] = []
    models: list[Model] = []
    deployments: list[Deployment] = []
    prices: list[Price] = []
    clients: list[Client] = []
    settings: dict[str, str] = {}
    """App settings that the document refers to; empty where the value was not there to read."""
    new_keys: dict[str, str] = {}
    """The keys that were made, by client id: shown once."""
    notes: list[str] = []
    """What was not carried over, a sentence each."""

    def note(self, text: str) -> None:
        """Once."""
        if text not in self.notes:
            self.notes.append(text)

    def note_fields(self, what: str, fields: Mapping[str, Any], known: Iterable[str]) -> None:
        """That the fields which are not known were left out."""
        left = sorted(fields.keys() - {*known})
        if left:
            self.note(f"{what}: {', '.join(left)}")

    def add_client(self, client: Client, *, key: str | None = None) -> None:
        """With the key that it has, or with a new one where it has none, or one that could be guessed."""
        salt = secrets.token_bytes(16)
        try:
            kept = keys.adopt(key or "", salt)
        except ValueError as short:
            minted = keys.mint(secrets.token_bytes(keys.RANDOM_BYTES))
            kept, self.new_keys[client.id] = minted.hash, minted.text
            if key:
                self.note(f"The key of '{client.id}': {short}. It has a new one.")
        self.clients.append(msgspec.structs.replace(client, keys=(kept,)))


def toml(draft: Draft, command: str) -> str:
    """The document, with what differs from the defaults."""
    parts = ("upstreams", "models", "deployments", "prices", "clients")
    document = {name: [_plain(each) for each in getattr(draft, name)] for name in parts if getattr(draft, name)}
    return _HEAD.format(command=command) + tomli_w.dumps(document)


def checked(draft: Draft, text: str) -> Configuration:
    """What the gateway will read. Raises ConfigurationInvalid."""
    return parse(text, {name: value or "https://not.known.yet.example" for name, value in draft.settings.items()})


def setting_name(*words: str) -> str:
    """A name for an app setting: `EASTUS_KEY`."""
    return re.sub(r"[^A-Z0-9]+", "_", "_".join(words).upper()).strip("_")


def slug(text: str) -> str:
    """An id out of a name: `team-1` for `Team 1`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"


def unused(name: str, taken: Iterable[str]) -> str:
    """The name, with a number where it is taken."""
    names = {*taken}
    return next(each for each in (name, *(f"{name}-{n}" for n in range(2, 10_000))) if each not in names)


def host_of(url: str) -> str:
    """The first label of the host: what a resource is called."""
    return (urlsplit(url).hostname or url).partition(".")[0]


def _plain(value: msgspec.Struct) -> dict[str, Any]:
    """The fields that differ from their defaults, as TOML has them."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(value)}
    built = {name: getattr(value, name) for name in value.__struct_fields__ if getattr(value, name) != defaults[name]}
    return {name: _builtin(each) for name, each in built.items()}


def _builtin(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _plain(value)
    if isinstance(value, tuple):
        return [_builtin(each) for each in value]
    return msgspec.to_builtins(value, builtin_types=(Decimal, date))
