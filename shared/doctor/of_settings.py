"""Settings and the configuration document: what is wrong with them, and what is right and will surprise."""

from collections.abc import Iterator, Sequence
from datetime import date
from difflib import get_close_matches

from shared.core.configuration import Configuration
from shared.core.money.prices import Use
from shared.doctor.findings import Examined, Finding, error, ok, warning
from shared.settings import SETTINGS, Settings, Transports, read_binding_settings

_PLATFORM_CUTS_S = 230
_FUNCTION_TIMEOUT_S = 1800
"""host.json's functionTimeout: the host ends the process, and every call in it."""
_SHORTEST_KEY = 24
_UNRESOLVED = "@Microsoft.KeyVault("
_OURS = "TOLLGATE_"
_READ_BY_OTHERS = (
    "TOLLGATE_URL",
    "TOLLGATE_EVENT_HUB__",
    "TOLLGATE_AZURITE_",
    "TOLLGATE_SIMULATOR_",
    "TOLLGATE_MODELS",
)


async def settings(examined: Examined) -> Sequence[Finding]:
    """The app settings, each by itself and together."""
    _, problems = read_binding_settings(examined.environ)
    found = [error(problem, "Mend the setting; until then the gateway refuses every call.") for problem in problems]
    found += _misspelt(examined)
    found += [
        error(f"{name} holds a Key Vault reference that was not resolved.", "Give the app's identity the role Key Vault"
              " Secrets User, look at the secret's name, and see that the app reaches the vault; or run this where it is.")
        for name, value in examined.environ.items() if value.startswith(_UNRESOLVED)
    ]  # fmt: skip
    found += _together(examined.settings)
    return found or [ok(f"{len(SETTINGS)} settings are as they should be.")]


def _misspelt(examined: Examined) -> Iterator[Finding]:
    known = [setting.name for setting in SETTINGS]
    for name in examined.environ:
        if name.startswith(_OURS) and name not in known and not name.startswith(_READ_BY_OTHERS):
            (close, *_) = (*get_close_matches(name, known, 1), "")
            yield warning(f"{name} is no setting.", f"Did you mean {close}?" if close else "Take it away.")


def _together(known: Settings) -> Iterator[Finding]:
    if not known.storage and not known.storage_account:
        yield error(
            "No Storage account is named.",
            "Set AzureWebJobsStorage, or AzureWebJobsStorage__accountName for an identity.",
        )
    if known.transport is Transports.EVENT_HUBS and not known.event_hub and not known.event_hub_namespace:
        yield error(
            "The transport is event-hubs and no namespace is named.",
            "Set TOLLGATE_EVENT_HUB, or TOLLGATE_EVENT_HUB__fullyQualifiedNamespace for an identity.",
        )
    if known.transport is Transports.STORAGE_QUEUE and (known.event_hub or known.event_hub_namespace):
        yield warning("An Event Hubs namespace is named and not used.", "Set TOLLGATE_TRANSPORT=event-hubs.")
    if not known.configuration:
        yield error("TOLLGATE_CONFIG is not set.", "Write a configuration: python -m devtools.cli init")
    if not known.admin_key and not known.admin_role:
        yield warning(
            "Nobody may manage the gateway or see everyone's usage.", "Set TOLLGATE_ADMIN_KEY or TOLLGATE_ADMIN_ROLE."
        )
    if known.admin_key and len(known.admin_key) < _SHORTEST_KEY:
        yield warning("The admin key is short enough to be guessed.", "openssl rand -base64 32")
    yield from _timeouts(known)


def _timeouts(known: Settings) -> Iterator[Finding]:
    if known.deadline_s >= _FUNCTION_TIMEOUT_S:
        yield error(
            f"A call may last {known.deadline_s:g} s, and after {_FUNCTION_TIMEOUT_S} s the host ends the whole process.",
            "Make TOLLGATE_DEADLINE_S less than host.json's functionTimeout.",
        )
    if known.incomplete_after_s <= known.deadline_s:
        yield error(
            f"Calls count as incomplete after {known.incomplete_after_s:g} s and may last {known.deadline_s:g} s.",
            "Make TOLLGATE_INCOMPLETE_AFTER_S more than TOLLGATE_DEADLINE_S.",
        )
    if known.first_byte_timeout_s >= _PLATFORM_CUTS_S:
        yield warning(
            f"An answer may take {known.first_byte_timeout_s:g} s to begin; the platform cuts it at {_PLATFORM_CUTS_S}.",
            "Make TOLLGATE_FIRST_BYTE_TIMEOUT_S less, so that the client gets an error that says why.",
        )


async def configuration(examined: Examined) -> Sequence[Finding]:
    """The configuration document."""
    if examined.configuration is None:
        return [error(problem, "Mend the document.") for problem in examined.configuration_problems]
    found = [*_nobody_and_nothing(examined.configuration), *_clients(examined.configuration)]
    document = examined.configuration.document
    sizes = (
        f"{len(document.upstreams)} upstreams, {len(document.deployments)} deployments, {len(document.clients)} clients"
    )
    return found or [ok(f"The configuration is valid: {sizes}.")]


def _nobody_and_nothing(configuration: Configuration) -> Iterator[Finding]:
    document = configuration.document
    if not document.deployments:
        yield error("No deployment is configured: every model is unknown.", "Add [[deployments]].")
    idle = {upstream.name for upstream in document.upstreams} - {each.upstream for each in document.deployments}
    for name in sorted(idle):
        yield warning(f"The upstream '{name}' has no deployment.", "Add one, or take the upstream away.")
    for name, pool in configuration.pools.items():
        if name == pool.model.name and len(pool.targets) == 1:
            yield warning(f"The model '{name}' has one deployment: there is nothing to fail over to.", "Add another.")


def _clients(configuration: Configuration) -> Iterator[Finding]:
    for client in configuration.document.clients:
        unknown = sorted({*(client.models or ())} - configuration.pools.keys())
        if unknown:
            yield warning(
                f"The client '{client.id}' may use {', '.join(unknown)}, which nothing serves.",
                "Add a deployment, or take the name away.",
            )
        if not (client.keys or client.apps or client.groups or client.roles):
            yield warning(
                f"The client '{client.id}' has no key in the document, and no app, group or role.",
                f"python -m devtools.cli keys create {client.id}, unless it has one already.",
            )


def _is_priced(configuration: Configuration, model: str, on: date) -> bool:
    """Whether a call has a price whichever of the model's deployments serves it."""
    uses = (
        Use(model=model, deployment=target.deployment.name, region=target.upstream.region or "")
        for target in configuration.pools[model].targets
    )
    return all(configuration.prices.price_of(use, on) for use in uses)


async def prices(examined: Examined) -> Sequence[Finding]:
    """Whether every model has a price, and every budget can be kept."""
    if examined.configuration is None:
        return ()
    models = sorted({deployment.model for deployment in examined.configuration.document.deployments})
    today = examined.now().date()
    unpriced = {model for model in models if not _is_priced(examined.configuration, model, today)}
    found = [
        warning(
            f"The model '{model}' has no price today: its usage is counted and costs nothing.", "Add it to [[prices]]."
        )
        for model in sorted(unpriced)
    ]
    for client in examined.configuration.document.clients:
        refused = sorted(unpriced & set(client.models or models))
        if client.limits.money_per_month is not None and refused:
            found.append(
                error(
                    f"The client '{client.id}' has a budget in money and is refused {', '.join(refused)}: they have no price.",
                    "Add them to [[prices]].",
                )
            )
    return found or [ok(f"All {len(models)} models have a price.")]
