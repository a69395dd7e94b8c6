"""The gateway that commands ask: its management API and its exports, with the admin key."""

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from devtools.cli.output import CommandError
from devtools.run import RUN_INFO

_TIMEOUT_S = 60.0  # an app that scaled to zero has to start first


class Api:
    """A running gateway."""

    def __init__(self, url: str, admin_key: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {admin_key}"}

    def call(
        self, method: str, *path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The JSON that `/manage` answers; empty where it has none. Raises CommandError."""
        url = "/".join((self._url, "manage", *(quote(part, safe="") for part in path)))
        try:
            with self._connected() as http:
                answer = http.request(method, url, json=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CommandError(f"{self._url} cannot be reached: {error}") from error
        try:
            answered: dict[str, Any] = answer.json() if answer.content else {}
        except ValueError as error:
            raise CommandError(f"{url} is no Tollgate: it answered {answer.status_code} without JSON") from error
        if answer.is_error:
            raise CommandError(f"{_message(answered)} ({answer.status_code})")
        return answered

    def _connected(self) -> httpx.Client:
        return httpx.Client(headers=self._headers, timeout=_TIMEOUT_S)

    @contextmanager
    def stream(
        self, method: str, path: str, parameters: Mapping[str, str], content: bytes | None = None
    ) -> Iterator[httpx.Response]:
        """The answer to a request, to be read bit by bit. Raises CommandError, also where it breaks off."""
        try:
            with (
                self._connected() as http,
                http.stream(method, f"{self._url}{path}", params=parameters, content=content) as answer,
            ):
                if answer.is_error:
                    answer.read()
                    raise CommandError(f"{_message(_json(answer))} ({answer.status_code})")
                yield answer
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CommandError(f"{self._url}{path} broke off: {error}") from error


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        value = answer.json()
    except ValueError:
        value = answer.text
    return value if isinstance(value, dict) else {"error": str(value)[:200]}


def _message(answered: dict[str, Any]) -> str:
    error = answered.get("error")
    text = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(text or answered).split())


def api(options: argparse.Namespace) -> Api:
    """The gateway that the options or the environment name; else the one that `make run` has started."""
    url = options.url or os.environ.get("TOLLGATE_URL")
    key = options.admin_key or os.environ.get("TOLLGATE_ADMIN_KEY")
    if not url and not key and RUN_INFO.exists():
        info = json.loads(RUN_INFO.read_bytes())
        return Api(info["base_url"], info["admin_key"])
    if not url or not key:
        missing = "--url (or TOLLGATE_URL)" if not url else "--admin-key (or TOLLGATE_ADMIN_KEY)"
        raise CommandError(f"give {missing}; without either, the gateway of `make run` is asked, if it is running")
    return Api(url, key)
