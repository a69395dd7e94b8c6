"""Who calls.

Rule: a key is looked up by the id that it carries and compared in constant time; what is wrong with a wrong one is not said.
"""

import hmac
from collections.abc import Mapping

from shared.core.clients.keys import KeyHash, looked_up_by, verify
from shared.core.configuration import Client
from shared.core.errors import Unauthenticated
from shared.core.headers import Headers, get


def presented_key(headers: Headers) -> str | None:
    """The key in `Authorization: Bearer` (OpenAI's way) or `api-key` (Azure's)."""
    scheme, _, token = (get(headers, "authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else get(headers, "api-key")


def presents_admin_key(headers: Headers, admin_key: str) -> bool:
    """Whether the request carries the admin key. Where there is none, nothing is it."""
    key = presented_key(headers)
    return bool(key and admin_key) and hmac.compare_digest((key or "").encode(), admin_key.encode())


def identify(headers: Headers, keys: Mapping[str, tuple[KeyHash, Client]]) -> Client:
    """The client whose key the request carries. Raises Unauthenticated."""
    key = presented_key(headers)
    if not key:
        raise Unauthenticated(
            "You didn't provide an API key. Send your Tollgate client key as 'Authorization: Bearer <key>' or 'api-key: <key>'."
        )
    kept, client = keys.get(looked_up_by(key), (None, None))
    if kept is None or client is None or not verify(key, kept):
        raise Unauthenticated("Incorrect API key provided. Ask whoever runs this gateway for a Tollgate client key.")
    return client
