"""Whom the claims of a token mean.

Rule: an app means a client before a group does, and a group before a role. Where several groups, or several roles, mean
clients, the client that the configuration names first is meant. Nothing here checks a token: shared/clients/entra.py has done so,
or, for a principal, App Service.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

import msgspec

from shared.core.configuration import Client

_LEEWAY_S = 60.0
"""How far two clocks may be apart."""

_NAMES: Mapping[str, tuple[str, ...]] = {
    # Claims by their names in tokens (https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference)
    # and, long, in the principals of App Service.
    "apps": ("appid", "azp"),
    "groups": ("groups", "http://schemas.microsoft.com/ws/2008/06/identity/claims/groups"),
    "roles": ("roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"),
}


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a bearer, as far as it matters here. Ids in lower case; instants in seconds since 1970."""

    apps: tuple[str, ...] = ()
    """The app that shows the token: one, or none."""
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    not_before: float = 0.0
    expires_at: float = 0.0


def claims_of(payload: Mapping[str, Any]) -> Claims:
    """The claims of a token. What is of another type than it should be is not there."""
    return Claims(
        apps=_ids(payload, "apps")[:1],
        groups=_ids(payload, "groups"),
        roles=tuple(_texts(payload, "roles")),
        not_before=_instant(payload.get("nbf", 0.0)),
        expires_at=_instant(payload.get("exp")),
    )


def is_current(claims: Claims, now: float) -> bool:
    """Whether a token is valid at that instant, if one's own clock is a minute off."""
    return claims.not_before - _LEEWAY_S <= now < claims.expires_at + _LEEWAY_S


class _Claim(msgspec.Struct, frozen=True):
    typ: str
    val: str


class _Principal(msgspec.Struct, frozen=True):
    auth_typ: str = ""
    claims: tuple[_Claim, ...] = ()


def principal_claims(header: str) -> Claims | None:
    """The claims in X-MS-CLIENT-PRINCIPAL; None where it says nothing that can be read, or speaks for another provider
    (https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities)."""
    try:
        principal = msgspec.json.decode(base64.b64decode(header, validate=True), type=_Principal)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return None
    if principal.auth_typ != "aad":  # other providers' claims are worth what those providers let people write
        return None
    found: dict[str, list[str]] = {}
    for claim in principal.claims:
        found.setdefault(claim.typ, []).append(claim.val)
    return claims_of(found)


type Members = Mapping[tuple[str, str], tuple[int, Client]]
"""Who is meant by an app, a group or a role: (`apps`, id) -> (rank, client)."""


def members_of(clients: Iterable[Client]) -> Members:
    """Whom every app, group and role means. Where two clients have one, it is the first's."""
    found: dict[tuple[str, str], tuple[int, Client]] = {}
    for rank, client in enumerate(clients):
        for kind, names in (("apps", client.apps), ("groups", client.groups), ("roles", client.roles)):
            for name in names:
                found.setdefault((kind, name if kind == "roles" else name.lower()), (rank, client))
    return found


def clash(client: Client, others: Iterable[Client]) -> str | None:
    """What of this client's already means another, in words; None: nothing."""
    taken = members_of(other for other in others if other.id != client.id)
    for kind, name in members_of((client,)):
        if (kind, name) in taken:
            return f"{kind}: '{name}' already means the client '{taken[kind, name][1].id}'."
    return None


def client_of(claims: Claims, members: Members) -> Client | None:
    """The client that is meant; None: nobody that we know."""
    for kind, names in (("apps", claims.apps), ("groups", claims.groups), ("roles", claims.roles)):
        meant = [members[kind, name] for name in names if (kind, name) in members]
        if meant:
            return min(meant, key=itemgetter(0))[1]
    return None


def _ids(payload: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    return tuple(name.lower() for name in _texts(payload, kind))


def _texts(payload: Mapping[str, Any], kind: str) -> Iterable[str]:
    for name in _NAMES[kind]:
        value = payload.get(name)
        values = value if isinstance(value, list) else [value]
        yield from (each for each in values if isinstance(each, str) and each)


def _instant(value: Any) -> float:
    """What is no number is long past."""
    return float(value) if isinstance(value, int | float) else 0.0
