"""A call as the client made it.

Rule: values only. No more of a body is read than routing, limits and usage need, and what is not read is kept as it came.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from math import ceil
from typing import Any, Protocol
from urllib.parse import unquote_plus

import msgspec

from shared.core import json_text
from shared.core.api import multipart
from shared.core.api.named_models import LineReader, Rename, lines_renamed, renamed
from shared.core.api.operations import Form, Route, match, nowhere
from shared.core.configuration import Client
from shared.core.errors import BadRequest
from shared.core.headers import IMAGE_MODEL, Headers, get
from shared.core.trace_context import TraceContext
from shared.core.usage import Asked, TokenUsage

_LONGEST_QUERY = 32_768
"""Bytes. What no HTTP client could send on must not count against an upstream."""

_MOST_CHOICES = 10_000
_TRUE = ("true", "True", "1")

type Fields = Mapping[str, msgspec.Raw]
"""A JSON object's fields, each as it stands in the body."""


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
    is_gone: Callable[[], Awaitable[bool]]
    """Whether the client has hung up; may be asked once the body is read."""


class PassingBody(Protocol):
    """A request body that is too large to be held and passes through, once."""

    declared_bytes: int
    passed_bytes: int
    is_begun: bool

    @property
    def sha256(self) -> str: ...

    def chunks(self, lines: LineReader | None = None) -> AsyncIterator[bytes]: ...

    async def finish(self, record: Any, response: bytes) -> str | None: ...


class ModelNames(Protocol):
    """What upstreams call the models that a client may use."""

    def upstreams(self, model: str) -> frozenset[str]:
        """Those that have a model. Raises NotFound."""
        ...

    def on(self, upstream: str, model: str) -> str:
        """The upstream's name for a model. Raises NotFound, BadRequest."""
        ...


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks which model for what. What is in the body is not known before it is read."""

    call_id: str
    opened_at: datetime
    client: Client
    route: Route
    model: str
    """What the client calls it; empty where the operation needs none."""
    api_version: str | None
    request: InboundRequest

    trace: TraceContext | None = None
    """Its span, where telemetry is on."""
    stream: bool = False
    stores: bool = False
    """Whether the upstream keeps what comes of it as an object."""
    wants_usage: bool = False
    """Whether the client itself asked for the usage chunk."""
    most_output: int | None = None
    """The most tokens of output that the client asks for, in each choice; None: it does not say."""
    choices: int = 1
    """How many answers it asks for."""
    end_user: str | None = None
    """The client's own user, in the words of `safety_identifier` or `user`."""
    body: bytes = b""
    upload: PassingBody | None = None
    """In place of `body`, where that is too large to be held."""
    fields: Fields = {}
    """Of a JSON body; empty for any other."""
    names: ModelNames | None = None
    """What upstreams call the models that the body names elsewhere than at its top; None: there are none to be named."""


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


def begun(
    call_id: str, opened_at: datetime, client: Client, request: InboundRequest, trace: TraceContext | None = None
) -> Call:
    """The call in a request of which nothing is understood yet."""
    return Call(
        call_id=call_id,
        opened_at=opened_at,
        client=client,
        route=nowhere(request.method),
        model="",
        api_version=None,
        request=request,
        trace=trace,
    )


def routed(call: Call) -> Call:
    """The call once its URL is understood.

    Raises NotFound, MethodNotAllowed; BadRequest for a query that is none of the API's.
    """
    request = call.request
    if len(request.query) > _LONGEST_QUERY:
        raise BadRequest(f"The query is longer than {_LONGEST_QUERY} bytes.")
    route = match(request.method, request.path)
    api_version = query_value(request.query, "api-version")
    return msgspec.structs.replace(call, route=route, model=route.model or "", api_version=api_version)


def understood(call: Call, body: bytes) -> Call:
    """The call once its body is here. Raises BadRequest for what cannot be routed."""
    call = _in_its_form(call, body)
    operation = call.route.operation
    fields = _json_fields(body, required=operation.names_model) if operation.form is Form.JSON else {}
    model = call.model or _named_model(operation.form, call.request, body, fields) or operation.default_model
    if operation.names_model and not model:
        raise BadRequest("you must provide a model parameter", param="model")
    options = field(fields, "stream_options", _StreamOptions)
    return msgspec.structs.replace(
        call,
        model=model if operation.names_model else "",
        stream=_streams(call, body, fields),
        stores=_stores(operation.stores, field(fields, "store", bool)),
        wants_usage=bool(options and options.include_usage),
        most_output=_most_output(fields),
        choices=_choices(call, body, fields) if operation.names_model else 1,
        end_user=field(fields, "safety_identifier", str) or field(fields, "user", str),
        body=body,
        fields=fields,
    )


def _in_its_form(call: Call, body: bytes) -> Call:
    """The call by what its body is: many an operation takes JSON in place of a form.

    Raises BadRequest for what is neither, and for a form with parts that others may read in another way, where an upstream could
    see another model or object in it than we do.
    """
    operation = call.route.operation
    content_types = [value for name, value in call.request.headers if name == "content-type"]
    if len(content_types) > 1:
        raise BadRequest(
            "The request has more than one Content-Type: which one counts, another reader may see another way."
        )
    if operation.form is not Form.MULTIPART:
        return call
    content_type = "".join(content_types)
    if multipart.is_form(content_type):
        if (operation.names_model or not operation.passes) and multipart.hides_part(body, content_type):
            raise BadRequest(
                "The form has parts that not every reader reads alike: too many, headers that are too long, unusual or there"
                " twice, or lines that CRLF does not end."
            )
        return call
    if content_type.partition(";")[0].strip().lower() == "application/json":
        as_json = msgspec.structs.replace(operation, form=Form.JSON)
        return msgspec.structs.replace(call, route=msgspec.structs.replace(call.route, operation=as_json))
    if operation.names_model or (body and not operation.passes):
        raise BadRequest("The request body has to be multipart/form-data, with one boundary, or application/json.")
    return call


def with_models(call: Call, rename: Rename) -> bytes:
    """The body in which each model that is named elsewhere than at its top has another name."""
    operation = call.route.operation
    if operation.lines:
        return lines_renamed(call.body, rename)
    return renamed(call.body, operation.models, rename) if operation.models else call.body


def fields_with_models(call: Call, rename: Rename) -> Fields:
    """Of the body's fields those in which a model has another name."""
    changed: dict[str, msgspec.Raw] = {}
    for head, *rest in call.route.operation.models:
        if (raw := changed.get(head, call.fields.get(head))) is None:
            continue
        old = bytes(raw)
        if (new := renamed(old, (tuple(rest),), rename)) is not old:
            changed[head] = msgspec.Raw(new)
    return changed


def models_named(call: Call) -> frozenset[str]:
    """The models that are named elsewhere than at the body's top. Raises BadRequest where they are too many."""
    found = {value for name, value in call.request.headers if name == IMAGE_MODEL}

    def note(name: str) -> str:
        found.add(name)
        return name

    if call.route.operation.names_model:
        fields_with_models(call, note)
    else:
        with_models(call, note)
    return frozenset(found)


def field[T](fields: Fields, name: str, type_: type[T]) -> T | None:
    """One field as a value; None where it is missing or null. Raises BadRequest where it is something else."""
    raw = fields.get(name)
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        return json_text.decode(raw, type_)
    except json_text.NOT_READABLE as error:
        raise BadRequest(f"Invalid value for '{name}': {error}", param=name) from error


def model_part(body: bytes, request: InboundRequest) -> multipart.Field | None:
    """Where a multipart body names its model. Raises BadRequest where that is no text, or two: which one counts, another
    reader may see another way."""
    try:
        parts = tuple(multipart.fields(body, get(request.headers, "content-type") or "", "model"))
    except UnicodeDecodeError as error:
        raise BadRequest(f"Invalid value for 'model': {error}", param="model") from error
    if len(parts) > 1:
        raise BadRequest("'model' stands in the form more than once.", param="model")
    return parts[0] if parts else None


def _named_model(form: Form, request: InboundRequest, body: bytes, fields: Fields) -> str | None:
    if form is Form.MULTIPART:
        part = model_part(body, request)
        return part.value if part else None
    return field(fields, "model", str)


def _streams(call: Call, body: bytes, fields: Fields) -> bool:
    """Whether a stream of events is asked for: by a field, also of a form, or in the query of what is only read."""
    operation, request = call.route.operation, call.request
    if operation.form is Form.JSON:
        return bool(field(fields, "stream", bool))
    if operation.form is Form.MULTIPART and operation.names_model:
        return _form_value(call, body, "stream") in _TRUE
    return operation.method == "GET" and query_value(request.query, "stream") in _TRUE


def _json_fields(body: bytes, *, required: bool) -> Fields:
    if not body and not required:
        return {}
    try:
        fields: Fields = json_text.decode(body, dict[str, msgspec.Raw])
    except json_text.NOT_READABLE as error:
        raise BadRequest(f"The request body is not a JSON object: {error}", code="invalid_json") from error
    if twin := next((name for name in fields if name.lower() == "model" != name), None):
        raise BadRequest(
            f"Write 'model' for '{twin}': an upstream that takes either could see another model.", param=twin
        )
    return fields


def _most_output(fields: Fields) -> int | None:
    """The greatest that is stated: an upstream may know one of the names only."""
    stated = [field(fields, name, int) for name in ("max_completion_tokens", "max_output_tokens", "max_tokens")]
    return max((max(number, 0) for number in stated if number is not None), default=None)


def _choices(call: Call, body: bytes, fields: Fields) -> int:
    """How many texts are written: all of which one is chosen (`best_of`), and for each of a list of prompts."""
    if call.route.operation.form is Form.MULTIPART:
        return _count(_form_value(call, body, "n").encode())
    each = max(_count(fields.get("n")), _count(fields.get("best_of")))
    return each * _prompts(fields.get("prompt", msgspec.Raw(b"null")))


def _count(stated: bytes | msgspec.Raw | None) -> int:
    """What is no number is the upstream's to refuse."""
    try:
        return ceil(min(max(json_text.decode(stated or b"1", float), 1), _MOST_CHOICES))
    except json_text.NOT_READABLE:
        return 1


def _prompts(prompt: msgspec.Raw) -> int:
    """How many there are in one field; a list of tokens is one."""
    if not bytes(prompt).startswith(b"["):
        return 1
    try:
        return max(1, len(json_text.decode(prompt, list[str | list[Any]])))
    except json_text.NOT_READABLE:
        return 1


def _form_value(call: Call, body: bytes, name: str) -> str:
    """A text field of a form; empty where it has none, or it is no text."""
    try:
        part = multipart.find(body, get(call.request.headers, "content-type") or "", name)
    except UnicodeDecodeError:
        return ""
    return part.value if part else ""


def most_of(call: Call, default_output: int) -> TokenUsage:
    """What the call may use at most, as far as can be told before it is served."""
    operation = call.route.operation
    is_form = operation.form is Form.MULTIPART
    asked = Asked(
        text=_form_value(call, call.body, "prompt").encode() if is_form else call.body,
        form_bytes=len(call.body) if is_form else 0,
        files=call.body.count(b' filename="') if is_form else 0,
        choices=call.choices,
        output=(default_output if call.most_output is None else call.most_output) * call.choices,
    )
    return operation.most(asked)


def _stores(by_default: bool | None, stated: bool | None) -> bool:
    if by_default is None:
        return False
    return by_default if stated is None else stated


def parameter_name(pair: str) -> str:
    """What a server takes for the name in `name=value`, whose raw form may be percent-encoded."""
    return unquote_plus(pair.partition("=")[0]).lower()


def query_value(query: str, name: str) -> str | None:
    """The first value of a parameter, as it is written."""
    return next((pair.partition("=")[2] for pair in query.split("&") if parameter_name(pair) == name), None)
