"""Reads a URL: which resource, which family, which deployment, and what is left of the path."""

import re
from typing import Literal
from urllib.parse import parse_qsl

import msgspec

from devtools.simulator.errors import bad_request, unknown_url

Family = Literal["azure", "azure-v1", "openai"]

_URL = re.compile(
    r"(?:/r/(?P<resource>[^/]+))?"
    r"(?:/openai/deployments/(?P<deployment>[^/]+)|(?P<azure_v1>/openai/v1)|(?P<azure>/openai)|(?P<openai>/v1))"
    r"/(?P<path>.+?)/?"
)
_API_VERSION = re.compile(r"\d{4}-\d\d-\d\d(-preview)?")


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request is addressed to."""

    resource: str
    family: Family
    deployment: str | None
    """The deployment the URL names; only the dated Azure URLs do."""
    path: str
    """What is left, without slashes at its ends: `chat/completions`."""
    query: dict[str, str]

    @property
    def api_version(self) -> str | None:
        """The query parameter `api-version`."""
        return self.query.get("api-version")

    @property
    def is_azure(self) -> bool:
        """Says whether headers and errors are Azure's."""
        return self.family != "openai"

    def check_version(self, method: str) -> None:
        """Raises `ApiError` unless a dated Azure URL has a version: 404 without one, 400 when it is no date."""
        if self.family != "azure":
            return
        if not self.api_version:
            raise unknown_url(method, self.path)
        if not _API_VERSION.fullmatch(self.api_version):
            raise bad_request("API version not supported", code="BadRequest")


def parse(path: str, query: bytes) -> Route | None:
    """Returns the route of a URL, or None when it belongs to no family."""
    found = _URL.fullmatch(path)
    if found is None:
        return None
    family: Family = "openai" if found["openai"] else "azure-v1" if found["azure_v1"] else "azure"
    return Route(
        resource=found["resource"] or "default",
        family=family,
        deployment=found["deployment"],
        path=found["path"],
        query=dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
    )
