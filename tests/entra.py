"""Entra ID as far as tests need it: an issuer of tokens with its keys, and the endpoint of a managed identity."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time
from typing import Any, Self, override
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

TENANT = "11111111-2222-3333-4444-555555555555"
AUDIENCE = "api://tollgate"
IDENTITY_SECRET = "secret-of-the-identity-endpoint"


class _Server:
    """Answers GET with the JSON of `answer(path, query, headers)`, or with 500 while `is_away`."""

    def __init__(self) -> None:
        self.requests = 0
        self.is_away = False
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.requests += 1
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, value = (503, {}) if owner.is_away else owner.answer(parts.path, query, headers)
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            @override
            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, path: str, query: dict[str, str], headers: dict[str, str]) -> tuple[int, Any]:
        raise NotImplementedError

    @classmethod
    @contextlib.contextmanager
    def start(cls) -> Iterator[Self]:
        started = cls()
        thread = threading.Thread(target=started._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield started
        finally:
            started._server.shutdown()
            thread.join()
            started._server.server_close()


class Issuer(_Server):
    """Signs tokens, and tells the public halves of its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.document: bytes | None = None
        """What to answer in place of the keys."""
        self.rotate("key-1")

    def rotate(self, key_id: str, *, keep: bool = True) -> None:
        """Signs with a new key from now on; the others stay unless they are withdrawn."""
        self.keys = {**(self.keys if keep else {}), key_id: rsa.generate_private_key(65537, 2048)}

    @override
    def answer(self, path: str, query: dict[str, str], headers: dict[str, str]) -> tuple[int, Any]:
        return 200, self.document or {"keys": [public_jwk(key_id, key) for key_id, key in self.keys.items()]}

    def trust(self) -> dict[str, Any]:
        """The configuration's `entra`."""
        return {"tenant_id": TENANT, "audiences": [AUDIENCE, "client-id"], "jwks_url": f"{self.url}/keys"}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """A token's claims; None takes one out."""
        claims = {
            "iss": f"https://login.microsoftonline.com/{TENANT}/v2.0",
            "aud": AUDIENCE,
            "iat": int(time()),
            "nbf": int(time()) - 5,
            "exp": int(time()) + 3600,
            "tid": TENANT,
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token with these claims, signed with the newest key."""
        key_id, key = list(self.keys.items())[-1]
        return jwt.encode(self.claims(**claims), key, "RS256", {"kid": key_id} | (headers or {}))


class IdentityEndpoint(_Server):
    """App Service's endpoint for tokens of the managed identity
    (https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference)."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, str]] = []
        self.refuses: Callable[[dict[str, str]], bool] = lambda _: False

    @property
    def settings(self) -> dict[str, str]:
        """What the platform puts into an app's environment."""
        return {"IDENTITY_ENDPOINT": f"{self.url}/msi/token", "IDENTITY_HEADER": IDENTITY_SECRET}

    @override
    def answer(self, path: str, query: dict[str, str], headers: dict[str, str]) -> tuple[int, Any]:
        self.asked.append(query)
        if headers.get("x-identity-header") != IDENTITY_SECRET or self.refuses(query):
            return 400, {"error": {"code": "no_identity", "message": "No such identity."}}
        who = query.get("client_id", "system")
        return 200, {
            "access_token": f"token-of-{who}-for-{query['resource']}",
            "expires_on": str(int(time()) + 86400),
            "resource": query["resource"],
            "token_type": "Bearer",
        }


def public_jwk(key_id: str, key: rsa.RSAPrivateKey) -> dict[str, Any]:
    """As Entra publishes keys: without `alg`."""
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": key_id, "use": "sig"}
