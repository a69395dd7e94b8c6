"""Who calls: the bearer of a key, of an Entra token, or whom App Service has signed in.

Rule: a key of ours is always taken for what it is. What App Service says is heard only where that is switched on, for
without it anyone can write those headers. An answer comes at once unless an issuer's keys have to be waited for.
"""

from shared.clients.entra import EntraTokens, looks_like_token
from shared.core.clients.claims import Claims, Members, client_of, members_of, principal_claims
from shared.core.clients.identity import identify, presented_key, presents_admin_key
from shared.core.clients.keys import key_id
from shared.core.configuration import Client, Configuration
from shared.core.errors import Unauthenticated
from shared.core.headers import Headers, get
from shared.settings import Settings


class Identity:
    """One per process."""

    def __init__(self, settings: Settings, tokens: EntraTokens) -> None:
        self._settings = settings
        self._tokens = tokens
        self._members: tuple[Configuration, Members] | None = None

    async def client_of(self, headers: Headers, configuration: Configuration) -> Client:
        """The client that calls. Raises Unauthenticated; NotReady where a token cannot be checked for now."""
        claims = await self._claims(headers, configuration)
        if claims is None:
            return identify(headers, configuration.keys_by_id)
        client = client_of(claims, self._members_of(configuration))
        if client is None:
            raise Unauthenticated(
                "The token is valid, but neither its app nor its groups or roles mean a client of this gateway.",
                code="unknown_client",
            )
        return client

    async def is_admin(self, headers: Headers, configuration: Configuration | None) -> bool:
        """Whether the admin key is shown, or a token with the admin's role. Raises as `client_of` does."""
        if presents_admin_key(headers, self._settings.admin_key):
            return True
        role = self._settings.admin_role
        claims = await self._claims(headers, configuration) if role and configuration else None
        return claims is not None and role in claims.roles

    async def _claims(self, headers: Headers, configuration: Configuration) -> Claims | None:
        """None where the caller shows no token, or a key of ours."""
        shown = presented_key(headers) or ""
        if key_id(shown):
            return None
        if self._settings.easy_auth and (principal := _principal(headers)):
            return principal
        trust = configuration.document.entra
        return await self._tokens.claims(shown, trust) if trust and looks_like_token(shown) else None

    def _members_of(self, configuration: Configuration) -> Members:
        if self._members is None or self._members[0] is not configuration:
            self._members = (configuration, members_of(configuration.clients_by_id.values()))
        return self._members[1]


def _principal(headers: Headers) -> Claims | None:
    """Whom App Service has signed in, but not where another site's page has the browser send its cookie here."""
    header = get(headers, "x-ms-client-principal")
    is_forged = get(headers, "sec-fetch-site") in {"cross-site", "same-site"} and not get(headers, "authorization")
    return principal_claims(header) if header and not is_forged else None
