"""One call as values: what a handler is given, and the two kinds of answer it may give back. Handlers do no I/O."""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from devtools.simulator.account import Entry
from devtools.simulator.answers import Ask, Tool, is_reasoning
from devtools.simulator.errors import bad_request, no_model
from devtools.simulator.faults import Fault
from devtools.simulator.multipart import Form
from devtools.simulator.pacing import Pace
from devtools.simulator.resources import Resource
from devtools.simulator.routes import Route
from devtools.simulator.settings import Settings
from devtools.simulator.tokens import Json, count_audio, count_prompt

to_json = msgspec.json.Encoder().encode

type Meter = Callable[[int], Json | None]
"""The usage after so many generated tokens."""

_SNAPSHOTS = {
    "gpt-4o": "gpt-4o-2024-11-20",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "gpt-4": "gpt-4-0613",
    "gpt-35-turbo": "gpt-35-turbo-0125",
    "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "o1": "o1-2024-12-17",
    "o3": "o3-2025-04-16",
    "o3-mini": "o3-mini-2025-01-31",
    "o4-mini": "o4-mini-2025-04-16",
    "model-router": "gpt-4.1-mini-2025-04-14",
}
MODELS = (
    *_SNAPSHOTS,
    "text-embedding-3-small",
    "text-embedding-3-large",
    "text-embedding-ada-002",
    "gpt-image-1",
    "dall-e-3",
    "whisper-1",
    "gpt-4o-transcribe",
    "gpt-4o-mini-tts",
    "omni-moderation-latest",
)


class Event(msgspec.Struct, frozen=True):
    """One event of a stream, and how many tokens are generated once it is out."""

    data: bytes
    tokens: int = 0
    name: str | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer in one piece."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    model: str | None = None
    tokens: int = 0
    """How many tokens were generated, which is what takes time."""
    meter: Meter | None = None


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """An answer in events, or in raw pieces when `content_type` is not that of events."""

    events: Iterable[Event]
    content_type: str = "text/event-stream; charset=utf-8"
    model: str | None = None
    tokens: int = 0
    meter: Meter | None = None
    error_name: str | None = None
    """The name of the event that carries an error, where events have names."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, read and admitted."""

    settings: Settings
    resource: Resource
    route: Route
    entry: Entry
    method: str
    path: str
    body: Json
    form: Form | None
    fault: Fault
    pace: Pace

    @property
    def ids(self) -> list[str]:
        """The ids in a path such as `responses/{id}/cancel`."""
        return self.path.split("/")[1::2]

    @property
    def asked(self) -> str:
        """The deployment or model asked for; empty when the request names none."""
        if self.route.deployment is not None:
            return self.route.deployment
        named = (self.form.fields if self.form is not None else self.body).get("model")
        return named if isinstance(named, str) else ""

    @property
    def model(self) -> str:
        """The model that serves; raises `ApiError` when none is named (400) or it does not exist (404)."""
        if not self.asked:
            raise bad_request("you must provide a model parameter")
        if self.asked in self.settings.missing_models or self.fault.missing_deployment:
            raise no_model(self.asked)
        return snapshot(self.asked)

    @property
    def is_stream(self) -> bool:
        """Says whether events were asked for."""
        if self.form is not None:
            return self.form.fields.get("stream", "").lower() == "true"
        return self.body.get("stream") is True

    def key(self, prompt: object) -> bytes:
        """Returns what decides an answer: the seed, the model and the prompt, and nothing a gateway may add."""
        whole = b"%d|%b|%b" % (self.settings.seed, snapshot(self.asked).encode(), to_json(prompt))
        return hashlib.sha256(whole).digest()

    def ask(self, prompt: object, limit: object, **more: Any) -> Ask:
        """Returns the question to `answers.compose`; `limit` is the request's maximum of output tokens or None."""
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise bad_request("The maximum of output tokens must be a whole number of at least 1.")
        return Ask(
            key=self.key(prompt),
            input_tokens=count_prompt(prompt),
            audio_tokens=count_audio(prompt),
            limit=limit,
            is_filtered=self.fault.filter_completion,
            **{"reasons": is_reasoning(self.model), "length": self.pace.answer_tokens, **more},
        )


def chosen_tool(tools: object, choice: object, prompt: object) -> Tool | None:
    """Returns the function to call: the one demanded, else the first one when any is demanded or the prompt says so.

    Takes both notations: `{"function": {"name": ...}}` of chat completions and `{"name": ...}` of responses.
    """
    functions = (
        [tool.get("function", tool) for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    )
    functions = [function for function in functions if "name" in function]
    if not functions or choice == "none":
        return None
    named = choice.get("function", choice).get("name") if isinstance(choice, dict) else None
    if named is None and choice != "required" and b"call a tool" not in to_json(prompt)[-4096:]:
        return None
    function = next((function for function in functions if function["name"] == named), functions[0])
    return Tool(name=function["name"], parameters=function.get("parameters") or {}, is_forced=named is not None)


def snapshot(model: str) -> str:
    """Returns the dated model behind a name; a name not known is its own."""
    return _SNAPSHOTS.get(model, model)


def new_id(prefix: str) -> str:
    """Returns an id that no other object has."""
    return prefix + secrets.token_hex(12)


def unix_now() -> int:
    """Returns the time as the API writes it: whole seconds since 1970."""
    return int(time.time())
