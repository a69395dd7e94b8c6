"""The configuration: who may call, which models there are and where they run.

Rule: a Configuration that exists is valid. Everything that could be wrong with the document is found here, all of it at
once, and named by where it stands and what would mend it.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from shared.core.keys import KeyHash

PositiveInt = Annotated[int, msgspec.Meta(ge=1)]

_SETTING_REFERENCE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")


class ConfigurationInvalid(Exception):
    """The document cannot be used. `problems` says why, a sentence each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class UpstreamKind(StrEnum):
    """How an upstream is spoken to."""

    OPENAI = "openai"
    """OpenAI or any server with its API: `{url}/chat/completions`, `Authorization: Bearer`."""
    AZURE = "azure"
    """Azure OpenAI with an api-version: `{url}/openai/deployments/{deployment}/chat/completions`, `api-key`."""
    AZURE_V1 = "azure-v1"
    """Azure OpenAI's version-less API: `{url}/openai/v1/chat/completions`, `api-key`."""


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, by keyword, and a misspelt name is an error."""


class Upstream(_Value, frozen=True):
    """One upstream resource: an address and the credential for it."""

    name: str
    kind: UpstreamKind
    url: str
    """For kind `openai` up to and with `/v1`; for the Azure kinds the resource's root."""
    key: str
    """The upstream's key. In the document usually `$NAME`: the setting that holds it."""
    api_version: str = "2024-10-21"
    """Kind `azure` only: used when the client names none."""
    region: str | None = None


class Deployment(_Value, frozen=True):
    """One model deployment on one upstream."""

    name: str
    model: str
    """What clients ask for. The deployments of one model are its pool."""
    upstream: str
    deployment: str = ""
    """The upstream's name for it. Default: the model's name."""
    priority: int = 0
    """The lowest is tried first: provisioned throughput 0, what it spills over to 1."""
    weight: PositiveInt = 1
    """Its share of the calls among those of the same priority, for the strategy `weighted`."""


class Strategy(StrEnum):
    """How a pool chooses among deployments of the same priority."""

    WEIGHTED = "weighted"
    """At random, by weight."""
    LEAST_OUTSTANDING = "least-outstanding"
    """The one with the fewest calls under way."""
    FASTEST = "fastest"
    """The better of two taken at random, by a decaying average of the time to the first byte."""


class Model(_Value, frozen=True):
    """How a model's pool is used. A model that is not listed has the defaults."""

    name: str
    aliases: tuple[str, ...] = ()
    """Other names that clients may ask for it by."""
    strategy: Strategy = Strategy.WEIGHTED
    retry_unknown: bool = False
    """Whether a request that may have reached an upstream, but got no answer, is sent to another. It may then be billed twice."""


class OnDisconnect(StrEnum):
    """What happens to a stream whose client hangs up."""

    DRAIN = "drain"
    """It is read to its end, for its true usage."""
    CANCEL = "cancel"
    """It is stopped, and what was produced is counted and marked as estimated."""


class Limits(_Value, frozen=True):
    """What a client may use; None: no limit."""

    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    tokens_per_month: PositiveInt | None = None
    money_per_month: Decimal | None = None
    """In the currency of the price sheet."""

    def __post_init__(self) -> None:
        money = self.money_per_month
        if money is not None and not (money.is_finite() and money > 0):
            raise ValueError("Expected `money_per_month` > 0")  # the codec adds the place


class Client(_Value, frozen=True):
    """Who calls, and who pays."""

    id: str
    name: str = ""
    cost_center: str = ""
    keys: tuple[KeyHash, ...] = ()
    models: tuple[str, ...] | None = None
    """The models that it may use; None: all."""
    operations: tuple[str, ...] | None = None
    """The operations that it may use, by name or by the beginning of one (`files`); None: all."""
    on_disconnect: OnDisconnect = OnDisconnect.DRAIN
    limits: Limits = Limits()


class _Document(_Value, frozen=True):
    upstreams: tuple[Upstream, ...] = ()
    models: tuple[Model, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    clients: tuple[Client, ...] = ()


class Target(msgspec.Struct, frozen=True):
    """A deployment with the upstream that it is on: where one attempt goes."""

    deployment: Deployment
    upstream: Upstream


class Pool(msgspec.Struct, frozen=True):
    """The deployments that can serve a model, and how to choose among them."""

    model: Model
    targets: tuple[Target, ...]


class Configuration(msgspec.Struct, frozen=True):
    """A valid document, indexed for look-up while a call waits."""

    pools: Mapping[str, Pool]
    """By every name that a client may ask for: a model's own and its aliases."""
    keys_by_id: Mapping[str, tuple[KeyHash, Client]]
    upstreams: tuple[Upstream, ...]


def parse(text: str, settings: Mapping[str, str]) -> Configuration:
    """The configuration in `text`: TOML, or JSON where it starts with `{`.

    `$NAME` in an upstream's `key` and `url` is replaced by the setting NAME. Raises ConfigurationInvalid.
    """
    document = _decode(text)
    problems = [*_duplicates(document), *_broken_references(document), *_unusable_upstreams(document, settings)]
    if problems:
        raise ConfigurationInvalid(problems)
    upstreams = {upstream.name: _resolve(upstream, settings) for upstream in document.upstreams}
    return Configuration(
        pools=_pools(document, upstreams),
        keys_by_id={key.id: (key, client) for client in document.clients for key in client.keys},
        upstreams=tuple(upstreams.values()),
    )


def _pools(document: _Document, upstreams: Mapping[str, Upstream]) -> Mapping[str, Pool]:
    targets: dict[str, tuple[Target, ...]] = {}
    for deployment in document.deployments:
        named = msgspec.structs.replace(deployment, deployment=deployment.deployment or deployment.model)
        target = Target(named, upstreams[deployment.upstream])
        targets[deployment.model] = (*targets.get(deployment.model, ()), target)
    listed = {model.name: model for model in document.models}
    pools = {name: Pool(listed.get(name, Model(name=name)), pooled) for name, pooled in targets.items()}
    return pools | {alias: pools[model.name] for model in document.models for alias in model.aliases}


def _decode(text: str) -> _Document:
    try:
        if text.lstrip().startswith("{"):
            return msgspec.json.decode(text, type=_Document)
        return msgspec.convert(tomllib.loads(text), _Document)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationInvalid([f"not valid TOML: {error}"]) from error
    except msgspec.DecodeError as error:  # ValidationError, which names the place, is one of these
        raise ConfigurationInvalid([str(error)]) from error


def _duplicates(document: _Document) -> Iterable[str]:
    groups: dict[str, Iterable[str]] = {
        "upstream": (upstream.name for upstream in document.upstreams),
        "deployment": (deployment.name for deployment in document.deployments),
        "model": (model.name for model in document.models),
        "model or alias": (
            *{deployment.model for deployment in document.deployments},
            *(alias for model in document.models for alias in model.aliases),
        ),
        "client": (client.id for client in document.clients),
        "client key": (key.id for client in document.clients for key in client.keys),
    }
    for kind, names in groups.items():
        for name, count in Counter(names).items():
            if count > 1:
                yield f"{kind} {name!r} stands {count} times: names must be unique"


def _broken_references(document: _Document) -> Iterable[str]:
    known = {upstream.name for upstream in document.upstreams}
    for deployment in document.deployments:
        if deployment.upstream not in known:
            yield f"deployment {deployment.name!r} names the upstream {deployment.upstream!r}, which is not defined"
    served = {deployment.model for deployment in document.deployments}
    for model in document.models:
        if model.name not in served:
            yield f"model {model.name!r} has no deployment: add one, or take the model out"


def _unusable_upstreams(document: _Document, settings: Mapping[str, str]) -> Iterable[str]:
    for upstream in document.upstreams:
        for name in _unset(f"{upstream.url} {upstream.key}", settings):
            yield f"upstream {upstream.name!r} refers to ${name}, which is not set: add that setting"
        if not _unset(upstream.url, settings) and not _is_address(_fill(upstream.url, settings)):
            yield f"upstream {upstream.name!r} has the url {upstream.url!r}: write it as https://host, with its path"


def _unset(text: str, settings: Mapping[str, str]) -> list[str]:
    return [name for name in dict.fromkeys(_SETTING_REFERENCE.findall(text)) if not settings.get(name)]


def _fill(text: str, settings: Mapping[str, str]) -> str:
    return _SETTING_REFERENCE.sub(lambda match: settings[match[1]], text)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_http = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0  # a wrong port raises
    except ValueError:
        return False
    return bool(is_http) and not parts.query and not parts.fragment


def _resolve(upstream: Upstream, settings: Mapping[str, str]) -> Upstream:
    return msgspec.structs.replace(
        upstream, key=_fill(upstream.key, settings), url=_fill(upstream.url, settings).rstrip("/")
    )
