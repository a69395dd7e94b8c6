"""The configuration: who may call, which models there are and where they run.

Rule: a Configuration that exists is valid. Everything that could be wrong with the document is found here, all of it at
once, and named by where it stands and what would mend it.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from shared.core.clients.keys import KeyHash
from shared.core.clients.networks import parsed
from shared.core.document_lines import Place
from shared.core.document_problems import Problem, decode, invalid, raw
from shared.core.money.prices import NO_PRICES, Price, PriceSheet, ShippedPrices, sheet_of

PositiveInt = Annotated[int, msgspec.Meta(ge=1)]

_LOGIN = "https://login.microsoftonline.com"
_SETTING_REFERENCE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")


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


class UpstreamAuth(StrEnum):
    """What an upstream is shown."""

    KEY = "key"
    """Its key."""
    IDENTITY = "identity"
    """A token of the app's managed identity (locally: of whoever is signed in)."""


class Upstream(_Value, frozen=True):
    """One upstream resource: an address and the credential for it."""

    name: str
    kind: UpstreamKind
    url: str
    """For kind `openai` up to and with `/v1`; for the Azure kinds the resource's root."""
    key: str | None = None
    """The upstream's key. In the document usually `$NAME`: the setting that holds it. Not needed with `auth = "identity"`."""
    auth: UpstreamAuth = UpstreamAuth.KEY
    """What the upstream is shown: its `key`, or a token of the app's managed `identity`."""
    scope: str = "https://cognitiveservices.azure.com/.default"
    """`auth = "identity"` only: what the token is for. Foundry's v1 API may want `https://ai.azure.com/.default`."""
    identity_client_id: str = ""
    """`auth = "identity"` only: the user-assigned identity to use. Empty: the app's own."""
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


class Content(StrEnum):
    """How much of a client's calls is kept."""

    FULL = "full"
    """The record and both bodies."""
    METADATA = "metadata"
    """The record."""
    NONE = "none"
    """The record without what the client wrote: end user, parameters, user agent."""


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


class Redaction(_Value, frozen=True, kw_only=True):
    """What is taken out of bodies before they are kept: what a regular expression of Python's matches."""

    name: str
    """Stands in its place: `[name]`."""
    pattern: str

    def __post_init__(self) -> None:
        try:
            matches_nothing = re.compile(self.pattern).search("") is not None
        except re.error as error:
            raise ValueError(f"Expected `pattern` to be a regular expression: {error}") from error
        if matches_nothing:
            raise ValueError("Expected `pattern` to match some text: it matches where there is none")


class Policy(_Value, frozen=True, kw_only=True):
    """What a client may do, and how it is dealt with."""

    models: tuple[str, ...] | None = None
    """The models that it may use, each by any of its names; None: all."""
    operations: tuple[str, ...] | None = None
    """The operations that it may use, by name or by the beginning of one (`files`); None: all."""
    networks: tuple[str, ...] | None = None
    """The networks that it may call from, as CIDR (`10.0.0.0/8`, `2001:db8::/32`); None: any."""
    on_disconnect: OnDisconnect = OnDisconnect.DRAIN
    content: Content = Content.FULL
    content_bytes: PositiveInt | None = None
    """The most bytes of each body that are kept; None: all."""
    redact: tuple[Redaction, ...] = ()
    """What is taken out of bodies before they are kept, besides secrets. An upload that passes through is then not kept."""
    may_opt_out: bool = False
    """Whether a request may ask for less to be kept (`x-tollgate-content: metadata` or `none`)."""
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        parsed(self.networks or ())


class Client(Policy, frozen=True, kw_only=True):
    """Who calls, and who pays."""

    id: str
    name: str = ""
    cost_center: str = ""
    keys: tuple[KeyHash, ...] = ()
    apps: tuple[str, ...] = ()
    """Application (client) ids whose Entra tokens mean this client."""
    groups: tuple[str, ...] = ()
    """Object ids of Entra groups whose members' tokens mean this client, where their app means none."""
    roles: tuple[str, ...] = ()
    """App roles whose holders' Entra tokens mean this client, where neither app nor group means any."""


class Entra(_Value, frozen=True):
    """Whose tokens clients may show in place of a key. Either `tenant_id`, or `issuer`, must be given."""

    audiences: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """For whom tokens must be: the gateway's Application ID URI (tokens of version 1) and its client id (version 2)."""
    tenant_id: str = ""
    """The Entra tenant. Its issuers, of both token versions, and its keys follow from it."""
    issuer: str = ""
    """Another issuer, to the letter as in the tokens' `iss`. Default: the tenant's."""
    jwks_url: str = ""
    """Where the issuer's keys are. Default: the tenant's."""

    @property
    def issuers(self) -> tuple[str, ...]:
        """What `iss` may be (https://learn.microsoft.com/entra/identity-platform/access-tokens#token-formats)."""
        if self.issuer:
            return (self.issuer,)
        return (f"{_LOGIN}/{self.tenant_id}/v2.0", f"https://sts.windows.net/{self.tenant_id}/")

    @property
    def keys_url(self) -> str:
        """Where the keys are; empty where that does not follow."""
        if self.jwks_url:
            return self.jwks_url
        base = f"{_LOGIN}/{self.tenant_id}" if self.tenant_id else self.issuer.removesuffix("/v2.0")
        return f"{base}/discovery/v2.0/keys" if self.tenant_id or base != self.issuer else ""


class Alerts(_Value, frozen=True):
    """When and whom to tell how far a client's budget of the month is used."""

    webhook: str = ""
    """The address that each alert is posted to, as JSON. In the document usually `$NAME`: it often holds a secret."""
    at: tuple[Annotated[int, msgspec.Meta(ge=1, le=1000)], ...] = (50, 80, 100)
    """At how many percent of a budget; each is told once a month and client."""


class Document(_Value, frozen=True):
    """The document as it is written."""

    upstreams: tuple[Upstream, ...] = ()
    models: tuple[Model, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    prices: tuple[Price, ...] = ()
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")] = "USD"
    """Of all money here (ISO 4217). Prices in another are not used."""
    shipped_prices: bool = True
    """Whether the list prices that come with the gateway hold where `prices` says nothing."""
    alerts: Alerts = Alerts()
    defaults: Policy = Policy()
    """What holds for every client of this document that does not say otherwise."""
    clients: tuple[Client, ...] = ()
    entra: Entra | None = None
    """Tokens of Microsoft Entra ID in place of keys; None: keys only."""


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
    clients_by_id: Mapping[str, Client]
    prices: PriceSheet
    alerts: Alerts
    home: Pool
    """The upstreams as such, the first one preferred, for calls that need no model."""
    document: Document
    """What it was made of; references to settings stand in it as such."""


def parse(text: str, settings: Mapping[str, str], shipped: ShippedPrices = NO_PRICES) -> Configuration:
    """The configuration in `text`: TOML, or JSON where it starts with `{`. `shipped` are the prices that come with the gateway.

    `$NAME` in an upstream's `key` and `url` is replaced by the setting NAME. Raises ConfigurationInvalid.
    """
    document = _with_defaults(decode(text, Document), text)
    problems = [
        *_duplicates(document),
        *_broken_references(document),
        *_unusable_upstreams(document, settings),
        *_unusable_entra(document.entra),
        *_unusable_alerts(document.alerts, settings),
    ]
    if problems:
        raise invalid(text, problems)
    upstreams = {upstream.name: _resolve(upstream, settings) for upstream in document.upstreams}
    return Configuration(
        pools=_pools(document, upstreams),
        keys_by_id={key.id: (key, client) for client in document.clients for key in client.keys},
        clients_by_id={client.id: client for client in document.clients},
        prices=sheet_of(document.prices, shipped if document.shipped_prices else NO_PRICES, document.currency),
        home=_home(upstreams.values()),
        alerts=msgspec.structs.replace(document.alerts, webhook=_fill(document.alerts.webhook, settings).strip()),
        document=document,
    )


def _with_defaults(document: Document, text: str) -> Document:
    """The document with each client's fields where it says them, else the defaults'."""
    written = raw(text)
    if "defaults" not in written:
        return document
    clients = [{**written["defaults"], **client} for client in written.get("clients", ())]
    return msgspec.structs.replace(document, clients=msgspec.convert(clients, tuple[Client, ...]))


def _home(upstreams: Iterable[Upstream]) -> Pool:
    as_such = (Deployment(name="", model="", upstream=each.name, priority=rank) for rank, each in enumerate(upstreams))
    return Pool(
        Model(name=""), tuple(Target(each, upstream) for each, upstream in zip(as_such, upstreams, strict=True))
    )


def _pools(document: Document, upstreams: Mapping[str, Upstream]) -> Mapping[str, Pool]:
    targets: dict[str, tuple[Target, ...]] = {}
    for deployment in document.deployments:
        named = msgspec.structs.replace(deployment, deployment=deployment.deployment or deployment.model)
        target = Target(named, upstreams[deployment.upstream])
        targets[deployment.model] = (*targets.get(deployment.model, ()), target)
    listed = {model.name: model for model in document.models}
    pools = {name: Pool(listed.get(name, Model(name=name)), pooled) for name, pooled in targets.items()}
    return pools | {alias: pools[model.name] for model in document.models for alias in model.aliases}


def _duplicates(document: Document) -> Iterable[Problem]:
    models = {deployment.model: index for index, deployment in reversed([*enumerate(document.deployments)])}
    groups: dict[str, Iterable[tuple[Place, str]]] = {
        "upstream": ((("upstreams", n, "name"), upstream.name) for n, upstream in enumerate(document.upstreams)),
        "deployment": ((("deployments", n, "name"), each.name) for n, each in enumerate(document.deployments)),
        "model": ((("models", n, "name"), model.name) for n, model in enumerate(document.models)),
        "model or alias": (
            *((("deployments", n, "model"), model) for model, n in models.items()),
            *((("models", n, "aliases"), alias) for n, model in enumerate(document.models) for alias in model.aliases),
        ),
        "client": ((("clients", n, "id"), client.id) for n, client in enumerate(document.clients)),
        "client key": (
            (("clients", n, "keys", k, "id"), key.id)
            for n, client in enumerate(document.clients)
            for k, key in enumerate(client.keys)
        ),
        "app of a client": _members(document, "apps"),
        "group of a client": _members(document, "groups"),
        "role of a client": _members(document, "roles"),
    }
    for kind, names in groups.items():
        places: dict[str, list[Place]] = {}
        for place, name in names:
            places.setdefault(name, []).append(place)
        for name, standing in places.items():
            if len(standing) > 1:
                yield standing[-1], f"{kind} {name!r} stands {len(standing)} times: names must be unique"


def _members(document: Document, field: str) -> Iterable[tuple[Place, str]]:
    for n, client in enumerate(document.clients):
        for k, name in enumerate(getattr(client, field)):
            yield ("clients", n, field, k), name if field == "roles" else name.lower()


def _broken_references(document: Document) -> Iterable[Problem]:
    known = {upstream.name for upstream in document.upstreams}
    for index, deployment in enumerate(document.deployments):
        if deployment.upstream not in known:
            what = f"deployment {deployment.name!r} names the upstream {deployment.upstream!r}, which is not defined"
            remedy = f"define it, or name one of {', '.join(sorted(known))}" if known else "define it under upstreams"
            yield ("deployments", index, "upstream"), f"{what}: {remedy}"
    served = {deployment.model for deployment in document.deployments}
    for index, model in enumerate(document.models):
        if model.name not in served:
            yield (
                ("models", index, "name"),
                f"model {model.name!r} has no deployment: add one, or take the model out",
            )


def _unusable_upstreams(document: Document, settings: Mapping[str, str]) -> Iterable[Problem]:
    for index, upstream in enumerate(document.upstreams):
        for field, text in (("url", upstream.url), ("key", upstream.key or "")):
            for name in _unset(text, settings):
                what = f"upstream {upstream.name!r} refers to ${name}, which is not set: add that setting"
                yield ("upstreams", index, field), what
        if upstream.auth is UpstreamAuth.KEY and upstream.key is None:
            what = f'upstream {upstream.name!r} has no key: add one as $NAME, a setting, or auth = "identity"'
            yield ("upstreams", index), what
        if not _unset(upstream.key or "", settings) and not _is_sendable(_fill(upstream.key or "", settings).strip()):
            what = f"upstream {upstream.name!r} has a key with a character that no header can carry: paste it once more"
            yield ("upstreams", index, "key"), what
        if not _unset(upstream.url, settings) and not _is_address(_fill(upstream.url, settings)):
            what = f"upstream {upstream.name!r} has the url {upstream.url!r}: write it as https://host, with its path"
            yield ("upstreams", index, "url"), what


def _unusable_entra(entra: Entra | None) -> Iterable[Problem]:
    if entra is None:
        return
    if not entra.tenant_id and not entra.issuer:
        yield ("entra",), "entra names neither tenant_id nor issuer: add the tenant's id"
    elif not entra.keys_url:
        yield ("entra", "issuer"), f"the keys of the issuer {entra.issuer!r} may be anywhere: add jwks_url"
    elif not _is_address(entra.keys_url):
        yield ("entra", "jwks_url"), f"entra has the keys' URL {entra.keys_url!r}: write it as https://host/path"


def _unusable_alerts(alerts: Alerts, settings: Mapping[str, str]) -> Iterable[Problem]:
    unset = _unset(alerts.webhook, settings)
    for name in unset:
        yield ("alerts", "webhook"), f"alerts refer to ${name}, which is not set: add that setting"
    if alerts.webhook and not unset and not _is_address(_fill(alerts.webhook, settings).strip(), query=True):
        yield ("alerts", "webhook"), "alerts have a webhook that is no address: write it as https://host/path"


def _unset(text: str, settings: Mapping[str, str]) -> list[str]:
    return [name for name in dict.fromkeys(_SETTING_REFERENCE.findall(text)) if not settings.get(name)]


def _fill(text: str, settings: Mapping[str, str]) -> str:
    return _SETTING_REFERENCE.sub(lambda match: settings[match[1]], text)


def _is_sendable(key: str) -> bool:
    return key.isascii() and key.isprintable()


def _is_address(url: str, *, query: bool = False) -> bool:
    try:
        parts = urlsplit(url)
        is_http = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0  # a wrong port raises
    except ValueError:
        return False
    return bool(is_http) and (query or not parts.query) and not parts.fragment


def _resolve(upstream: Upstream, settings: Mapping[str, str]) -> Upstream:
    return msgspec.structs.replace(
        upstream,
        key=_fill(upstream.key or "", settings).strip(),  # a pasted secret often ends with a line end
        url=_fill(upstream.url, settings).rstrip("/"),
    )
