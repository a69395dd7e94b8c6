"""The ASGI app: the table of operations, admission, the account, and the control API under /_simulator/.

It is plain ASGI rather than a framework's routes because the answer's bytes, their cuts and the connection are its
subject, and because it has to stay out of the way in benchmarks.
"""

import hashlib
import uuid
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from devtools.simulator import (
    chat,
    control,
    embeddings,
    extras,
    files,
    media,
    models,
    multipart,
    objects,
    responses,
    routes,
)
from devtools.simulator.account import Account, Entry, fingerprint, now
from devtools.simulator.calls import Call, Reply, Stream
from devtools.simulator.errors import (
    ApiError,
    bad_request,
    filtered_prompt,
    no_model,
    status_error,
    unauthorized,
    unknown_url,
)
from devtools.simulator.exchange import ClientGoneError, Exchange
from devtools.simulator.faults import HEALTHY, Fault, FaultBoard
from devtools.simulator.headers import response_headers
from devtools.simulator.hints import merge
from devtools.simulator.resources import Resource
from devtools.simulator.routes import Route
from devtools.simulator.settings import Settings
from devtools.simulator.tokens import Json

_BATCHED: dict[str, tuple[str, files.Handler]] = {
    "chat/completions": ("chat.completions", chat.chat_completions),
    "completions": ("completions", chat.completions),
    "embeddings": ("embeddings", embeddings.embeddings),
    "responses": ("responses", responses.create),
    "moderations": ("moderations", embeddings.moderations),
}
_OF_DEPLOYMENTS: dict[str, tuple[str, files.Handler]] = {
    **{path: operation for path, operation in _BATCHED.items() if path not in ("responses", "moderations")},
    "images/generations": ("images.generations", media.images),
    "images/edits": ("images.edits", media.images),
    "images/variations": ("images.variations", media.images),
    "audio/transcriptions": ("audio.transcriptions", media.transcriptions),
    "audio/translations": ("audio.translations", media.transcriptions),
    "audio/speech": ("audio.speech", media.speech),
}
_BATCHES = files.Batches(_BATCHED)
_OPERATIONS: dict[tuple[str, str], tuple[str, files.Handler]] = {
    **{("POST", path): operation for path, operation in (_BATCHED | _OF_DEPLOYMENTS).items()},
    ("POST", "responses/input_tokens"): ("responses.input_tokens", responses.input_tokens),
    ("POST", "responses/compact"): ("responses.compact", responses.compact),
    ("GET", "responses/*"): ("responses.retrieve", responses.retrieve),
    ("DELETE", "responses/*"): ("responses.delete", responses.delete),
    ("POST", "responses/*/cancel"): ("responses.cancel", responses.cancel),
    ("GET", "responses/*/input_items"): ("responses.input_items", responses.input_items),
    ("GET", "models"): ("models.list", models.list_models),
    ("GET", "models/*"): ("models.retrieve", models.retrieve_model),
    ("POST", "files"): ("files.create", files.upload),
    ("GET", "files"): ("files.list", files.list_files),
    ("GET", "files/*"): ("files.retrieve", files.retrieve_file),
    ("GET", "files/*/content"): ("files.content", files.content),
    ("DELETE", "files/*"): ("files.delete", files.delete_file),
    ("POST", "batches"): ("batches.create", _BATCHES.create),
    ("GET", "batches"): ("batches.list", _BATCHES.list_all),
    ("GET", "batches/*"): ("batches.retrieve", _BATCHES.retrieve),
    ("POST", "batches/*/cancel"): ("batches.cancel", _BATCHES.cancel),
    ("POST", "uploads/*/complete"): ("uploads.complete", extras.complete_upload),
    ("POST", "conversations/*/items"): ("conversations.items.create", extras.create_items),
    ("POST", "vector_stores/*/search"): ("vector_stores.search", extras.search),
    ("GET", "vector_stores/*/files/*/content"): ("vector_stores.files.content", extras.vector_store_file_content),
    ("GET", "containers/*/files/*/content"): ("containers.files.content", extras.container_file_content),
    ("POST", "threads/runs"): ("threads.create_and_run", extras.create_thread_and_run),
    ("GET", "videos/*/content"): ("videos.content", extras.video_content),
    ("POST", "videos/*/remix"): ("videos.remix", extras.another_video),
    ("POST", "videos/edits"): ("videos.edit", extras.another_video),
    ("POST", "videos/extensions"): ("videos.extend", extras.another_video),
    ("GET", "skills/*/content"): ("skills.content", extras.skill_content),
    ("GET", "skills/*/versions/*/content"): ("skills.versions.content", extras.skill_content),
    ("POST", "fine_tuning/alpha/graders/run"): ("fine_tuning.alpha.graders.run", extras.run_grader),
    ("POST", "fine_tuning/alpha/graders/validate"): ("fine_tuning.alpha.graders.validate", extras.validate_grader),
    ("POST", "realtime/transcription_sessions"): ("realtime.transcription_sessions.create", extras.realtime_session),
    ("POST", "realtime/translations/client_secrets"): (
        "realtime.translations.client_secrets.create",
        extras.client_secret,
    ),
    ("POST", "realtime/client_secrets"): ("realtime.client_secrets.create", extras.client_secret),
    ("POST", "realtime/sessions"): ("realtime.sessions.create", extras.realtime_session),
}
_FIRST_ERROR_STATUS = 400


class App:
    """One simulator: its account, its faults and its resources."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.account = Account(keep=settings.keep_account)
        self.faults = FaultBoard()
        self._control = control.app(self.account, self.faults)
        self._resources: dict[str, Resource] = {}
        self._calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request. What belongs to no URL family goes to the control API."""
        route = routes.parse(scope["path"], scope["query_string"])
        if route is None:
            await self._control(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        entry = self._open(scope, route, headers)
        exchange = Exchange(scope, receive, send, entry)
        try:
            body = await exchange.read_body()
            await self._serve(exchange, route, headers, body, entry)
        except ClientGoneError:
            pass  # the entry already says so: it is not completed
        finally:
            entry.ended = True

    def _open(self, scope: Scope, route: Route, headers: dict[str, str]) -> Entry:
        self._calls += 1
        auth, key = _credentials(headers)
        entry = Entry(
            sequence=self._calls,
            at=now(),
            resource=route.resource,
            family=route.family,
            method=scope["method"],
            path=scope["path"],
            api_version=route.api_version,
            request_id=str(uuid.uuid4()),
            header_names=tuple(headers),
            key_fingerprint=fingerprint(key) if key else None,
            auth=auth,
            client_request_id=headers.get("x-ms-client-request-id"),
            traceparent=headers.get("traceparent"),
        )
        self.account.add(entry)
        return entry

    async def _serve(
        self, exchange: Exchange, route: Route, headers: dict[str, str], body: bytes, entry: Entry
    ) -> None:
        entry.body_bytes, entry.body_sha256 = len(body), hashlib.sha256(body).hexdigest()
        fault, pace = HEALTHY, self.settings.pace
        reply: Reply | Stream
        try:
            self._admit(route, headers, entry.method)
            operation, handler = _operation(entry.method, route)
            entry.operation = operation
            call = self._read(route, headers, body, entry)
            fault, pace = call.fault, call.pace
            reply = _answer(call, handler)
        except ApiError as error:
            reply = Reply(body=error.body(is_azure=route.is_azure), status=error.status)
        except (ValueError, msgspec.MsgspecError) as error:
            reply = Reply(body=bad_request(str(error)).body(is_azure=route.is_azure), status=400)
        entry.model = reply.model
        sent = response_headers(
            route, entry.request_id, entry.client_request_id, entry.deployment or "", len(body) // 4, fault
        )
        await exchange.respond(reply, sent, fault, pace)

    def _admit(self, route: Route, headers: dict[str, str], method: str) -> None:
        """Raises unless the key is good where it stands (OpenAI takes no `api-key`) and the version is one."""
        auth, key = _credentials(headers)
        is_known = not self.settings.keys or key in self.settings.keys
        if not key or not is_known or (auth == "api-key" and not route.is_azure):
            raise unauthorized()
        route.check_version(method)

    def _read(self, route: Route, headers: dict[str, str], body: bytes, entry: Entry) -> Call:
        """Returns the call with its faults and its pace."""
        content_type = headers.get("content-type", "")
        form = multipart.parse(content_type, body) if content_type.startswith("multipart/") else None
        fields = _json_object(body) if form is None and body else {}
        call = Call(
            settings=self.settings,
            resource=self._resource(route.resource),
            route=route,
            entry=entry,
            method=entry.method,
            path=route.path,
            body=fields,
            form=form,
            fault=HEALTHY,
            pace=self.settings.pace,
        )
        entry.deployment, entry.stream = call.asked or None, call.is_stream
        fault = (
            self.faults.take(route.resource, call.asked)
            if (hint := _hint(call, headers, "fault")) is None
            else merge(Fault(), hint)
        )
        entry.fault = None if fault is HEALTHY else fault
        pace = call.pace if (hint := _hint(call, headers, "pace")) is None else merge(call.pace, hint)
        return msgspec.structs.replace(call, fault=fault, pace=pace)

    def _resource(self, name: str) -> Resource:
        if name not in self._resources:
            self._resources[name] = Resource(name)
        return self._resources[name]


def _credentials(headers: dict[str, str]) -> tuple[str | None, str]:
    """Returns how the key came, and the key."""
    if headers.get("api-key"):
        return "api-key", headers["api-key"]
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return ("bearer", token.strip()) if scheme.lower() == "bearer" and token.strip() else (None, "")


def _json_object(body: bytes) -> Json:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        raise bad_request("We could not parse the JSON body of your request.") from None


def _hint(call: Call, headers: dict[str, str], name: str) -> str | None:
    """Returns `x-simulator-{name}` from a header, the query or the body's `metadata`, which survives any gateway."""
    name = f"x-simulator-{name}"
    metadata = call.body.get("metadata")
    return (
        headers.get(name) or call.route.query.get(name) or (metadata.get(name) if isinstance(metadata, dict) else None)
    )


def _operation(method: str, route: Route) -> tuple[str, files.Handler]:
    """Returns the operation's name and handler; raises 404 for what there is not."""
    path = route.path
    if route.deployment is not None:
        found = _OF_DEPLOYMENTS.get(path) if method == "POST" else None
    elif route.family == "azure" and path in _OF_DEPLOYMENTS and method == "POST":
        found = None  # the dated URLs name the deployment
    else:
        found = _OPERATIONS.get((method, path)) or _OPERATIONS.get((method, _wildcards(path))) or _kept(method, path)
    if found is None:
        raise unknown_url(method, path)
    return found


def _wildcards(path: str) -> str:
    return "/".join("*" if at % 2 else part for at, part in enumerate(path.split("/")))


def _kept(method: str, path: str) -> tuple[str, files.Handler] | None:
    place = objects.locate(path)
    if place is None or method not in ("GET", "POST", "DELETE"):
        return None
    if place.object_id is None:
        verb = "list" if method == "GET" else "create"
    else:
        verb = place.action or {"GET": "retrieve", "POST": "update", "DELETE": "delete"}[method]
    return f"{place.kind_name.replace('/', '.')}.{verb}", objects.handle


def _answer(call: Call, handler: files.Handler) -> Reply | Stream:
    fault = call.fault
    if fault.missing_deployment:
        raise no_model(call.asked)
    if fault.filter_prompt:
        raise filtered_prompt()
    if fault.status is not None and fault.status >= _FIRST_ERROR_STATUS:
        raise status_error(fault.status)
    try:
        return handler(call)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise bad_request(
            f"Invalid request: {error}"
        ) from error  # what is no API request at all is not ours to answer well
