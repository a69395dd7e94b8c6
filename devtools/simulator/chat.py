"""Chat completions and legacy completions, in one piece and streamed.

Shapes: https://platform.openai.com/docs/api-reference/chat, and Azure's content filter annotations of
https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter-annotations.
"""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from devtools.simulator.answers import Answer, compose
from devtools.simulator.calls import Call, Event, Reply, Stream, chosen_tool, new_id, to_json, unix_now
from devtools.simulator.errors import bad_request
from devtools.simulator.tokens import Json

_SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
_UNSAFE = {**_SAFE, "violence": {"filtered": True, "severity": "medium"}}
_PROMPT_RESULTS = [
    {"prompt_index": 0, "content_filter_results": {**_SAFE, "jailbreak": {"filtered": False, "detected": False}}}
]
_USAGE_OPTION_SINCE = "2024-09-01"


class _Shape:
    """How one of the two APIs writes its choices."""

    def __init__(self, call: Call, answer: Answer) -> None:
        self.is_chat = call.entry.operation == "chat.completions"
        self.is_azure = call.route.is_azure
        self.answer = answer
        self._nothing: Json = {"delta": {}} if self.is_chat else {"text": ""}
        self.tool_id = new_id("call_")
        self.base: Json = {
            "id": new_id("chatcmpl-" if self.is_chat else "cmpl-"),
            "created": unix_now(),
            "model": call.model,
            "system_fingerprint": f"fp_{call.settings.seed:010x}",
        }

    def choice(self, index: int, finish: str | None, **said: Any) -> Json:
        """One choice. Azure annotates each with what its content filter found."""
        choice = {"index": index, **said, "logprobs": None, "finish_reason": finish}
        if self.is_azure:
            choice["content_filter_results"] = _UNSAFE if finish == "content_filter" else _SAFE
        return choice

    def whole(self, index: int, text: str) -> Json:
        """A choice of an answer in one piece."""
        if not self.is_chat:
            return self.choice(index, self.answer.finish, text=text)
        message: Json = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        if self.answer.tool is not None:
            message |= {"content": None, "tool_calls": [self._tool_call(text)]}
        return self.choice(index, self.answer.finish, message=message)

    def first(self, index: int) -> Json:
        """The choice of a stream's first chunk: who speaks, and which function is called."""
        delta: Json = {"role": "assistant", "content": "", "refusal": None}
        if self.answer.tool is not None:
            delta |= {"content": None, "tool_calls": [{"index": 0, **self._tool_call("")}]}
        return self.choice(index, None, delta=delta)

    def piece(self, index: int, text: str) -> Json:
        """The choice of a chunk with content."""
        if not self.is_chat:
            return self.choice(index, None, text=text)
        if self.answer.tool is not None:
            return self.choice(index, None, delta={"tool_calls": [{"index": 0, "function": {"arguments": text}}]})
        return self.choice(index, None, delta={"content": text})

    def last(self, index: int) -> Json:
        """The choice of the chunk that says why the answer ends."""
        return self.choice(index, self.answer.finish, **self._nothing)

    def _tool_call(self, arguments: str) -> Json:
        name = "" if self.answer.tool is None else self.answer.tool.name
        return {"id": self.tool_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def chat_completions(call: Call) -> Reply | Stream:
    """POST chat/completions."""
    messages, body = call.body.get("messages"), call.body
    if not isinstance(messages, list) or not messages:
        raise bad_request("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    after_tool = isinstance(messages[-1], dict) and messages[-1].get("role") == "tool"
    return _answer(
        call,
        messages,
        body.get("max_completion_tokens") or body.get("max_tokens"),
        tool=None if after_tool else chosen_tool(body.get("tools"), body.get("tool_choice"), messages[-1:]),
        schema=_schema(body.get("response_format")),
    )


def completions(call: Call) -> Reply | Stream:
    """POST completions: the legacy API; it does not reason and has no tools."""
    prompt = call.body.get("prompt", "<|endoftext|>")
    return _answer(call, prompt, call.body.get("max_tokens", 16), reasons=False)


def _answer(call: Call, prompt: object, limit: object, **more: Any) -> Reply | Stream:
    include_usage = _include_usage(call)
    choices = call.body.get("n") or 1
    if not isinstance(choices, int) or not 1 <= choices <= 128:
        raise bad_request("'n' must be a whole number from 1 to 128.", "n")
    answer = compose(call.ask(prompt, limit, choices=choices, **more))
    shape = _Shape(call, answer)
    meter = answer.tokens.chat
    if call.is_stream:
        events = _events(shape, include_usage=include_usage and not call.fault.no_usage, nulls=include_usage)
        return Stream(events=events, model=call.model, tokens=answer.tokens.output, meter=meter)
    fields = {
        **shape.base,
        "object": "chat.completion" if shape.is_chat else "text_completion",
        "choices": [shape.whole(index, text) for index, text in enumerate(answer.texts)],
    }
    if not call.fault.no_usage:
        fields["usage"] = meter(answer.tokens.output)
    if call.route.is_azure:
        fields["prompt_filter_results"] = _PROMPT_RESULTS
    if shape.is_chat and call.body.get("store") is True:
        stored = {**fields, "metadata": call.body.get("metadata") or {}, "input_messages": prompt}
        call.resource.collection("chat/completions")[fields["id"]] = stored
        said = call.resource.collection(f"chat/completions/{fields['id']}/messages")
        for message in call.body["messages"]:
            message_id = f"{fields['id']}-{len(said)}"
            said[message_id] = {**message, "id": message_id}
    return Reply(body=to_json(fields), model=call.model, tokens=answer.tokens.output, meter=meter)


def _include_usage(call: Call) -> bool:
    """Whether the stream ends with a usage chunk; raises as the providers do when the option is not allowed."""
    options = call.body.get("stream_options")
    if options is None:
        return False
    version = call.route.api_version
    if call.route.family == "azure" and version is not None and version < _USAGE_OPTION_SINCE:
        raise bad_request("Unrecognized request argument supplied: stream_options")
    if not call.is_stream:
        raise bad_request("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _schema(response_format: object) -> Json | None:
    match response_format:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
        case {"type": "json_object"}:
            return {"properties": {"answer": {"type": "string"}}}
    return None


def _events(shape: _Shape, *, include_usage: bool, nulls: bool) -> Iterator[Event]:
    base = {**shape.base, "object": "chat.completion.chunk" if shape.is_chat else "text_completion"}
    extra: Json = {"usage": None} if nulls else {}
    if shape.is_azure:
        empty = {"choices": [], "created": 0, "id": "", "model": "", "object": "", **extra}
        yield Event(to_json({**empty, "prompt_filter_results": _PROMPT_RESULTS}))
    for choice, generated in _chunks(shape):
        yield Event(to_json({**base, "choices": [choice], **extra}), generated)
    tokens = shape.answer.tokens
    if include_usage:
        yield Event(to_json({**base, "choices": [], "usage": tokens.chat(tokens.output)}), tokens.output)
    yield Event(b"[DONE]", tokens.output)


def _chunks(shape: _Shape) -> Iterator[tuple[Json, int]]:
    """The choice of each chunk, and how many tokens are out with it. Several choices are said in turn."""
    answer = shape.answer
    indexes = range(len(answer.choices))
    if shape.is_chat:
        yield from ((shape.first(index), 0) for index in indexes)
    generated = answer.tokens.reasoning
    for row in zip_longest(*answer.choices):
        for index, piece in enumerate(row):
            if piece is not None:
                generated += 1
                yield shape.piece(index, piece), generated
    yield from ((shape.last(index), generated) for index in indexes)
