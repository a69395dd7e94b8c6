"""From Azure's own lists: `az cognitiveservices account list` and, of each account, `... account deployment list`.

https://learn.microsoft.com/rest/api/aiservices/accountmanagement/deployments/list
"""

import re
from collections.abc import Iterable
from typing import Any

from devtools.moving.draft import Draft, setting_name
from shared.core.configuration import Deployment, Upstream, UpstreamAuth, UpstreamKind

_OPENAI = "OpenAI Language Model Instance API"
"""The endpoint among an account's that speaks OpenAI's API."""
_KINDS = {"OpenAI", "AIServices"}
_ACCOUNT = re.compile(r"/accounts/([^/]+)/deployments/")


def from_lists(accounts: Iterable[dict[str, Any]], deployments: Iterable[dict[str, Any]], *, by_key: bool) -> Draft:
    """A deployment for each of Azure's. Provisioned throughput is asked first; else capacity is the weight.

    `by_key`: upstreams are shown keys in place of the app's identity, where they allow it.
    """
    draft = Draft()
    for account in accounts:
        _add_account(draft, account, by_key=by_key)
    names = {upstream.name for upstream in draft.upstreams}
    for deployment in deployments:
        _add_deployment(draft, deployment, names)
    return draft


def _add_account(draft: Draft, account: dict[str, Any], *, by_key: bool) -> None:
    name, properties = account["name"], account.get("properties") or {}
    if account.get("kind") not in _KINDS:
        draft.note(f"The account '{name}' is of the kind {account.get('kind')}, which serves no OpenAI models.")
        return
    endpoint = (properties.get("endpoints") or {}).get(_OPENAI) or properties.get("endpoint") or ""
    uses_key = by_key and not properties.get("disableLocalAuth")
    if by_key and not uses_key:
        draft.note(f"The account '{name}' allows no keys: it is asked with the app's identity.")
    key = setting_name(name, "key") if uses_key else None
    if key:
        draft.settings[key] = ""
    draft.upstreams.append(
        Upstream(
            name=name,
            kind=UpstreamKind.AZURE,
            url=endpoint.rstrip("/"),
            key=f"${key}" if key else None,
            auth=UpstreamAuth.KEY if key else UpstreamAuth.IDENTITY,
            region=account.get("location"),
        )
    )


def _add_deployment(draft: Draft, deployment: dict[str, Any], upstreams: set[str]) -> None:
    found = _ACCOUNT.search(deployment.get("id", ""))
    account, name = found[1] if found else "", deployment["name"]
    properties, sku = deployment.get("properties") or {}, deployment.get("sku") or {}
    model = properties.get("model") or {}
    if account not in upstreams:
        draft.note(f"The deployment '{name}' is of the account '{account}', which is not in the list of accounts.")
    elif model.get("format", "OpenAI") != "OpenAI":
        draft.note(f"The deployment '{name}' on '{account}' serves a model of {model.get('format')}.")
    elif properties.get("provisioningState", "Succeeded") != "Succeeded":
        draft.note(f"The deployment '{name}' on '{account}' is {properties['provisioningState']}.")
    else:
        draft.deployments.append(
            Deployment(
                name=f"{name}-{account}",
                model=model["name"],
                upstream=account,
                deployment=name,
                priority=0 if "Provisioned" in sku.get("name", "") else 1,
                weight=max(int(sku.get("capacity") or 1), 1),
            )
        )
