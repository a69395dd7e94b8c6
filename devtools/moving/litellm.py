"""From LiteLLM's proxy: its config.yaml, and what its `/key/list?return_full_object=true` answers.

https://docs.litellm.ai/docs/proxy/configs, https://docs.litellm.ai/docs/routing
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from devtools.moving.draft import Draft, host_of, setting_name, slug, unused
from shared.core.configuration import Client, Deployment, Limits, Model, Strategy, Upstream, UpstreamAuth, UpstreamKind
from shared.core.money.prices import Price

_IN_ENVIRONMENT = "os.environ/"
_OPENAI = "https://api.openai.com/v1"
_AZURE, _COMPATIBLE = "azure", {"openai", "custom_openai", "hosted_vllm", "litellm_proxy", "openai_like"}
_PARAMS = {"model", "api_base", "api_key", "api_version", "weight", "order", "base_url", "custom_llm_provider"}
_OF_IDENTITY = {"azure_ad_token", "tenant_id", "client_id", "client_secret", "azure_username", "azure_password"}
_COSTS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write_input",
}
_STRATEGIES = {
    "simple-shuffle": Strategy.WEIGHTED,
    "least-busy": Strategy.LEAST_OUTSTANDING,
    "latency-based-routing": Strategy.FASTEST,
}
_LEARNT = {"rpm", "tpm"}
_KEY = {
    "key_alias", "key_name", "token", "models", "tpm_limit", "rpm_limit", "max_budget", "budget_duration", "team_alias",
    "team_id", "user_id", "blocked", "spend", "created_at", "updated_at",
}  # fmt: skip
_MONTHS = {"30d", "31d", "1mo", "monthly"}
_MILLION = 1_000_000


def from_config(config: Mapping[str, Any], key_list: Iterable[Mapping[str, Any]] = ()) -> Draft:
    """The models of the configuration, and a client for each key in LiteLLM's database."""
    draft = Draft()
    for entry in config.get("model_list") or ():
        _add_model(draft, entry)
    router = {**(config.get("router_settings") or {})}
    _add_router(draft, router)
    general = {**(config.get("general_settings") or {})}
    if master := general.pop("master_key", None):
        draft.settings["TOLLGATE_ADMIN_KEY"] = "" if str(master).startswith(_IN_ENVIRONMENT) else str(master)
    known = {"model_list", "router_settings", "general_settings", "litellm_settings", "environment_variables"}
    draft.note_fields("general_settings", general, ())
    draft.note_fields("litellm_settings", config.get("litellm_settings") or {}, ())
    draft.note_fields(
        "environment_variables, which are the app's settings here", config.get("environment_variables") or {}, ()
    )
    draft.note_fields("Not known here", config, known)
    for key in key_list:
        _add_client(draft, key)
    return draft


def _add_model(draft: Draft, entry: Mapping[str, Any]) -> None:
    model, params = str(entry["model_name"]), {**(entry.get("litellm_params") or {})}
    asked = str(params.get("model", ""))
    provider, slash, deployment = asked.partition("/")
    if not slash:
        provider, deployment = params.get("custom_llm_provider") or "openai", asked
    if provider not in {_AZURE, *_COMPATIBLE} or "*" in model or "*" in deployment:
        why = (
            "names every model by *"
            if "*" in model + deployment
            else f"is {provider}'s, which does not speak OpenAI's API"
        )
        draft.note(f"The model '{model}' ({asked}) {why}.")
        return
    upstream = _upstream(draft, provider, params)
    deployment = deployment.removeprefix("responses/")
    draft.deployments.append(
        Deployment(
            name=unused(f"{slug(model)}-{upstream.name}", (each.name for each in draft.deployments)),
            model=model,
            upstream=upstream.name,
            deployment=deployment,
            priority=int(params.get("order") or 0),
            weight=max(int(params.get("weight") or 1), 1),
        )
    )
    _add_price(draft, model, {**(entry.get("model_info") or {}), **params})
    if _LEARNT & {*params, *entry}:
        draft.note("`rpm` and `tpm` of deployments: what is left there is learnt from the upstreams' own headers.")
    draft.note_fields(f"The model '{model}'", params, {*_PARAMS, *_OF_IDENTITY, *_COSTS, *_LEARNT})


def _upstream(draft: Draft, provider: str, params: Mapping[str, Any]) -> Upstream:
    """The upstream of these parameters, which models share."""
    is_azure = provider == _AZURE
    base = str(
        params.get("api_base") or params.get("base_url") or ("os.environ/AZURE_API_BASE" if is_azure else _OPENAI)
    )
    url = _reference(draft, base).rstrip("/")
    name = slug(host_of(base.removeprefix(_IN_ENVIRONMENT)) if url != _OPENAI else "openai")
    by_identity = is_azure and "api_key" not in params and bool(_OF_IDENTITY & params.keys())
    key = None if by_identity else _key(draft, name, params.get("api_key"), is_azure=is_azure)
    if by_identity:
        draft.note("Tokens and secrets of Entra ID for Azure: the app's own identity is shown.")
    version = {"api_version": str(params["api_version"])} if is_azure and params.get("api_version") else {}
    wanted = Upstream(
        name=name,
        kind=UpstreamKind.AZURE if is_azure else UpstreamKind.OPENAI,
        url=url,
        key=key,
        auth=UpstreamAuth.IDENTITY if by_identity else UpstreamAuth.KEY,
        **version,
    )
    for known in draft.upstreams:
        if (known.kind, known.url, known.key, known.api_version) == (wanted.kind, url, key, wanted.api_version):
            return known
    taken = [each.name for each in draft.upstreams]
    draft.upstreams.append(Upstream(**{**_fields(wanted), "name": unused(name, taken)}))
    return draft.upstreams[-1]


def _fields(upstream: Upstream) -> dict[str, Any]:
    return {name: getattr(upstream, name) for name in upstream.__struct_fields__}


def _key(draft: Draft, upstream: str, stated: Any, *, is_azure: bool) -> str:
    """The reference to the setting that holds the key."""
    if stated is None:
        stated = _IN_ENVIRONMENT + ("AZURE_API_KEY" if is_azure else "OPENAI_API_KEY")
    if str(stated).startswith(_IN_ENVIRONMENT):
        return _reference(draft, str(stated))
    same = (name for name, value in draft.settings.items() if value == stated)
    setting = next(same, None) or unused(setting_name(upstream, "key"), draft.settings)
    draft.settings[setting] = str(stated)
    return f"${setting}"


def _reference(draft: Draft, stated: str) -> str:
    """`$NAME` for `os.environ/NAME`."""
    if not stated.startswith(_IN_ENVIRONMENT):
        return stated
    name = stated.removeprefix(_IN_ENVIRONMENT)
    draft.settings.setdefault(name, "")
    return f"${name}"


def _add_price(draft: Draft, model: str, stated: Mapping[str, Any]) -> None:
    costs: dict[str, Any] = {
        field: Decimal(str(stated[name])) * _MILLION for name, field in _COSTS.items() if stated.get(name) is not None
    }
    if costs and not any(price.model == model for price in draft.prices):
        draft.prices.append(Price(model=model, **costs))


def _add_router(draft: Draft, router: dict[str, Any]) -> None:
    stated = router.pop("routing_strategy", "simple-shuffle")
    strategy = _STRATEGIES.get(stated, Strategy.WEIGHTED)
    if stated not in _STRATEGIES:
        draft.note(f"The routing strategy {stated}: deployments are chosen by weight.")
    aliases: dict[str, list[str]] = {}
    for alias, target in (router.pop("model_group_alias", None) or {}).items():
        aliases.setdefault(target["model"] if isinstance(target, Mapping) else target, []).append(alias)
    served = {deployment.model for deployment in draft.deployments}
    for model in sorted(served):
        if aliases.get(model) or strategy is not Strategy.WEIGHTED:
            draft.models.append(Model(name=model, aliases=tuple(aliases.get(model, ())), strategy=strategy))
    for model in sorted(aliases.keys() - served):
        draft.note(f"The aliases of '{model}', which nothing serves.")
    if router.pop("fallbacks", None):
        draft.note("`fallbacks` to other models: a call is served by the model that it asks for, or told why not.")
    draft.note_fields("router_settings", router, ())


def _add_client(draft: Draft, key: Mapping[str, Any]) -> None:
    name = str(key.get("key_alias") or key.get("key_name") or key.get("user_id") or "key")
    id_ = unused(slug(name), (each.id for each in draft.clients))
    if key.get("blocked"):
        draft.note(f"The key '{name}' is blocked.")
        return
    budget = key.get("max_budget")
    if budget and key.get("budget_duration") not in _MONTHS:
        draft.note(f"The budget of '{name}' for {key.get('budget_duration') or 'ever'}: budgets here are of a month.")
        budget = None
    limits = Limits(
        tokens_per_minute=key.get("tpm_limit") or None,
        requests_per_minute=key.get("rpm_limit") or None,
        money_per_month=Decimal(str(budget)) if budget else None,
    )
    models = tuple(each for each in key.get("models") or () if each != "all-team-models")
    center = str(key.get("team_alias") or key.get("team_id") or "")
    draft.note("Keys in LiteLLM's database are kept as hashes of another kind: each client has a new one.")
    left = {field for field, value in key.items() if value not in (None, "", [], {}, False)}
    draft.note_fields(f"The key '{name}'", dict.fromkeys(left), _KEY)
    draft.add_client(Client(id=id_, name=name, cost_center=center, models=models or None, limits=limits))
