"""`/manage`: clients, their keys and the configuration, for administrators. JSON in and out.

    GET    /manage/clients                      every client
    GET    /manage/clients/{id}                 one; its ETag is a header too
    PUT    /manage/clients/{id}                 create or replace; If-Match: <ETag>, or If-None-Match: * to create only
    DELETE /manage/clients/{id}                 with its keys; If-Match: <ETag>
    GET    /manage/clients/{id}/keys            ids, states and dates
    POST   /manage/clients/{id}/keys            {"note", "expires_at", "key": one to adopt} -> the key, shown this once
    DELETE /manage/clients/{id}/keys/{key_id}   revoke
    GET    /manage/configuration                the one in force, keys masked, and how its source stands
    GET    /manage/deployments                  names, models, upstreams, priorities

Rule: nobody gets past `_answer` without being an administrator; what is done is in shared/managing.py.
"""

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

import azure.functions as func
import msgspec
from azurefunctions.extensions.http.fastapi import Request, Response

from functions.web import AnswerResponse, inbound
from shared import wiring
from shared.core.errors import GatewayError, MethodNotAllowed, NotFound, Unauthenticated
from shared.core.headers import Headers, get
from shared.gateway.answers import Answer, refusal

if TYPE_CHECKING:
    from shared.composition import Services
    from shared.managing import ClientView, Management

blueprint = func.Blueprint()


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request of an administrator. What its path does not name is empty."""

    client_id: str
    key_id: str
    headers: Headers
    body: bytes


@blueprint.route(route="manage/{*path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def manage(req: Request) -> Response:
    """The management API; see the module."""
    try:
        return AnswerResponse(await _answer(req))
    except GatewayError as error:
        return AnswerResponse(refusal(error))


async def is_admin(request: Request, parts: "Services") -> bool:
    """Whether the request may manage: with the admin key, or a token that has the admin's role."""
    return await parts.identity.is_admin(inbound(request).headers, parts.configuration)


async def _answer(req: Request) -> Answer:
    parts = await wiring.services()
    if not await is_admin(req, parts):
        raise Unauthenticated(
            "Incorrect admin key provided. Send TOLLGATE_ADMIN_KEY's value as 'Authorization: Bearer <key>', "
            "or an Entra token with the role that TOLLGATE_ADMIN_ROLE names."
        )
    request = inbound(req)
    handlers = {
        method: (handler, match.groups())
        for method, pattern, handler in _ROUTES
        if (match := pattern.fullmatch(request.path.rstrip("/")))
    }
    if not handlers:
        raise NotFound(f"There is no {request.path}. The management API is described in functions/manage.py.")
    if request.method not in handlers:
        raise MethodNotAllowed(f"{request.path} takes {', '.join(sorted(handlers))}.")
    handler, ids = handlers[request.method]
    client_id, key_id, *_ = (*map(unquote, ids), "", "")
    asked = _Asked(client_id=client_id, key_id=key_id, headers=request.headers, body=await req.body())
    return await handler(parts.management, asked)


def _json(value: object, *, status: int = 200, etag: str | None = None) -> Answer:
    headers: Headers = (("content-type", "application/json"), ("cache-control", "no-store"))
    if etag is not None:
        headers += (("etag", etag),)
    return Answer(status=status, headers=headers, body=msgspec.json.encode(value))


def _client(view: "ClientView", status: int = 200) -> Answer:
    return _json(view, status=status, etag=view.etag)


async def _list_clients(management: "Management", asked: _Asked) -> Answer:  # noqa: ARG001 - handlers are alike
    return _json({"clients": await management.clients()})


async def _get_client(management: "Management", asked: _Asked) -> Answer:
    return _client(await management.client(asked.client_id))


async def _put_client(management: "Management", asked: _Asked) -> Answer:
    view, is_new = await management.put_client(
        asked.client_id,
        asked.body,
        if_match=get(asked.headers, "if-match"),
        if_none_match=get(asked.headers, "if-none-match"),
    )
    return _client(view, 201 if is_new else 200)


async def _delete_client(management: "Management", asked: _Asked) -> Answer:
    await management.delete_client(asked.client_id, if_match=get(asked.headers, "if-match"))
    return Answer(status=204, headers=(), body=b"")


async def _list_keys(management: "Management", asked: _Asked) -> Answer:
    return _json({"keys": (await management.client(asked.client_id)).keys})


async def _create_key(management: "Management", asked: _Asked) -> Answer:
    return _json(await management.create_key(asked.client_id, asked.body), status=201)


async def _revoke_key(management: "Management", asked: _Asked) -> Answer:
    return _json(await management.revoke_key(asked.client_id, asked.key_id))


async def _get_configuration(management: "Management", asked: _Asked) -> Answer:  # noqa: ARG001 - likewise
    return _json(management.configuration())


async def _list_deployments(management: "Management", asked: _Asked) -> Answer:  # noqa: ARG001 - likewise
    return _json({"deployments": management.deployments()})


def _route(
    method: str, path: str, handler: Callable[["Management", _Asked], Awaitable[Answer]]
) -> tuple[str, re.Pattern[str], Callable[["Management", _Asked], Awaitable[Answer]]]:
    return method, re.compile("/manage/" + path.replace("{}", "([^/]+)")), handler


_ROUTES = (
    _route("GET", "clients", _list_clients),
    _route("GET", "clients/{}", _get_client),
    _route("PUT", "clients/{}", _put_client),
    _route("DELETE", "clients/{}", _delete_client),
    _route("GET", "clients/{}/keys", _list_keys),
    _route("POST", "clients/{}/keys", _create_key),
    _route("DELETE", "clients/{}/keys/{}", _revoke_key),
    _route("GET", "configuration", _get_configuration),
    _route("GET", "deployments", _list_deployments),
)
