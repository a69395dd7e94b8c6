"""Tokens of Entra ID that clients show: who issued them, for whom, and whether they still hold.

Rule: no token is believed that a key of the configured issuer has not signed with RS256. Keys are fetched ahead and kept
while their place cannot be reached; a token can have them fetched early, once a minute. A token is verified once: after
that it is known by its hash, until it expires or a key is withdrawn.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import aiohttp
import jwt

from shared.core.clients.claims import Claims, claims_of, is_current
from shared.core.configuration import Entra
from shared.core.errors import NotReady, Unauthenticated

_log = logging.getLogger(__name__)

_ALGORITHMS = ["RS256"]
"""What Entra signs with. A list of our own: `none` and HMAC with a public key are what the token's word would allow."""
_LONGEST_TOKEN = 16 * 1024
_MAX_KNOWN = 4096
_FETCH_TIMEOUT_S = 5.0
_KEYS_AGE_S = 3600.0
_UNKNOWN_KEY_PAUSE_S = 60.0
_NO_KEYS_PAUSE_S = 2.0


def looks_like_token(text: str) -> bool:
    """Whether this may be a signed JWT (RFC 7519): three parts, of which the first begins as an encoded `{"` does."""
    return text.startswith("eyJ") and text.count(".") == 2


class SigningKeys:
    """The keys of one issuer, by `kid`."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self.by_id: Mapping[str, jwt.PyJWK] = {}
        self.withdrawn = 0
        """How often a key that was there is not any more."""
        self._url = url
        self._clock = clock
        self._asked_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, key_id: str) -> jwt.PyJWK | None:
        """The key; looked for anew where it is not known. Raises NotReady where there are no keys at all."""
        if key_id not in self.by_id:
            await self.refresh(_UNKNOWN_KEY_PAUSE_S if self.by_id else _NO_KEYS_PAUSE_S)
        if not self.by_id:
            raise NotReady("The keys that Entra tokens are signed with cannot be fetched; try again later.")
        return self.by_id.get(key_id)

    async def follow(self) -> None:
        """Keeps the keys fresh; to be called now and then. Raises nothing, as `refresh`."""
        await self.refresh(_KEYS_AGE_S if self.by_id else _NO_KEYS_PAUSE_S)

    async def refresh(self, pause_s: float) -> None:
        """Fetches the keys unless that was done within the pause. Whoever comes meanwhile waits for the same answer."""
        if self._fetching is None:
            if self._asked_at is not None and self._clock() - self._asked_at < pause_s:
                return
            self._asked_at = self._clock()
            self._fetching = asyncio.create_task(self._fetch())
        await asyncio.shield(self._fetching)  # a client that hangs up does not end it for the others

    async def _fetch(self) -> None:
        try:
            found = _signing_keys(await _get(self._url))
        except Exception as error:  # noqa: BLE001 - whatever another's answer does to us, the keys that we have stay
            _log.warning("signing keys not fetched", extra={"url": self._url, "reason": repr(error)})
        else:
            if not self.by_id.keys() <= found.keys():
                self.withdrawn += 1
            self.by_id = found
        finally:
            self._fetching = None


class EntraTokens:
    """One per process. `now` is the wall clock, `clock` a monotonic one in seconds."""

    def __init__(self, now: Callable[[], datetime], clock: Callable[[], float]) -> None:
        self._now = now
        self._clock = clock
        self._trust: Entra | None = None
        self._keys = SigningKeys("", clock)
        self._known: dict[bytes, Claims] = {}
        self._withdrawn = 0

    async def follow(self, trust: Entra | None) -> None:
        """Has the keys of the configured issuer at hand before a call needs them."""
        if trust is not None:
            await self._keys_of(trust).follow()

    async def claims(self, token: str, trust: Entra) -> Claims:
        """The claims of a token that `trust` covers. Raises Unauthenticated; NotReady while no keys can be had."""
        if len(token) > _LONGEST_TOKEN:
            raise _refused(f"is longer than {_LONGEST_TOKEN} characters")
        keys = self._keys_of(trust)
        digest = hashlib.sha256(token.encode()).digest()
        claims = self._known.get(digest)
        if claims is None:
            claims = claims_of(_verified(token, await keys.get(_key_id(token)), trust))
            self._learn(digest, claims, trust)
        if not is_current(claims, self._now().timestamp()):
            self._known.pop(digest, None)
            raise _refused("has expired, or is not valid yet")
        return claims

    def _keys_of(self, trust: Entra) -> SigningKeys:
        if trust != self._trust:
            if self._trust is None or trust.keys_url != self._trust.keys_url:
                self._keys = SigningKeys(trust.keys_url, self._clock)
            self._trust = trust
            self._known.clear()
        if self._withdrawn != self._keys.withdrawn:
            self._withdrawn = self._keys.withdrawn
            self._known.clear()
        return self._keys

    def _learn(self, digest: bytes, claims: Claims, trust: Entra) -> None:
        if trust != self._trust:  # the configuration is another than when the keys were waited for
            return
        if len(self._known) >= _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[digest] = claims


def _key_id(token: str) -> str:
    try:
        key_id = jwt.get_unverified_header(token).get("kid")
    except jwt.PyJWTError as error:
        raise _refused("cannot be read") from error
    if not isinstance(key_id, str):
        raise _refused("does not name the key that it is signed with")
    return key_id


def _verified(token: str, key: jwt.PyJWK | None, trust: Entra) -> Mapping[str, Any]:
    """What a token says, once its signature, issuer and audience are seen to be right. Times are the caller's."""
    if key is None:
        raise _refused("is signed with a key that its issuer does not have")
    try:
        payload: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=_ALGORITHMS,
            audience=trust.audiences,
            issuer=trust.issuers,
            options={
                "require": ["exp", "iss", "aud"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except jwt.InvalidAudienceError as error:
        raise _refused("is for another audience") from error
    except jwt.InvalidIssuerError as error:
        raise _refused("is of another issuer") from error
    except jwt.PyJWTError as error:
        raise _refused("is not valid") from error
    return payload


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"The token that was sent in place of a key {why}.", code="invalid_token")


def _signing_keys(document: str) -> Mapping[str, jwt.PyJWK]:
    """The RSA keys of a JWK Set (RFC 7517). Raises PyJWTError or ValueError where there are none."""
    keys = jwt.PyJWKSet.from_json(document).keys
    usable = {key.key_id: key for key in keys if key.key_id and key.algorithm_name in _ALGORITHMS}
    if not usable:
        raise ValueError("no RSA key with an id")
    return usable


async def _get(url: str) -> str:
    timeout = aiohttp.ClientTimeout(total=_FETCH_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, allow_redirects=False) as response:
        response.raise_for_status()
        return await response.text()
