"""The Responses API: create in one piece, streamed or in the background; retrieve, cancel, delete, input items.

Shapes and event names: https://platform.openai.com/docs/api-reference/responses and .../responses-streaming.
"""

import time
from collections.abc import Iterator
from typing import Any

import msgspec

from devtools.simulator.account import Entry
from devtools.simulator.answers import Answer, compose
from devtools.simulator.calls import Call, Event, Meter, Reply, Stream, chosen_tool, new_id, to_json, unix_now
from devtools.simulator.errors import ApiError, bad_request, no_object
from devtools.simulator.objects import page
from devtools.simulator.tokens import Json

_ECHOED = ("instructions", "metadata", "previous_response_id", "temperature", "top_p", "user", "truncation", "text")


class Job(msgspec.Struct, kw_only=True):
    """A stored response as it comes about; not frozen, because it may be cancelled."""

    answer: Answer
    inputs: list[Json]
    entry: Entry
    started_at: float
    """On the monotonic clock."""
    takes_s: float
    """0 unless the response is made in the background."""
    is_cancelled: bool = False

    @property
    def progress(self) -> float:
        """From 0 to 1, by elapsed time."""
        return min(1.0, (time.monotonic() - self.started_at) / self.takes_s) if self.takes_s else 1.0


def create(call: Call) -> Reply | Stream:
    """POST responses."""
    prompt = call.body.get("input")
    if not isinstance(prompt, str | list) or not prompt:
        raise bad_request("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    if "include_usage" in (call.body.get("stream_options") or {}):
        raise bad_request("Unknown parameter: 'stream_options.include_usage'.", "stream_options.include_usage")
    _check_links(call)
    answer = _answer(call, prompt)
    shell = _shell(call)
    meter: Meter = answer.tokens.responses
    is_background = call.body.get("background") is True
    if call.body.get("store") is not False:
        job = Job(
            answer=answer,
            inputs=_items(prompt),
            entry=call.entry,
            started_at=time.monotonic(),
            takes_s=call.settings.background_ms / 1000 if is_background else 0,
        )
        call.resource.collection("responses")[shell["id"]] = shell
        call.resource.jobs[shell["id"]] = job
    elif is_background:
        raise bad_request("Background mode requires store to be true.", "background")
    if call.is_stream:
        events = _events(shell, answer, no_usage=call.fault.no_usage)
        return Stream(events=events, model=call.model, tokens=answer.tokens.output, meter=meter, error_name="error")
    fields = {**shell, "status": "queued"} if is_background else _finished(shell, answer)
    if call.fault.no_usage:
        fields["usage"] = None
    # A background job answers at once, and the account is told what the job is going to generate.
    return Reply(
        body=to_json(fields),
        model=call.model,
        tokens=0 if is_background else answer.tokens.output,
        meter=(lambda _: meter(answer.tokens.output)) if is_background else meter,
    )


def retrieve(call: Call) -> Reply | Stream:
    """GET responses/{id}; with `stream=true` the events after `starting_after` again. It generates nothing."""
    shell, job = _stored(call)
    if call.route.query.get("stream") == "true":
        after = int(call.route.query.get("starting_after", "-1"))
        events = _events(shell, job.answer, no_usage=False)
        # By position: sequence numbers count the events from 0. Tokens of 0 keep the replay unpaced and unbilled.
        replayed = (Event(event.data, 0, event.name) for number, event in enumerate(events) if number > after)
        return Stream(events=replayed, model=shell["model"], error_name="error")
    return Reply(body=to_json(_now(shell, job)), model=shell["model"])


def delete(call: Call) -> Reply:
    """DELETE responses/{id}."""
    shell, _ = _stored(call)
    del call.resource.collection("responses")[shell["id"]]
    del call.resource.jobs[shell["id"]]
    return Reply(body=to_json({"id": shell["id"], "object": "response.deleted", "deleted": True}))


def cancel(call: Call) -> Reply:
    """POST responses/{id}/cancel: only of a background response. What was not generated is not billed."""
    shell, job = _stored(call)
    if not job.takes_s:
        raise bad_request("Only background responses can be cancelled.")
    if job.progress < 1 and not job.is_cancelled:
        job.entry.usage = job.answer.tokens.responses(int(job.progress * job.answer.tokens.output))
        job.is_cancelled = True
    return Reply(body=to_json(_now(shell, job)), model=shell["model"])


def input_items(call: Call) -> Reply:
    """GET responses/{id}/input_items."""
    _, job = _stored(call)
    return Reply(body=to_json(page(job.inputs, call.route.query)))


def input_tokens(call: Call) -> Reply:
    """POST responses/input_tokens: counts without generating."""
    tokens = call.ask(call.body.get("input"), None).input_tokens
    return Reply(body=to_json({"object": "response.input_tokens", "input_tokens": tokens}), model=call.model)


def compact(call: Call) -> Reply:
    """POST responses/compact: what was said, in one sealed item."""
    _check_links(call)
    answer = _answer(call, call.body.get("input") or "")
    sealed = {"id": new_id("cmp_"), "type": "compaction", "encrypted_content": call.key(answer.texts[0]).hex()}
    fields = {"id": new_id("resp_"), "object": "response.compaction", "created_at": unix_now(), "output": [sealed]}
    meter: Meter = answer.tokens.responses
    usage = meter(answer.tokens.output)
    return Reply(body=to_json({**fields, "usage": usage}), model=call.model, tokens=answer.tokens.output, meter=meter)


def _check_links(call: Call) -> None:
    """Raises 404 unless this resource holds what the request goes on from."""
    previous = call.body.get("previous_response_id")
    if previous is not None and previous not in call.resource.collection("responses"):
        raise no_object("Previous response", previous, "previous_response_id", "previous_response_not_found")
    conversation = call.body.get("conversation")
    named = conversation.get("id") if isinstance(conversation, dict) else conversation
    if named is not None and named not in call.resource.collection("conversations"):
        raise no_object("Conversation", named, "conversation")
    given = call.body.get("input")
    for item in given if isinstance(given, list) else []:
        if isinstance(item, dict) and _is_reference(item) and not _is_held(call, str(item.get("id"))):
            raise ApiError(404, f"Item with id '{item.get('id')}' not found.", param="input")


def _is_reference(item: Json) -> bool:
    """Whether an item of the input is not said but named: what it says is kept here, or nowhere."""
    if item.get("type") == "reasoning":
        return "id" in item and not item.get("encrypted_content")
    kind = item.get("type") or ("message" if "role" in item else "item_reference")
    return bool(kind == "item_reference")


def _is_held(call: Call, item_id: str) -> bool:
    """Whether this resource has the item: what a stored response said or was given, or what is in a conversation."""
    resource = call.resource
    if "resp_" + item_id.partition("_")[2] in resource.collection("responses"):
        return True
    jobs = [resource.jobs[each] for each in resource.collection("responses")]
    if any(item["id"] == item_id for job in jobs for item in job.inputs):
        return True
    return any(
        item_id in resource.collection(f"conversations/{each}/items") for each in resource.collection("conversations")
    )


def _answer(call: Call, prompt: object) -> Answer:
    body = call.body
    match body.get("text"):
        case {"format": {"type": "json_schema", "schema": dict(schema)}}:
            wanted: Json | None = schema
        case _:
            wanted = None
    last = prompt[-1] if isinstance(prompt, list) else prompt
    after_tool = isinstance(last, dict) and last.get("type") == "function_call_output"
    tool = None if after_tool else chosen_tool(body.get("tools"), body.get("tool_choice"), last)
    asked = [prompt, body["instructions"]] if body.get("instructions") else prompt
    return compose(call.ask(asked, body.get("max_output_tokens"), tool=tool, schema=wanted))


def _shell(call: Call) -> Json:
    """The response before anything is said."""
    body = call.body
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": unix_now(),
        "status": "in_progress",
        "background": body.get("background") is True,
        "error": None,
        "incomplete_details": None,
        "max_output_tokens": body.get("max_output_tokens"),
        "model": call.model,
        "output": [],
        "parallel_tool_calls": True,
        "store": body.get("store") is not False,
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "usage": None,
        **{name: body.get(name) for name in _ECHOED},
    }


def _items(prompt: str | list[Any]) -> list[Json]:
    given = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [{"id": new_id("msg_"), "type": "message", **item} for item in given if isinstance(item, dict)]


def _item_id(shell: Json, prefix: str) -> str:
    """The same response has the same items whenever it is looked at."""
    return prefix + str(shell["id"]).removeprefix("resp_")


def _spoken(shell: Json, answer: Answer, status: str, text: str) -> Json:
    """The one output item that carries what is said: a message or a function call."""
    if answer.tool is not None:
        named = {"name": answer.tool.name, "call_id": _item_id(shell, "call_"), "arguments": text}
        return {"id": _item_id(shell, "fc_"), "type": "function_call", "status": status, **named}
    content = [_part(text)] if status != "in_progress" else []
    return {"id": _item_id(shell, "msg_"), "type": "message", "status": status, "role": "assistant", "content": content}


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _thought(shell: Json) -> Json:
    return {"id": _item_id(shell, "rs_"), "type": "reasoning", "summary": []}


def _finished(shell: Json, answer: Answer) -> Json:
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(answer.finish)
    status = "completed" if reason is None else "incomplete"
    thoughts = [_thought(shell)] if answer.tokens.reasoning else []
    return {
        **shell,
        "status": status,
        "incomplete_details": None if reason is None else {"reason": reason},
        "output": [*thoughts, _spoken(shell, answer, status, answer.texts[0])],
        "usage": answer.tokens.responses(answer.tokens.output),
    }


def _stored(call: Call) -> tuple[Json, Job]:
    response_id = call.ids[0]
    shell = call.resource.collection("responses").get(response_id)
    if shell is None:
        raise ApiError(404, f"Response with id '{response_id}' not found.")
    job: Job = call.resource.jobs[response_id]
    return shell, job


def _now(shell: Json, job: Job) -> Json:
    if job.is_cancelled:
        return {**shell, "status": "cancelled"}
    if job.progress < 1:
        return {**shell, "status": "queued" if job.progress < 1 / 3 else "in_progress"}
    return _finished(shell, job.answer)


def _events(shell: Json, answer: Answer, *, no_usage: bool) -> Iterator[Event]:
    """The events of a whole response, numbered from 0."""
    generated = answer.tokens.reasoning
    for number, (name, fields) in enumerate(_steps(shell, answer, no_usage=no_usage)):
        generated += name.endswith(".delta")
        counted = generated if number > 1 else 0
        yield Event(to_json({"type": name, "sequence_number": number, **fields}), counted, name)


def _steps(shell: Json, answer: Answer, *, no_usage: bool) -> Iterator[tuple[str, Json]]:
    finished = _finished(shell, answer)
    if no_usage:
        finished["usage"] = None
    yield "response.created", {"response": shell}
    yield "response.in_progress", {"response": shell}
    index = 0
    if answer.tokens.reasoning:
        yield "response.output_item.added", {"output_index": 0, "item": _thought(shell)}
        yield "response.output_item.done", {"output_index": 0, "item": _thought(shell)}
        index = 1
    item = {"output_index": index, "item": _spoken(shell, answer, "in_progress", "")}
    yield "response.output_item.added", item
    yield from _said(item, answer)
    yield "response.output_item.done", {**item, "item": finished["output"][index]}
    yield f"response.{finished['status']}", {"response": finished}


def _said(item: Json, answer: Answer) -> Iterator[tuple[str, Json]]:
    place = {"item_id": item["item"]["id"], "output_index": item["output_index"]}
    text = answer.texts[0]
    if answer.tool is not None:
        for piece in answer.choices[0]:
            yield "response.function_call_arguments.delta", {**place, "delta": piece}
        yield "response.function_call_arguments.done", {**place, "name": answer.tool.name, "arguments": text}
        return
    place["content_index"] = 0
    yield "response.content_part.added", {**place, "part": _part("")}
    for piece in answer.choices[0]:
        yield "response.output_text.delta", {**place, "delta": piece, "logprobs": []}
    yield "response.output_text.done", {**place, "text": text, "logprobs": []}
    yield "response.content_part.done", {**place, "part": _part(text)}
