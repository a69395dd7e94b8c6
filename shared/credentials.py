"""What upstreams are shown: their keys, or tokens of the app's managed identity.

Rule: a call does not wait for a token that another call is fetching a second time, nor for one that is merely getting old:
that one is replaced in the background. Without a token nothing is sent.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from azure.core.exceptions import AzureError

from shared.core.configuration import Upstream, UpstreamAuth
from shared.gateway.upstream import UpstreamError

if TYPE_CHECKING:
    from azure.core.credentials import AccessTokenInfo
    from azure.core.credentials_async import AsyncSupportsTokenInfo
    from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential

_log = logging.getLogger(__name__)

_AHEAD_S = 300.0
"""A token is replaced this long before it expires, or when its issuer says so."""
_PAUSE_S = 30.0
"""Between attempts to replace one that still holds."""
_USELESS_S = 10.0
"""A token is not shown so shortly before it expires."""
UNIDENTIFIED = "no token"
"""What the reason begins with where the identity has none to show."""
_TIMEOUT_S = 10.0


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token, and in seconds since 1970 until when it holds and from when a new one should be had."""

    text: str
    expires_at: float
    refresh_at: float


class _Source:
    """The tokens of one identity for one scope."""

    def __init__(self, credential: "AsyncSupportsTokenInfo", scope: str, now: Callable[[], datetime]) -> None:
        self._credential = credential
        self._scope = scope
        self._now = now
        self._token: Token | None = None
        self._asked_at = 0.0
        self._fetching: asyncio.Task[Token] | None = None

    async def current(self) -> str:
        """A token that holds. Raises UpstreamError where none can be had."""
        now, token = self._now().timestamp(), self._token
        if token is None or now >= token.expires_at - _USELESS_S:
            token = await asyncio.shield(self._fetched())
        elif now >= token.refresh_at and now - self._asked_at >= _PAUSE_S:
            self._fetched()
        return token.text

    def _fetched(self) -> asyncio.Task[Token]:
        """The one fetch under way."""
        if self._fetching is None:
            self._asked_at = self._now().timestamp()
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._done)
        return self._fetching

    def _done(self, fetching: asyncio.Task[Token]) -> None:
        self._fetching = None
        if fetching.cancelled():
            return
        error = fetching.exception()  # also where nobody waits for it
        if error is None:
            self._token = fetching.result()
        else:
            _log.warning("no token", extra={"scope": self._scope, "reason": str(error)})

    async def _fetch(self) -> Token:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return _token(await self._credential.get_token_info(self._scope))
        except (AzureError, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0][:200]
            raise UpstreamError(f"{UNIDENTIFIED}: {type(error).__name__}: {reason}".rstrip(": "), sent=False) from error


class Credentials:
    """One per process."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._identities: dict[str, AsyncSupportsTokenInfo] = {}
        self._sources: dict[tuple[str, str], _Source] = {}

    async def current(self, upstream: Upstream) -> str:
        """What to show to `upstream` now. Raises UpstreamError, not sent, where there is nothing to show."""
        if upstream.auth is UpstreamAuth.KEY:
            return upstream.key or ""
        name = upstream.identity_client_id, upstream.scope
        if name not in self._sources:
            self._sources[name] = _Source(self._identity(upstream.identity_client_id), upstream.scope, self._now)
        return await self._sources[name].current()

    def _identity(self, client_id: str) -> "AsyncSupportsTokenInfo":
        if client_id not in self._identities:
            self._identities[client_id] = app_identity(client_id)
        return self._identities[client_id]

    async def close(self) -> None:
        for identity in self._identities.values():
            await identity.close()


def app_identity(client_id: str = "") -> "DefaultAzureCredential | ManagedIdentityCredential":
    """The managed identity of that client id; without one the app's own, as AZURE_CLIENT_ID says, or who is signed in here."""
    # Imported here: it takes 40 ms of a cold start, and an app whose upstreams have keys does without.
    from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential

    if client_id:
        return ManagedIdentityCredential(client_id=client_id)
    return DefaultAzureCredential(exclude_interactive_browser_credential=True)


def _token(info: "AccessTokenInfo") -> Token:
    ahead = float(info.expires_on) - _AHEAD_S
    return Token(text=info.token, expires_at=float(info.expires_on), refresh_at=min(ahead, info.refresh_on or ahead))
