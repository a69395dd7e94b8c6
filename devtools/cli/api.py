"""The gateway that commands ask: its management API, with the admin key."""

import argparse
import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from devtools.cli.output import CommandError
from devtools.run import RUN_INFO

_TIMEOUT_S = 60.0  # an app that scaled to zero has to start first


class Api:
    """`/manage` of a running gateway."""

    def __init__(self, url: str, admin_key: str) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.Client(headers={"authorization": f"Bearer {admin_key}"}, timeout=_TIMEOUT_S)

    def call(
        self, method: str, *path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The answer's JSON; empty where it has none. Raises CommandError."""
        url = "/".join((self._url, "manage", *(quote(part, safe="") for part in path)))
        try:
            answer = self._http.request(method, url, json=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CommandError(f"{self._url} cannot be reached: {error}") from error
        try:
            answered: dict[str, Any] = answer.json() if answer.content else {}
        except ValueError as error:
            raise CommandError(f"{url} is no Tollgate: it answered {answer.status_code} without JSON") from error
        if answer.is_error:
            raise CommandError(f"{_message(answered)} ({answer.status_code})")
        return answered


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
