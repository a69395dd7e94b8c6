"""A call as one upstream gets it.

Rule: built afresh for each attempt; nothing is changed in place, and bytes that need no change are passed on as they came.
"""

import re
from collections.abc import AsyncIterator
from urllib.parse import quote

import msgspec

from shared.core.api import multipart
from shared.core.api.named_models import LineReader, Rename
from shared.core.api.operations import Form, UrlStyle
from shared.core.calls import Call, field, fields_with_models, model_part, parameter_name, with_models
from shared.core.configuration import Target, Upstream, UpstreamAuth, UpstreamKind
from shared.core.headers import CREDENTIAL_PARAMETERS, IMAGE_MODEL, Headers, for_upstream, get
from shared.core.trace_context import attempt_of, for_attempt

_USAGE_CHUNKS_SINCE = "2024-09-01-preview"
"""The first Azure api-version that knows `stream_options.include_usage`."""
_OURS_IN_QUERIES = CREDENTIAL_PARAMETERS | {"api-version"}
_READ_FIELDS = tuple(
    f'"{name}"'.encode()
    for name in (
        *("model", "stream", "stream_options", "store", "n", "best_of", "prompt", "tools"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens"),
    )
)
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_LONGEST_SEARCHED = 1024 * 1024


class UpstreamRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt sends."""

    method: str
    url: str
    headers: Headers
    body: bytes | AsyncIterator[bytes]
    asks_usage: bool
    """Whether the gateway asked for a usage chunk that the client did not: it is taken out of the answer again."""


def upstream_request(call: Call, target: Target, credential: str, attempt: int = 0) -> UpstreamRequest:
    """The request that asks `target`, shown that key or token, to serve `call`, in that upstream's own words. `attempt` counts
    those that went before."""
    asks_usage = (
        call.stream and call.route.operation.usage_chunk and not call.wants_usage and _has_usage_chunks(call, target)
    )
    return UpstreamRequest(
        method=call.route.operation.method,
        url=_url(call, target),
        headers=(
            *_passed_on(call, target, attempt),
            *_credential(target.upstream, credential),
            _accept_encoding(call, rewrites=asks_usage),
            *_length(call),
        ),
        body=call.upload.chunks(_reader(call, target)) if call.upload else _body(call, target, asks_usage=asks_usage),
        asks_usage=asks_usage,
    )


def own_request(upstream: Upstream, path: str, credential: str, api_version: str | None) -> UpstreamRequest:
    """A look at a stored object that the gateway takes by itself."""
    prefix = {UpstreamKind.OPENAI: "/", UpstreamKind.AZURE_V1: "/openai/v1/", UpstreamKind.AZURE: "/openai/"}[
        upstream.kind
    ]
    query = f"?api-version={api_version or upstream.api_version}" if upstream.kind is UpstreamKind.AZURE else ""
    return UpstreamRequest(
        method="GET",
        url=upstream.url + prefix + path + query,
        headers=(*_credential(upstream, credential), ("accept-encoding", "identity")),
        body=b"",
        asks_usage=False,
    )


def _passed_on(call: Call, target: Target, attempt: int) -> Headers:
    """The client's own headers. Its `traceparent` is among them, unless the attempt has a span of its own."""
    headers = for_upstream(call.request.headers)
    if get(headers, IMAGE_MODEL):
        rename = _rename(call, target)
        headers = tuple((name, rename(value) if name == IMAGE_MODEL else value) for name, value in headers)
    return headers if call.trace is None else for_attempt(headers, attempt_of(call.trace, attempt))


def _length(call: Call) -> Headers:
    """Of a body that passes through; any other's is its own."""
    return (("content-length", str(call.upload.declared_bytes)),) if call.upload else ()


def _url(call: Call, target: Target) -> str:
    query = [pair for pair in call.request.query.split("&") if pair and parameter_name(pair) not in _OURS_IN_QUERIES]
    if target.upstream.kind is UpstreamKind.AZURE:
        query.insert(0, f"api-version={_api_version(call, target)}")
    return target.upstream.url + _prefix(call, target) + call.route.path + (f"?{'&'.join(query)}" if query else "")


def _prefix(call: Call, target: Target) -> str:
    if target.upstream.kind is UpstreamKind.OPENAI:
        return "/"
    if target.upstream.kind is UpstreamKind.AZURE_V1:
        return "/openai/v1/"
    if not call.route.operation.in_deployment:
        return "/openai/"
    return f"/openai/deployments/{quote(target.deployment.deployment, safe='')}/"


def _api_version(call: Call, target: Target) -> str:
    asked = call.api_version if call.route.style is UrlStyle.AZURE else None
    return asked or target.upstream.api_version


def _has_usage_chunks(call: Call, target: Target) -> bool:
    return target.upstream.kind is not UpstreamKind.AZURE or _api_version(call, target) >= _USAGE_CHUNKS_SINCE


def _credential(upstream: Upstream, credential: str) -> Headers:
    """Azure takes keys in a header of its own, and tokens as everyone does."""
    if upstream.kind is UpstreamKind.OPENAI or upstream.auth is UpstreamAuth.IDENTITY:
        return (("authorization", f"Bearer {credential}"),)
    return (("api-key", credential),)


def _accept_encoding(call: Call, *, rewrites: bool) -> tuple[str, str]:
    """Only what the usage reader can read; nothing where events are to be taken out."""
    offered = get(call.request.headers, "accept-encoding") or ""
    return ("accept-encoding", "gzip" if "gzip" in offered and not rewrites else "identity")


def _reader(call: Call, target: Target) -> LineReader | None:
    """What reads along with a body that passes through, to see that what it names may pass."""
    return LineReader(_rename(call, target)) if call.route.operation.lines else None


def _rename(call: Call, target: Target) -> Rename:
    names = call.names
    return (lambda model: names.on(target.upstream.name, model)) if names else str


def _body(call: Call, target: Target, *, asks_usage: bool) -> bytes:
    operation = call.route.operation
    if operation.lines or (operation.models and not operation.names_model):
        return with_models(call, _rename(call, target))
    in_path = operation.in_deployment and target.upstream.kind is UpstreamKind.AZURE
    names_deployment = operation.names_model and not in_path
    if operation.form is Form.MULTIPART:
        return _multipart_body(call, target) if names_deployment else call.body
    changes = dict(fields_with_models(call, _rename(call, target)))
    if names_deployment:
        name = msgspec.json.encode(target.deployment.deployment)
        if bytes(call.fields.get("model", b"")) != name:
            changes["model"] = msgspec.Raw(name)
    if asks_usage:
        options = field(call.fields, "stream_options", dict[str, msgspec.Raw]) or {}
        changes["stream_options"] = msgspec.Raw(msgspec.json.encode(options | {"include_usage": True}))
    is_rewritten = changes or (call.fields and _may_repeat_a_name(call.body))
    return msgspec.json.encode({**call.fields, **changes}) if is_rewritten else call.body


def _may_repeat_a_name(body: bytes) -> bool:
    """Whether a field that we have read may stand in the body twice, where an upstream could read another than we did:
    another model than the client may use, say. A large body is not searched."""
    return (
        len(body) > _LONGEST_SEARCHED
        or any(body.count(name) > 1 for name in _READ_FIELDS)
        or _ESCAPED_LETTER.search(body) is not None
    )


def _multipart_body(call: Call, target: Target) -> bytes:
    named = model_part(call.body, call.request)
    deployment = target.deployment.deployment
    if named is None:
        return multipart.with_field(call.body, get(call.request.headers, "content-type") or "", "model", deployment)
    return call.body if named.value == deployment else multipart.replaced(call.body, named, deployment)
