"""What an answer said, put together from its bytes: content, refusals, reasoning and tool calls of each choice.

Rule: as much as there is. A stream that was cut off, or an event that cannot be read, gives what can be read; an answer of
an operation that says nothing in words gives no choices.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from shared.core.api.operations import Operation
from shared.core.api.sse import EventSplitter, data_of
from shared.core.content_encoding import decoded
from shared.core.json_text import NOT_READABLE
from shared.core.usage import Part, parse_chat, parse_response, parse_transcription


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A function that is to be called. `arguments` is the model's text, which need not be JSON."""

    id: str | None = None
    name: str | None = None
    arguments: str = ""


class ChoiceText(msgspec.Struct, frozen=True, kw_only=True):
    """What one choice said. `reasoning` is what the provider shows of it: a summary, as a rule."""

    content: str = ""
    refusal: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer said, by choice. No choices: it says nothing in words."""

    choices: tuple[ChoiceText, ...] = ()


def completion_text(operation: Operation, body: bytes, encoding: str | None = None) -> Completion:
    """What the body of an answer, JSON or a stream of events, whole or cut, says. `encoding` is its Content-Encoding."""
    reader = _READERS.get(operation.parse)
    if reader is None:
        return Completion()
    try:
        plain = decoded(body, encoding)
    except zlib.error:
        return Completion()
    return Completion(choices=tuple(reader(plain)))


def says_words(operation: Operation) -> bool:
    """Whether what its answers are made of is words that are read here: pictures and sound are not."""
    return operation.parse in _READERS


class _Assembly:
    """One choice while it is put together. Local to one answer."""

    def __init__(self) -> None:
        self.content: list[str] = []
        self.refusal: list[str] = []
        self.reasoning: list[str] = []
        self.finish_reason: str | None = None
        self.tools: defaultdict[int, _ToolAssembly] = defaultdict(_ToolAssembly)

    @property
    def choice(self) -> ChoiceText:
        return ChoiceText(
            content="".join(self.content),
            refusal="".join(self.refusal),
            reasoning="".join(self.reasoning),
            tool_calls=tuple(self.tools[index].call for index in sorted(self.tools)),
            finish_reason=self.finish_reason,
        )


class _ToolAssembly:
    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.arguments: list[str] = []

    @property
    def call(self) -> ToolCall:
        return ToolCall(id=self.id, name=self.name, arguments="".join(self.arguments))


def _messages[T](body: bytes, decoder: msgspec.json.Decoder[T]) -> Iterable[T]:
    """The body as JSON, or what its events hold; what cannot be read is left out."""
    for data in [body] if body.lstrip()[:1] in (b"{", b"[") else _data(body):
        try:
            yield decoder.decode(data)
        except NOT_READABLE:
            continue


def _data(body: bytes) -> Iterable[bytes]:
    splitter = EventSplitter()
    return (data for event in [*splitter.feed(body), splitter.rest] if (data := data_of(event)))


# Chat completions and completions


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    custom: Mapping[str, Any] | None = None


class _Audio(msgspec.Struct):
    transcript: str | None = None


class _Said(msgspec.Struct):
    """A message, or what a chunk adds to it. Some servers write content as a list of parts."""

    content: str | tuple[Mapping[str, Any], ...] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[_ToolCall, ...] | None = None
    function_call: _Function | None = None
    audio: _Audio | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Said | None = None
    delta: _Said | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chat(msgspec.Struct):
    choices: tuple[_Choice, ...] | None = None


_chat_decoder = msgspec.json.Decoder(_Chat)


def _of_chat(body: bytes) -> Iterable[ChoiceText]:
    assemblies: defaultdict[int, _Assembly] = defaultdict(_Assembly)
    for chat in _messages(body, _chat_decoder):
        for choice in chat.choices or ():
            _add_choice(assemblies[choice.index], choice)
    return (assemblies[index].choice for index in sorted(assemblies))


def _add_choice(assembly: _Assembly, choice: _Choice) -> None:
    assembly.finish_reason = choice.finish_reason or assembly.finish_reason
    assembly.content.append(choice.text or "")
    said = choice.message or choice.delta
    if said is None:
        return
    assembly.content.append(_text_of(said.content) or (said.audio and said.audio.transcript) or "")
    assembly.refusal.append(said.refusal or "")
    assembly.reasoning.append(said.reasoning_content or said.reasoning or "")
    for position, call in enumerate(said.tool_calls or ()):
        _add_tool_call(assembly.tools[position if call.index is None else call.index], call)
    if said.function_call:
        _add_tool_call(assembly.tools[0], _ToolCall(function=said.function_call))


def _add_tool_call(assembly: _ToolAssembly, call: _ToolCall) -> None:
    function = call.function or _Function()
    custom = call.custom or {}
    assembly.id = call.id or assembly.id
    assembly.name = function.name or custom.get("name") or assembly.name
    assembly.arguments.append(function.arguments or custom.get("input") or "")


def _text_of(content: str | Iterable[Mapping[str, Any]] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(text for part in content if isinstance(text := part.get("text"), str))


# Responses


class _Text(msgspec.Struct):
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct):
    """An output item: a message, a reasoning, or a call of a tool."""

    type: str | None = None
    call_id: str | None = None
    id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    content: tuple[_Text, ...] | None = None
    summary: tuple[_Text, ...] | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    output: tuple[_Item, ...] | None = None


class _Event(_Response):
    """A response, or an event about one."""

    type: str | None = None
    response: _Response | None = None
    output_index: int = 0
    item: _Item | None = None
    delta: Any = None


_response_decoder = msgspec.json.Decoder(_Event)

_TOOL_CALLS = frozenset({"function_call", "custom_tool_call", "mcp_call"})
_TOOL_DELTAS = frozenset(
    {
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
        "response.mcp_call_arguments.delta",
    }
)
_DELTAS: Mapping[str, Callable[[_Assembly], list[str]]] = {
    "response.output_text.delta": lambda said: said.content,
    "response.audio.transcript.delta": lambda said: said.content,
    "response.refusal.delta": lambda said: said.refusal,
    "response.reasoning_summary_text.delta": lambda said: said.reasoning,
    "response.reasoning_text.delta": lambda said: said.reasoning,
}


def _of_response(body: bytes) -> Iterable[ChoiceText]:
    """One choice. Events are added up, until one has the whole of it."""
    assembly, is_response = _Assembly(), False
    for event in _messages(body, _response_decoder):
        response = event.response or event
        is_response = is_response or event.type is not None or response.output is not None
        assembly.finish_reason = _finish_reason(response) or assembly.finish_reason
        if response.output:
            assembly.content, assembly.refusal, assembly.reasoning, assembly.tools = (
                [],
                [],
                [],
                defaultdict(_ToolAssembly),
            )
            for index, item in enumerate(response.output):
                _add_item(assembly, index, item)
        else:
            _add_event(assembly, event)
    return (assembly.choice,) if is_response else ()


def _add_event(assembly: _Assembly, event: _Event) -> None:
    if event.type == "response.output_item.added" and event.item and event.item.type in _TOOL_CALLS:
        _add_item(assembly, event.output_index, event.item)
    elif not isinstance(event.delta, str):
        return
    elif event.type in _TOOL_DELTAS:
        assembly.tools[event.output_index].arguments.append(event.delta)
    elif place := _DELTAS.get(event.type or ""):
        place(assembly).append(event.delta)


def _add_item(assembly: _Assembly, index: int, item: _Item) -> None:
    if item.type in _TOOL_CALLS:
        tool = assembly.tools[index]
        tool.id, tool.name = item.call_id or item.id, item.name
        tool.arguments.append(item.arguments or item.input or "")
    elif item.type == "reasoning":
        assembly.reasoning.extend(part.text or "" for part in (*(item.summary or ()), *(item.content or ())))
    else:
        assembly.content.extend(part.text or "" for part in item.content or ())
        assembly.refusal.extend(part.refusal or "" for part in item.content or ())


def _finish_reason(response: _Response) -> str | None:
    if response.incomplete_details and response.incomplete_details.reason:
        return response.incomplete_details.reason
    return response.status if response.status not in ("in_progress", "queued") else None


# Transcriptions


class _Transcript(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    delta: str | None = None


_transcript_decoder = msgspec.json.Decoder(_Transcript)


def _of_transcript(body: bytes) -> Iterable[ChoiceText]:
    """One choice: the text of JSON, of events, or the body itself, which may be plain text, SRT or VTT."""
    deltas: list[str] = []
    for message in _messages(body, _transcript_decoder):
        if message.text is not None and message.type in (None, "transcript.text.done"):
            return (ChoiceText(content=message.text),)
        deltas.append(message.delta or "")
    content = "".join(deltas) if deltas or _begins_stream(body) else body.decode("utf-8", "replace")
    return (ChoiceText(content=content),) if content else ()


def _begins_stream(body: bytes) -> bool:
    return any(body.startswith(field) or field.startswith(body) for field in (b"data:", b"event:", b":"))


_READERS: Mapping[Callable[[bytes], Part], Callable[[bytes], Iterable[ChoiceText]]] = {
    parse_chat: _of_chat,
    parse_response: _of_response,
    parse_transcription: _of_transcript,
}
"""By what reads the usage of the same answers."""
