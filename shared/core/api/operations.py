"""The catalogue of operations, and what a URL means, whichever of the three styles it is written in.

Rule: an operation is a row. What differs between operations is in the row's columns, and no other module knows one by name.
What each does: https://platform.openai.com/docs/api-reference and
https://learn.microsoft.com/azure/ai-services/openai/reference.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from urllib.parse import unquote

import msgspec

from shared.core.api.named_models import Path
from shared.core.errors import MethodNotAllowed, NotFound
from shared.core.usage import (
    Asked,
    Part,
    TokenUsage,
    most_of_input,
    most_of_pictures,
    most_of_sound,
    most_of_speech,
    most_of_text,
    parse_chat,
    parse_images,
    parse_object,
    parse_response,
    parse_speech,
    parse_transcription,
    spoken_characters,
)

_SEGMENT = re.compile(r"(?!\.+$)[A-Za-z0-9._:-]{1,256}")
"""What an id, or a part of an unknown path, may be: nothing that an upstream could take for another path."""


_SERVICE_TIER: Mapping[str, str] = MappingProxyType({"service_tier": ""})
_IMAGE_TIER: Mapping[str, str] = MappingProxyType({"quality": "standard", "size": "1024x1024"})


class UrlStyle(StrEnum):
    """How a client writes its URLs."""

    OPENAI = "openai"
    """`/v1/chat/completions`"""
    AZURE = "azure"
    """`/openai/deployments/{model}/chat/completions?api-version=...`, or `/openai/files?api-version=...`"""
    AZURE_V1 = "azure-v1"
    """`/openai/v1/chat/completions`"""


class Form(StrEnum):
    """What a request's body is."""

    JSON = "json"
    MULTIPART = "multipart"
    NONE = "none"
    ANY = "any"
    """Not known: passed on unread."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a client can ask for."""

    name: str
    """The OpenAI SDK's word for it."""
    method: str
    path: str
    """The URL's part behind the style's prefix. A placeholder names the kind of object whose id stands there; the first
    one's object says on which upstream the call has to run."""
    form: Form = Form.NONE
    names_model: bool = False
    """Whether the body names a model, so that any deployment of it will do."""
    models: tuple[Path, ...] = ()
    """Where else in a JSON body a model may be named."""
    in_parts: bool = False
    """Whether it begins a file that comes in parts."""
    lines: bool = False
    """Whether the body may be a batch file, each line of which names a model."""
    default_model: str | None = None
    """The model that is meant where the body names none."""
    in_deployment: bool = False
    """Whether Azure's dated API has it below `deployments/{deployment}`."""
    parse: Callable[[bytes], Part] = parse_object
    """Reads a JSON body, or the data of one SSE event, of the answer."""
    count_request: Callable[[Mapping[str, msgspec.Raw]], TokenUsage | None] | None = None
    """Counts what is billed by the request's fields, where the answer does not say."""
    tier_fields: Mapping[str, str] = _SERVICE_TIER
    """The request's fields that its price depends on, each with what is meant where it is not there."""
    most: Callable[[Asked], TokenUsage] = most_of_text
    """What a call that names a model may use at most, which is reserved."""
    usage_chunk: bool = False
    """Whether a stream tells its usage only when `stream_options.include_usage` asks for it."""
    stores: bool | None = None
    """Whether what comes of it is kept as an object by the upstream, unless the field `store` says otherwise; None: never."""
    has_items: bool = False
    """Whether items of a conversation may be named in its body, and told in its answer."""
    told_later: bool = False
    """Whether what it uses may be told only by the object that it makes, once that has ended."""
    lists: bool = False
    """Whether the answer is a list of objects, of which a client may see its own only."""
    is_content: bool = False
    """Whether the answer is the content of a file, of any size, in which nothing is read."""
    refusal: str | None = None
    """Why it cannot be served here, where it cannot."""
    passes: bool = False
    """Whether a large body may pass through unread, because nothing in it can name another object."""
    makes_secret: bool = False
    """Whether the answer is a credential, which is never recorded."""
    local: bool = False
    """Whether the gateway answers by itself."""

    @property
    def works_later(self) -> bool:
        """Whether models work for it without a name at its top: what they take is told later, or to the upstream alone."""
        return not self.names_model and (self.told_later or bool(self.models))

    @property
    def tells_usage(self) -> bool:
        """Whether its answers have usage to tell."""
        return self.parse is not parse_object


def _inference(
    name: str,
    path: str,
    form: Form = Form.JSON,
    parse: Callable[[bytes], Part] = parse_object,
    *,
    most: Callable[[Asked], TokenUsage] = most_of_text,
    usage_chunk: bool = False,
    stores: bool | None = None,
    tier_fields: Mapping[str, str] = _SERVICE_TIER,
) -> Operation:
    """An operation whose body names a model that Azure has as a deployment."""
    return Operation(
        name=name,
        method="POST",
        path=path,
        form=form,
        names_model=True,
        in_deployment=True,
        parse=parse,
        most=most,
        usage_chunk=usage_chunk,
        stores=stores,
        tier_fields=tier_fields,
    )


def _objects(table: str, *, names_model: frozenset[str] = frozenset()) -> Iterable[Operation]:
    """Operations on stored objects, a line each: name, method, path, and words for what is not usual: `multipart`, `passes`,
    `secret`, `later` (told_later), `items` (has_items), `lines`, `in-parts`, `content` (is_content), `models=` and where they
    are named."""
    for line in table.strip().splitlines():
        name, method, path, *words = line.split()
        form = Form.MULTIPART if "multipart" in words else Form.JSON if method == "POST" else Form.NONE
        yield Operation(
            name=name,
            method=method,
            path=path,
            form=form,
            passes="passes" in words,
            makes_secret="secret" in words,
            told_later="later" in words,
            has_items="items" in words,
            is_content="content" in words,
            names_model=name in names_model,
            models=tuple(
                tuple(place.split(".")) for word in words for place in word.partition("models=")[2].split(",") if place
            ),
            lines="lines" in words,
            in_parts="in-parts" in words,
            stores=True,
            lists=method == "GET" and "{" not in path,
        )


CATALOGUE: tuple[Operation, ...] = (
    _inference("chat.completions", "chat/completions", parse=parse_chat, usage_chunk=True, stores=False),
    _inference("completions", "completions", parse=parse_chat, usage_chunk=True),
    _inference("embeddings", "embeddings", parse=parse_chat, most=most_of_input),
    _inference(
        "images.generate", "images/generations", parse=parse_images, most=most_of_pictures, tier_fields=_IMAGE_TIER
    ),
    _inference(
        "images.edit",
        "images/edits",
        Form.MULTIPART,
        parse=parse_images,
        most=most_of_pictures,
        tier_fields=_IMAGE_TIER,
    ),
    Operation(  # not Azure's: its SDK puts no deployment into the path
        name="images.create_variation",
        method="POST",
        path="images/variations",
        form=Form.MULTIPART,
        names_model=True,
        parse=parse_images,
        tier_fields=_IMAGE_TIER,
        most=most_of_pictures,
    ),
    *(
        _inference(f"audio.{what}", f"audio/{what}", Form.MULTIPART, parse=parse_transcription, most=most_of_sound)
        for what in ("transcriptions", "translations")
    ),
    Operation(
        name="audio.speech",
        method="POST",
        path="audio/speech",
        form=Form.JSON,
        names_model=True,
        in_deployment=True,
        parse=parse_speech,
        most=most_of_speech,
        count_request=spoken_characters,
    ),
    Operation(
        name="moderations",
        method="POST",
        path="moderations",
        form=Form.JSON,
        names_model=True,
        default_model="omni-moderation-latest",
        most=most_of_input,
    ),
    Operation(
        name="responses",
        method="POST",
        path="responses",
        form=Form.JSON,
        names_model=True,
        models=(("tools", "*", "model"),),
        parse=parse_response,
        stores=True,
        has_items=True,
        told_later=True,
    ),
    Operation(
        name="responses.compact",
        method="POST",
        path="responses/compact",
        form=Form.JSON,
        names_model=True,
        parse=parse_response,
        stores=True,
        has_items=True,
    ),
    Operation(
        name="videos.create",
        method="POST",
        path="videos",
        form=Form.MULTIPART,
        names_model=True,
        default_model="sora-2",
        most=most_of_pictures,
        stores=True,
    ),
    Operation(name="models.list", method="GET", path="models", local=True),
    Operation(name="models.retrieve", method="GET", path="models/{model}", local=True),
    Operation(
        name="models.delete",
        method="DELETE",
        path="models/{model}",
        refusal="A model is there for everybody. It is taken out of the gateway's configuration, or deleted upstream.",
    ),
    Operation(
        name="realtime",
        method="GET",
        path="realtime",
        refusal="A WebSocket cannot pass through Azure Functions. Get a client secret from POST realtime/client_secrets here,"
        " and connect to the upstream itself with that.",
    ),
    *_objects(
        """
        responses.input_tokens            POST    responses/input_tokens                         items
        responses.retrieve                GET     responses/{response}                           items
        responses.delete                  DELETE  responses/{response}
        responses.cancel                  POST    responses/{response}/cancel                    items
        responses.input_items             GET     responses/{response}/input_items               items
        chat.completions.list             GET     chat/completions
        chat.completions.retrieve         GET     chat/completions/{completion}
        chat.completions.update           POST    chat/completions/{completion}
        chat.completions.delete           DELETE  chat/completions/{completion}
        chat.completions.messages         GET     chat/completions/{completion}/messages
        conversations.create              POST    conversations                                  items
        conversations.retrieve            GET     conversations/{conversation}                   items
        conversations.update              POST    conversations/{conversation}                   items
        conversations.delete              DELETE  conversations/{conversation}
        conversations.items.create        POST    conversations/{conversation}/items             items
        conversations.items.list          GET     conversations/{conversation}/items             items
        conversations.items.retrieve      GET     conversations/{conversation}/items/{item}      items
        conversations.items.delete        DELETE  conversations/{conversation}/items/{item}
        files.create                      POST    files                                          multipart passes lines
        files.list                        GET     files
        files.retrieve                    GET     files/{file}
        files.delete                      DELETE  files/{file}
        files.content                     GET     files/{file}/content                           content
        uploads.create                    POST    uploads                                        in-parts
        uploads.parts.create              POST    uploads/{upload}/parts                         multipart passes
        uploads.complete                  POST    uploads/{upload}/complete
        uploads.cancel                    POST    uploads/{upload}/cancel
        batches.create                    POST    batches                                        later
        batches.list                      GET     batches
        batches.retrieve                  GET     batches/{batch}
        batches.cancel                    POST    batches/{batch}/cancel
        fine_tuning.jobs.create           POST    fine_tuning/jobs  later
        fine_tuning.jobs.list             GET     fine_tuning/jobs
        fine_tuning.jobs.retrieve         GET     fine_tuning/jobs/{job}
        fine_tuning.jobs.cancel           POST    fine_tuning/jobs/{job}/cancel
        fine_tuning.jobs.pause            POST    fine_tuning/jobs/{job}/pause
        fine_tuning.jobs.resume           POST    fine_tuning/jobs/{job}/resume
        fine_tuning.jobs.events           GET     fine_tuning/jobs/{job}/events
        fine_tuning.jobs.checkpoints      GET     fine_tuning/jobs/{job}/checkpoints
        vector_stores.create              POST    vector_stores
        vector_stores.list                GET     vector_stores
        vector_stores.retrieve            GET     vector_stores/{store}
        vector_stores.update              POST    vector_stores/{store}
        vector_stores.delete              DELETE  vector_stores/{store}
        vector_stores.search              POST    vector_stores/{store}/search
        vector_stores.files.create        POST    vector_stores/{store}/files
        vector_stores.files.list          GET     vector_stores/{store}/files
        vector_stores.files.retrieve      GET     vector_stores/{store}/files/{file}
        vector_stores.files.update        POST    vector_stores/{store}/files/{file}
        vector_stores.files.delete        DELETE  vector_stores/{store}/files/{file}
        vector_stores.files.content       GET     vector_stores/{store}/files/{file}/content
        vector_stores.file_batches.create   POST  vector_stores/{store}/file_batches
        vector_stores.file_batches.retrieve GET   vector_stores/{store}/file_batches/{batch}
        vector_stores.file_batches.cancel   POST  vector_stores/{store}/file_batches/{batch}/cancel
        vector_stores.file_batches.files    GET   vector_stores/{store}/file_batches/{batch}/files
        containers.create                 POST    containers
        containers.list                   GET     containers
        containers.retrieve               GET     containers/{container}
        containers.delete                 DELETE  containers/{container}
        containers.files.create           POST    containers/{container}/files                   multipart
        containers.files.list             GET     containers/{container}/files
        containers.files.retrieve         GET     containers/{container}/files/{file}
        containers.files.delete           DELETE  containers/{container}/files/{file}
        containers.files.content          GET     containers/{container}/files/{file}/content    content
        evals.create                      POST    evals                     models=testing_criteria.*.model
        evals.list                        GET     evals
        evals.retrieve                    GET     evals/{eval}
        evals.update                      POST    evals/{eval}
        evals.delete                      DELETE  evals/{eval}
        evals.runs.create                 POST    evals/{eval}/runs         models=data_source.model  later
        evals.runs.list                   GET     evals/{eval}/runs
        evals.runs.retrieve               GET     evals/{eval}/runs/{run}
        evals.runs.cancel                 POST    evals/{eval}/runs/{run}/cancel
        evals.runs.update                 POST    evals/{eval}/runs/{run}
        evals.runs.delete                 DELETE  evals/{eval}/runs/{run}
        evals.runs.output_items.list      GET     evals/{eval}/runs/{run}/output_items
        evals.runs.output_items.retrieve  GET     evals/{eval}/runs/{run}/output_items/{item}
        assistants.create                 POST    assistants
        assistants.list                   GET     assistants
        assistants.retrieve               GET     assistants/{assistant}
        assistants.update                 POST    assistants/{assistant}    models=model
        assistants.delete                 DELETE  assistants/{assistant}
        threads.create                    POST    threads
        threads.create_and_run            POST    threads/runs              models=model  later
        threads.retrieve                  GET     threads/{thread}
        threads.update                    POST    threads/{thread}
        threads.delete                    DELETE  threads/{thread}
        threads.messages.create           POST    threads/{thread}/messages
        threads.messages.list             GET     threads/{thread}/messages
        threads.messages.retrieve         GET     threads/{thread}/messages/{message}
        threads.messages.update           POST    threads/{thread}/messages/{message}
        threads.messages.delete           DELETE  threads/{thread}/messages/{message}
        threads.runs.create               POST    threads/{thread}/runs     models=model  later
        threads.runs.list                 GET     threads/{thread}/runs
        threads.runs.retrieve             GET     threads/{thread}/runs/{run}
        threads.runs.update               POST    threads/{thread}/runs/{run}
        threads.runs.cancel               POST    threads/{thread}/runs/{run}/cancel
        threads.runs.submit_tool_outputs  POST    threads/{thread}/runs/{run}/submit_tool_outputs
        threads.runs.steps.list           GET     threads/{thread}/runs/{run}/steps
        threads.runs.steps.retrieve       GET     threads/{thread}/runs/{run}/steps/{step}
        videos.list                       GET     videos
        videos.retrieve                   GET     videos/{video}
        videos.delete                     DELETE  videos/{video}
        videos.content                    GET     videos/{video}/content                         content
        videos.remix                      POST    videos/{video}/remix
        videos.edit                       POST    videos/edits                                   multipart
        videos.extend                     POST    videos/extensions                              multipart
        skills.create                     POST    skills                                         multipart
        skills.list                       GET     skills
        skills.retrieve                   GET     skills/{skill}
        skills.update                     POST    skills/{skill}
        skills.delete                     DELETE  skills/{skill}
        skills.content                    GET     skills/{skill}/content                         content
        skills.versions.create            POST    skills/{skill}/versions                        multipart
        skills.versions.list              GET     skills/{skill}/versions
        skills.versions.retrieve          GET     skills/{skill}/versions/{version}
        skills.versions.delete            DELETE  skills/{skill}/versions/{version}
        skills.versions.content           GET     skills/{skill}/versions/{version}/content      content
        fine_tuning.alpha.graders.run       POST  fine_tuning/alpha/graders/run       models=grader.model,grader.graders.*.model
        fine_tuning.alpha.graders.validate  POST  fine_tuning/alpha/graders/validate  models=grader.model,grader.graders.*.model
        realtime.transcription_sessions.create     POST  realtime/transcription_sessions      secret
        realtime.translations.client_secrets.create  POST  realtime/translations/client_secrets  secret models=session.model
        realtime.client_secrets.create    POST    realtime/client_secrets   secret models=session.model
        realtime.sessions.create          POST    realtime/sessions         secret models=model
        """,
        names_model=frozenset({"assistants.create", "responses.input_tokens"}),
    ),
)


REFUSED: Mapping[str, tuple[str, str]] = {
    # The first parts of a path, what it is called, and why nothing behind it can be served.
    "organization": (
        "organization",
        "It is the account's own business, which an administrator asks the upstream about.",
    ),
    "projects": ("organization", "It is the account's own business, which an administrator asks the upstream about."),
    "videos/characters": ("videos.characters", "Whose character it is in a video cannot be told apart."),
    "webhook_endpoints": ("webhooks", "The upstream would tell of everybody's objects: ask for your own instead."),
    "webhook_event_types": ("webhooks", "The upstream would tell of everybody's objects: ask for your own instead."),
    "realtime/calls": (
        "realtime.calls",
        "Calls by SIP and WebRTC go to the upstream itself, with a client secret from here.",
    ),
    "fine_tuning/checkpoints": (
        "fine_tuning.checkpoints",
        "Who may use a checkpoint is said by an administrator, upstream.",
    ),
}
"""What SDKs have methods for and no client of a gateway may have, whatever the setting for unknown operations is."""


class Route(msgspec.Struct, frozen=True):
    """What a URL says."""

    operation: Operation
    style: UrlStyle
    path: str
    """The part behind the style's prefix, as the client wrote it."""
    model: str | None = None
    """The model, where the path names it."""
    object_id: str | None = None
    """The id of the first object that the path names."""


def nowhere(method: str) -> Route:
    """The route of a request whose URL has not been understood, and perhaps never is."""
    return Route(Operation(name="unknown", method=method, path="", form=Form.ANY), UrlStyle.OPENAI, "")


def match(method: str, path: str) -> Route:
    """The route of a request; `path` is raw (percent-encoded). An operation that no row knows is called `unknown`.

    Raises NotFound where the path cannot be of this API, MethodNotAllowed where only the method is wrong.
    """
    style, model, rest = _split(path)
    parts = tuple(rest.split("/"))
    if style is None:
        raise _not_found(method, path)
    if refused := REFUSED.get(parts[0]) or REFUSED.get("/".join(parts[:2])):
        return Route(Operation(name=refused[0], method=method, path=rest, refusal=refused[1]), style, rest)
    methods = _BY_SHAPE.get(parts) or _with_ids(parts)
    if methods is None:
        if model is not None or not all(map(_SEGMENT.fullmatch, parts)):
            raise _not_found(method, path)
        return Route(
            Operation(name="unknown", method=method, path=rest, form=Form.ANY, stores=True, has_items=True), style, rest
        )
    operation = methods.get(method)
    if operation is None:
        raise MethodNotAllowed(f"Not allowed to {method} on {path}. (HINT: make it {' or '.join(sorted(methods))}.)")
    if style is UrlStyle.AZURE and operation.in_deployment is (model is None):
        raise _not_found(method, path)
    return Route(operation, style, rest, model, _first_id(operation, parts))


def _not_found(method: str, path: str) -> NotFound:
    return NotFound(f"Invalid URL ({method} {path})", code="unknown_url")


def _split(path: str) -> tuple[UrlStyle | None, str | None, str]:
    """The style, the model where the path names one, and the rest."""
    match path.removeprefix("/").split("/", 3):
        case ["openai", "deployments", model, rest]:
            return UrlStyle.AZURE, unquote(model), rest
        case ["openai", "deployments", *_]:
            return None, None, ""
        case ["openai", "v1", *rest]:
            return UrlStyle.AZURE_V1, None, "/".join(rest)
        case ["openai", *rest]:
            return UrlStyle.AZURE, None, "/".join(rest)
        case ["v1", *rest]:
            return UrlStyle.OPENAI, None, "/".join(rest)
        case _:
            return None, None, ""


def _shape(path: str) -> tuple[str, ...]:
    return tuple("{}" if part.startswith("{") else part for part in path.split("/"))


def _by_shape() -> Mapping[tuple[str, ...], Mapping[str, Operation]]:
    """The catalogue by path, `{}` for each placeholder, and then by method."""
    shapes: dict[tuple[str, ...], dict[str, Operation]] = {}
    for operation in CATALOGUE:
        shapes.setdefault(_shape(operation.path), {})[operation.method] = operation
    return shapes


_BY_SHAPE = _by_shape()
_SHAPES_WITH_IDS = tuple(shape for shape in _BY_SHAPE if "{}" in shape)


def _with_ids(parts: tuple[str, ...]) -> Mapping[str, Operation] | None:
    for shape in _SHAPES_WITH_IDS:
        if len(shape) == len(parts) and all(
            _SEGMENT.fullmatch(part) if expected == "{}" else part == expected
            for expected, part in zip(shape, parts, strict=True)
        ):
            return _BY_SHAPE[shape]
    return None


def _first_id(operation: Operation, parts: tuple[str, ...]) -> str | None:
    shape = _shape(operation.path)
    return parts[shape.index("{}")] if "{}" in shape else None
