"""A call as the client made it, and as one upstream gets it.

Rule: values only. A request to an upstream is built afresh for each attempt; nothing is changed in place, and bytes that
need no change are passed on as they came.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from urllib.parse import quote

import msgspec

from shared.core.configuration import Client, Target, UpstreamKind
from shared.core.errors import BadRequest
from shared.core.headers import Headers, for_upstream, get
from shared.core.operations import Route, UrlStyle

_USAGE_CHUNKS_SINCE = "2024-09-01-preview"
"""The first Azure api-version that knows `stream_options.include_usage`."""


_PREFIX = {
    UpstreamKind.OPENAI: "",
    UpstreamKind.AZURE_V1: "/openai/v1",
    UpstreamKind.AZURE: "/openai/deployments/",  # and the deployment's name
}


class InboundRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it reached the gateway."""

    method: str
    path: str
    """Raw: percent-encoding as the client sent it."""
    query: str
    headers: Headers
    caller_ip: str | None
    chunks: Callable[[], AsyncIterator[bytes]]
    """The body, as it comes; may be read once."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is understood: who asks which model for what."""

    call_id: str
    opened_at: datetime
    client: Client
    route: Route
    model: str
    stream: bool
    wants_usage: bool
    """Whether the client itself asked for the usage chunk."""
    api_version: str | None
    end_user: str | None
    """The client's own user, in the words of `safety_identifier` or `user`."""
    request: InboundRequest
    body: bytes
    fields: Mapping[str, msgspec.Raw]
    """The body's top-level fields, each as it stands in the body."""


class UpstreamRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt sends."""

    method: str
    url: str
    headers: Headers
    body: bytes
    asks_usage: bool
    """Whether the gateway asked for a usage chunk that the client did not: it is taken out of the answer again."""


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


def understand(
    call_id: str, opened_at: datetime, client: Client, route: Route, request: InboundRequest, body: bytes
) -> Call:
    """The call in a request with a JSON body. Raises BadRequest for what cannot be routed."""
    fields = _decode(body, dict[str, msgspec.Raw], "The request body is not a JSON object")
    model = route.model or _field(fields, "model", str)
    if not model:
        raise BadRequest("you must provide a model parameter", param="model")
    options = _field(fields, "stream_options", _StreamOptions)
    return Call(
        call_id=call_id,
        opened_at=opened_at,
        client=client,
        route=route,
        model=model,
        stream=bool(_field(fields, "stream", bool)),
        wants_usage=bool(options and options.include_usage),
        api_version=_query_value(request.query, "api-version"),
        end_user=_field(fields, "safety_identifier", str) or _field(fields, "user", str),
        request=request,
        body=body,
        fields=fields,
    )


def upstream_request(call: Call, target: Target) -> UpstreamRequest:
    """The request that asks `target` to serve `call`, in that upstream's own words."""
    asks_usage = (
        call.stream and call.route.operation.usage_chunk and not call.wants_usage and _has_usage_chunks(call, target)
    )
    return UpstreamRequest(
        method=call.route.operation.method,
        url=_url(call, target),
        headers=(
            *for_upstream(call.request.headers),
            *_credential(target),
            _accept_encoding(call, rewrites=asks_usage),
        ),
        body=_body(call, target, asks_usage=asks_usage),
        asks_usage=asks_usage,
    )


def _url(call: Call, target: Target) -> str:
    upstream, path = target.upstream, call.route.operation.path
    query = [pair for pair in call.request.query.split("&") if pair and not pair.startswith("api-version=")]
    base = upstream.url + _PREFIX[upstream.kind]
    if upstream.kind is UpstreamKind.AZURE:
        base += quote(target.deployment.deployment, safe="")
        query.insert(0, f"api-version={_api_version(call, target)}")
    return f"{base}/{path}" + (f"?{'&'.join(query)}" if query else "")


def _api_version(call: Call, target: Target) -> str:
    asked = call.api_version if call.route.style is UrlStyle.AZURE else None
    return asked or target.upstream.api_version


def _has_usage_chunks(call: Call, target: Target) -> bool:
    return target.upstream.kind is not UpstreamKind.AZURE or _api_version(call, target) >= _USAGE_CHUNKS_SINCE


def _credential(target: Target) -> Headers:
    key = target.upstream.key
    if target.upstream.kind is UpstreamKind.OPENAI:
        return (("authorization", f"Bearer {key}"),)
    return (("api-key", key),)


def _accept_encoding(call: Call, *, rewrites: bool) -> tuple[str, str]:
    """Only what the usage reader can read; nothing where events are to be taken out."""
    offered = get(call.request.headers, "accept-encoding") or ""
    return ("accept-encoding", "gzip" if "gzip" in offered and not rewrites else "identity")


def _body(call: Call, target: Target, *, asks_usage: bool) -> bytes:
    changes: dict[str, msgspec.Raw] = {}
    deployment = target.deployment.deployment
    if target.upstream.kind is not UpstreamKind.AZURE and bytes(call.fields.get("model", b"")) != (
        name := msgspec.json.encode(deployment)
    ):
        changes["model"] = msgspec.Raw(name)
    if asks_usage:
        options = _field(call.fields, "stream_options", dict[str, msgspec.Raw]) or {}
        changes["stream_options"] = msgspec.Raw(msgspec.json.encode(options | {"include_usage": True}))
    return msgspec.json.encode({**call.fields, **changes}) if changes else call.body


def _field[T](fields: Mapping[str, msgspec.Raw], name: str, type_: type[T]) -> T | None:
    raw = fields.get(name)
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        return msgspec.json.decode(raw, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"Invalid value for '{name}': {error}", param=name) from error


def _decode[T](body: bytes, type_: type[T], problem: str) -> T:
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"{problem}: {error}", code="invalid_json") from error


def _query_value(query: str, name: str) -> str | None:
    return next((value for key, _, value in (pair.partition("=") for pair in query.split("&")) if key == name), None)
