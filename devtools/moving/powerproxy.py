"""From PowerProxy for Azure OpenAI: its config.yaml. https://github.com/timoklimmer/powerproxy-aoai (config/config.example.yaml)

There a request goes to the endpoints in their order, and names a deployment; here it names a model, whose deployments are asked
by priority. So each deployment that the file names becomes a model, with a deployment on each endpoint.
"""

from collections.abc import Mapping
from typing import Any

from devtools.moving.draft import Draft, setting_name, slug, unused
from shared.core.configuration import Client, Deployment, Limits, Upstream, UpstreamAuth, UpstreamKind

_CLIENT = {"name", "description", "key", "uses_entra_id_auth", "deployments_allowed", "max_tokens_per_minute_in_k"}
_ENDPOINT = {"name", "url", "key", "non_streaming_fraction", "virtual_deployments", "deployments"}
_TOP = {"clients", "plugins", "aoai", "user_assigned_managed_identity_client_id"}
_NO_LONGER = {"azure_subscription_id", "region", "resource_group", "unique_prefix"}
_RECORDING = ("LogUsageToConsole", "LogUsageToCsvFile", "LogUsageToLogAnalytics")
_PLUGINS = {"AllowDeployments", "LimitUsage", *_RECORDING}


def from_config(config: Mapping[str, Any], models: tuple[str, ...] = ()) -> Draft:
    """`models`: deployments that the file does not name, which it lets pass all the same."""
    draft = Draft()
    plugins = {plugin["name"] for plugin in config.get("plugins") or ()}
    for client in config.get("clients") or ():
        _add_client(draft, client, plugins)
    aoai = config.get("aoai") or {}
    names = _deployments_named(config) | dict.fromkeys(models)
    for order, endpoint in enumerate(aoai.get("endpoints") or ()):
        _add_endpoint(draft, endpoint, list(names), order, config.get("user_assigned_managed_identity_client_id") or "")
    if not names:
        draft.note("The file names no deployment: say which there are with --models a,b.")
    if "mock_response" in aoai:
        draft.note("`mock_response`: use the simulator of `make run`.")
    for name in sorted(plugins - _PLUGINS):
        draft.note(f"The plugin {name} is not known here.")
    if plugins & {*_RECORDING}:
        draft.note("Where usage is logged: every call is recorded in the archive and the ledger; see GET /usage.")
    draft.note_fields("Not known here", config, _TOP | _NO_LONGER)
    return draft


def _add_client(draft: Draft, client: Mapping[str, Any], plugins: set[str]) -> None:
    id_ = unused(slug(client["name"]), (each.id for each in draft.clients))
    draft.note_fields(f"The client '{id_}'", client, _CLIENT)
    allowed = _listed(client.get("deployments_allowed")) if "AllowDeployments" in plugins else None
    made = Client(
        id=id_,
        name=client["name"],
        models=None if allowed is None else tuple(allowed),
        limits=_limits(draft, id_, client.get("max_tokens_per_minute_in_k")) if "LimitUsage" in plugins else Limits(),
    )
    if client.get("uses_entra_id_auth"):
        draft.note(
            f"The client '{id_}' stood for everyone with an Entra token. Set [entra], and `apps`, `groups` or `roles` of it; the"
            " upstreams see the app's own identity."
        )
        draft.clients.append(made)
    else:
        draft.add_client(made, key=str(client["key"]))


def _limits(draft: Draft, id_: str, stated: Any) -> Limits:
    if isinstance(stated, Mapping):
        draft.note(f"The limits of '{id_}' for each deployment: it has one limit, which is their sum.")
        stated = sum(stated.values())
    return Limits(tokens_per_minute=int(stated * 1000)) if stated else Limits()


def _deployments_named(config: Mapping[str, Any]) -> dict[str, None]:
    """The deployments that clients may ask for, as far as the file says, in its order."""
    named: dict[str, None] = {}
    for endpoint in (config.get("aoai") or {}).get("endpoints") or ():
        named |= dict.fromkeys(each["name"] for each in _virtual(endpoint))
    for client in config.get("clients") or ():
        named |= dict.fromkeys(_listed(client.get("deployments_allowed")) or ())
        limits = client.get("max_tokens_per_minute_in_k")
        named |= dict.fromkeys(limits if isinstance(limits, Mapping) else ())
    return named


def _add_endpoint(draft: Draft, endpoint: Mapping[str, Any], models: list[str], order: int, identity: str) -> None:
    name = unused(slug(endpoint["name"]), (each.name for each in draft.upstreams))
    draft.note_fields(f"The endpoint '{name}'", endpoint, _ENDPOINT)
    key = setting_name(name, "key") if endpoint.get("key") else None
    if key:
        draft.settings[key] = str(endpoint["key"])
    draft.upstreams.append(
        Upstream(
            name=name,
            kind=UpstreamKind.AZURE,
            url=str(endpoint["url"]).rstrip("/"),
            key=f"${key}" if key else None,
            auth=UpstreamAuth.KEY if key else UpstreamAuth.IDENTITY,
            identity_client_id="" if key or identity.startswith("<") else identity,
        )
    )
    standins = {each["name"]: each.get("standins") or () for each in _virtual(endpoint)}
    fractions = [endpoint, *(standin for those in standins.values() for standin in those)]
    if any(each.get("non_streaming_fraction", 1) != 1 for each in fractions):
        draft.note("`non_streaming_fraction`: which requests a deployment gets does not depend on whether they stream.")
    for model in models:
        for rank, standin in enumerate(standins.get(model, ({"name": model},))):
            draft.deployments.append(
                Deployment(
                    name=f"{standin['name']}-{name}",
                    model=model,
                    upstream=name,
                    deployment=standin["name"],
                    priority=100 * order + rank,
                )
            )


def _virtual(endpoint: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Named `virtual_deployments`; in older files `deployments`."""
    return endpoint.get("virtual_deployments") or endpoint.get("deployments") or []


def _listed(stated: Any) -> list[str] | None:
    """A list, or a text with commas."""
    if isinstance(stated, str):
        stated = stated.split(",")
    return None if stated is None else [str(each).strip() for each in stated]
