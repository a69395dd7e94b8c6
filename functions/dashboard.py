"""`GET /dashboard`: a page that shows what `/usage` and `/calls` tell, and the files that it is made of.

    /dashboard                      the page; asks again each time whether it is still the same
    /dashboard/<version>/<file>     its scripts and styles; kept by browsers for as long as they like
    /dashboard/session              who the bearer of a key or token is: an administrator, or which client
    /dashboard/overview             the usage of some periods, added up; shared/core/reports/overview.py says by what

Rule: the files hold no secrets and are for everyone; every number comes from the APIs, which ask who wants to know. The page
loads nothing from, and tells nothing to, any other host, and no text can become markup or script: the policy has the
browser refuse it (https://w3c.github.io/trusted-types/dist/spec/).
"""

import asyncio
import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import azure.functions as func
import msgspec
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.reading import Asked, read
from functions.web import METHODS, AnswerResponse, inbound, json_response
from shared import wiring
from shared.core.errors import GatewayError, MethodNotAllowed, NotFound
from shared.core.headers import Headers, get
from shared.core.reports.overview import Overview
from shared.core.reports.usage_report import PARAMETERS, parse_query
from shared.gateway.answers import Answer, refusal
from shared.usage.rows import rows_of

blueprint = func.Blueprint()

_FOLDER = Path(__file__).with_name("dashboard_page")
_PAGE = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_SAFETY: Headers = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
)
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


class _File(msgspec.Struct, frozen=True, kw_only=True):
    content: bytes
    compressed: bytes
    etag: str
    type: str


class _Site(msgspec.Struct, frozen=True, kw_only=True):
    """Every file by its name below the folder. The version changes with any of them."""

    version: str
    files: Mapping[str, _File]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """For whom the dashboard is shown. No client: for an administrator, who may see everyone's."""

    client_id: str | None


@blueprint.route(route="dashboard/{*path}", methods=METHODS)
async def dashboard(req: Request) -> Response:
    """The page, one of its files, or what it asks for; see the module."""
    request = inbound(req)
    path = request.path[len("/dashboard") :]  # in whatever case: the host does not mind
    if path in _ANSWERS:
        return await read(req, _ANSWERS[path])
    try:
        if req.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed(f"Not allowed to {req.method} on {req.url.path}. (HINT: make it GET.)")
        return AnswerResponse(_answer(path, request.headers, await asyncio.to_thread(_site)))
    except GatewayError as error:
        return AnswerResponse(refusal(error))


async def _session(asked: Asked) -> Response:
    return json_response(Session(client_id=asked.client_id))


async def _overview(asked: Asked) -> Response:
    asked.parameters.only(*PARAMETERS)
    overview = Overview(parse_query(asked.parameters, wiring.now(), asked.client_id))
    watermark = await asked.parts.usage_rows.watermark()  # before the rows: they hold at least what it says
    async for row in rows_of(asked.parts.usage_rows, overview.rows):
        overview.add(row)
    body = msgspec.json.encode(overview.report(asked.parts.currency, watermark))
    headers: Headers = (("content-type", "application/json"), ("cache-control", "no-store"))
    return AnswerResponse(
        _packed(body, await asyncio.to_thread(gzip.compress, body, 5), headers, asked.request.headers)
    )


_ANSWERS = {"/session": _session, "/overview": _overview}


def _answer(path: str, asked: Headers, site: _Site) -> Answer:
    """What `path`, the part behind /dashboard, is answered. Raises NotFound."""
    if path == "":
        return _sent(site.files[_PAGE], asked, _ASK_AGAIN)
    if path == "/":  # its relative addresses would lead elsewhere
        return Answer(status=308, headers=(("location", "../dashboard"),), body=b"")
    version, _, name = path.removeprefix("/").partition("/")
    file = site.files.get(name)
    if file is None or name == _PAGE:
        raise NotFound(f"There is no /dashboard{path}. The dashboard is at /dashboard.")
    # While a new version is rolled out, its page may be answered by one instance and its files by another.
    return _sent(file, asked, _FOREVER if version == site.version else _ASK_AGAIN)


def _sent(file: _File, asked: Headers, caching: str) -> Answer:
    headers: Headers = (("etag", file.etag), ("cache-control", caching), *_SAFETY)
    if file.etag in (get(asked, "if-none-match") or ""):
        return Answer(status=304, headers=headers, body=b"")
    return _packed(file.content, file.compressed, (*headers, ("content-type", file.type)), asked)


def _packed(plain: bytes, compressed: bytes, headers: Headers, asked: Headers) -> Answer:
    """The one of both that the browser takes."""
    headers += (("vary", "accept-encoding"),)
    if "gzip" not in (get(asked, "accept-encoding") or ""):
        return Answer(status=200, headers=headers, body=plain)
    return Answer(status=200, headers=(*headers, ("content-encoding", "gzip")), body=compressed)


@cache
def _site() -> _Site:
    """The files, read once. They are a part of the app: a file that is missing is a deployment gone wrong."""
    contents = {
        path.relative_to(_FOLDER).as_posix(): path.read_bytes()
        for path in sorted(_FOLDER.rglob("*"))
        if path.suffix in _TYPES
    }
    version = _digest(b"".join(name.encode() + content for name, content in contents.items()))
    easy_auth = "on" if wiring.settings_for_bindings().easy_auth else "off"
    page = contents[_PAGE].replace(b"{version}", version.encode()).replace(b"{easy_auth}", easy_auth.encode())
    files = {name: _file(name, content) for name, content in (contents | {_PAGE: page}).items()}
    return _Site(version=version, files=files)


def _file(name: str, content: bytes) -> _File:
    return _File(
        content=content,
        compressed=gzip.compress(content, mtime=0),
        etag=f'"{_digest(content)}"',
        type=_TYPES[Path(name).suffix],
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
