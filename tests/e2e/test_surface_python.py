"""The unmodified openai SDK for Python through the gateway: every operation, every URL style, every kind of upstream.

Rule: a row says what must be true of the answer; that the call went where its operation belongs is read in the
simulator's account.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

from devtools.simulator import Simulator
from devtools.simulator.account import Entry
from shared.core.api.operations import CATALOGUE, Operation, Route, match
from shared.core.configuration import UpstreamKind
from tests.e2e.given import CHAT, MESSAGES, OVER, PICTURE, SOUND, TEXT, Given
from tests.e2e.sdk import STYLES, Seen, Wire
from tests.stack import Stack


def ids(page: Any) -> list[str]:
    """The ids of a whole list, page by page."""
    return [each.id for each in page]


def finished(given: Given, batch: Any) -> Any:
    deadline = time.monotonic() + 10
    while batch.status != "completed" and time.monotonic() < deadline:
        batch = given.sdk.batches.retrieve(batch.id)
    return batch


def batch_answers(given: Given) -> Any:
    """The output of a batch is a file that nobody uploaded; it is the client's all the same."""
    output = given.sdk.files.content(finished(given, given.new_batch()).output_file_id)
    answer = json.loads(output.content)
    return bool(answer["response"]["body"]["choices"][0]["message"]["content"])


def uploaded(given: Given) -> Any:
    upload = given.new_upload()
    parts = [given.new_part(upload, data).id for data in (b"def", b"abc")]
    whole = given.sdk.uploads.complete(upload.id, part_ids=parts[::-1])
    return whole.status == "completed" and given.sdk.files.content(whole.file.id).content == b"abcdef"


def streamed_chat(given: Given) -> Any:
    chunks = list(given.sdk.chat.completions.create(**CHAT, stream=True))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    whole = given.sdk.chat.completions.create(**CHAT).choices[0].message.content
    return said == whole and not any(chunk.usage for chunk in chunks)


def streamed_completion(given: Given) -> Any:
    asked: Any = {"model": "gpt-4o", "prompt": "Once", "max_tokens": 8}
    said = "".join(
        chunk.choices[0].text for chunk in given.sdk.completions.create(**asked, stream=True) if chunk.choices
    )
    return said == given.sdk.completions.create(**asked).choices[0].text


def streamed_response(given: Given) -> Any:
    with given.sdk.responses.stream(model="o4-mini", input="hello") as stream:
        said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        whole = stream.get_final_response()
    return said == whole.output_text != "" and given.sdk.responses.retrieve(whole.id).output_text == said


def replayed_response(given: Given) -> Any:
    response = given.new_response()
    events = list(given.sdk.responses.retrieve(response.id, stream=True))
    return events[-1].response.output_text == response.output_text


def streamed_transcript(given: Given) -> Any:
    events = given.sdk.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND, stream=True)
    *parts, whole = list(events)
    return "".join(part.delta for part in parts).strip() == whole.text


def streamed_picture(given: Given) -> Any:
    events = list(given.sdk.images.generate(model="gpt-image-1", prompt="a pier", stream=True))
    return events[-1].type == "image_generation.completed" and events[-1].usage.total_tokens > 0


def streamed_speech(given: Given) -> Any:
    with given.sdk.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input="Mind the gap", response_format="wav"
    ) as answer:
        return sum(map(len, answer.iter_bytes())) == 32_768 and answer.headers["content-type"] == "audio/wav"


GRADER: Any = {"type": "score_model", "name": "g", "model": "gpt-4o", "input": []}

type Case = Callable[[Given], Any]
"""True where the answer is right."""

CASES: dict[str, Case] = {
    # operation, and behind a slash which form of it
    "chat.completions": lambda g: g.sdk.chat.completions.create(**CHAT).usage.total_tokens > 0,
    "chat.completions/stream": streamed_chat,
    "chat.completions.list": lambda g: g.completion.id in ids(g.sdk.chat.completions.list()),
    "chat.completions.retrieve": lambda g: (
        g.sdk.chat.completions.retrieve(g.completion.id).choices == g.completion.choices
    ),
    "chat.completions.update": lambda g: (
        g.sdk.chat.completions.update(g.completion.id, metadata={"a": "c"}).metadata == {"a": "c"}
    ),
    "chat.completions.delete": lambda g: g.sdk.chat.completions.delete(g.new_completion().id).deleted,
    "chat.completions.messages": lambda g: (
        [each.content for each in g.sdk.chat.completions.messages.list(g.completion.id)] == [MESSAGES[0]["content"]]
    ),
    "completions": lambda g: (
        g.sdk.completions.create(model="gpt-4o", prompt="Once", max_tokens=8).choices[0].text != ""
    ),
    "completions/stream": streamed_completion,
    "embeddings": lambda g: (
        [len(each.embedding) for each in g.sdk.embeddings.create(model="text-embedding-3-small", input=["a", "b"]).data]
        == [1536, 1536]
    ),
    "images.generate": lambda g: g.sdk.images.generate(model="gpt-image-1", prompt="a pier").usage.output_tokens > 0,
    "images.generate/stream": streamed_picture,
    "images.generate/by url": lambda g: (
        "simulator" in g.sdk.images.generate(model="dall-e-3", prompt="a pier").data[0].url
    ),
    "images.edit": lambda g: (
        g.sdk.images.edit(
            model="gpt-image-1", image=[PICTURE, PICTURE], prompt="night"
        ).usage.input_tokens_details.image_tokens
        == 388
    ),
    "images.create_variation": lambda g: (
        len(g.sdk.images.create_variation(model="dall-e-3", image=PICTURE, n=2).data) == 2
    ),
    "audio.transcriptions": lambda g: g.sdk.audio.transcriptions.create(model="whisper-1", file=SOUND).text != "",
    "audio.transcriptions/stream": streamed_transcript,
    "audio.transcriptions/text": lambda g: g.sdk.audio.transcriptions.create(
        model="whisper-1", file=SOUND, response_format="srt"
    ).startswith("1\n00:00:00"),
    "audio.translations": lambda g: g.sdk.audio.translations.create(model="whisper-1", file=SOUND).text != "",
    "audio.speech": lambda g: (
        len(g.sdk.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="Mind the gap").content) == 32_768
    ),
    "audio.speech/stream": streamed_speech,
    "moderations": lambda g: (
        [
            each.flagged
            for each in g.sdk.moderations.create(model="omni-moderation-latest", input=["violence", "tea"]).results
        ]
        == [True, False]
    ),
    "moderations/no model": lambda g: g.sdk.moderations.create(input="tea").results[0].flagged is False,
    "models.list": lambda g: {"gpt-4o", "whisper-1"} <= set(ids(g.sdk.models.list())),
    "models.retrieve": lambda g: g.sdk.models.retrieve("gpt-4o").id == "gpt-4o",
    "responses": lambda g: g.new_response(previous_response_id=g.response.id).output_text != "",
    "responses/stream": streamed_response,
    "responses/in a conversation": lambda g: g.new_response(conversation=g.conversation.id).output_text != "",
    "responses.input_tokens": lambda g: (
        g.sdk.responses.input_tokens.count(model="gpt-4o", input="hello").input_tokens > 0
    ),
    "responses.compact": lambda g: (
        g.sdk.responses.compact(model="gpt-4o", previous_response_id=g.response.id).output[0].type == "compaction"
    ),
    "responses.retrieve": lambda g: g.sdk.responses.retrieve(g.response.id).output_text == g.response.output_text,
    "responses.retrieve/stream": replayed_response,
    "responses.delete": lambda g: g.sdk.responses.delete(g.new_response().id) is None,
    "responses.cancel": lambda g: g.sdk.responses.cancel(g.new_response(background=True).id).status in OVER,
    "responses.input_items": lambda g: (
        [each.content for each in g.sdk.responses.input_items.list(g.response.id)] == ["hello"]
    ),
    "conversations.create": lambda g: g.new_conversation().metadata == {"who": "me"},
    "conversations.retrieve": lambda g: g.sdk.conversations.retrieve(g.conversation.id).id == g.conversation.id,
    "conversations.update": lambda g: (
        g.sdk.conversations.update(g.conversation.id, metadata={"who": "you"}).metadata == {"who": "you"}
    ),
    "conversations.delete": lambda g: g.sdk.conversations.delete(g.new_conversation().id).deleted,
    "conversations.items.create": lambda g: g.new_item().content[0].text == "hi",
    "conversations.items.list": lambda g: g.item.id in ids(g.sdk.conversations.items.list(g.conversation.id)),
    "conversations.items.retrieve": lambda g: (
        g.sdk.conversations.items.retrieve(g.item.id, conversation_id=g.conversation.id).id == g.item.id
    ),
    "conversations.items.delete": lambda g: (
        g.sdk.conversations.items.delete(g.new_item().id, conversation_id=g.conversation.id) is not None
    ),
    "files.create": lambda g: g.new_file().bytes == len(TEXT.encode()),
    "files.list": lambda g: g.file.id in ids(g.sdk.files.list(purpose="assistants")),
    "files.retrieve": lambda g: g.sdk.files.retrieve(g.file.id) == g.file,
    "files.delete": lambda g: g.sdk.files.delete(g.new_file().id).deleted,
    "files.content": lambda g: g.sdk.files.content(g.file.id).content == TEXT.encode(),
    "files.content/of a batch": batch_answers,
    "uploads.create": lambda g: g.new_upload().status == "pending",
    "uploads.parts.create": lambda g: g.new_part(g.new_upload(), b"abcdef").object == "upload.part",
    "uploads.complete": uploaded,
    "uploads.cancel": lambda g: g.sdk.uploads.cancel(g.new_upload().id).status == "cancelled",
    "batches.create": lambda g: g.new_batch().request_counts.total == 1,
    "batches.list": lambda g: g.batch.id in ids(g.sdk.batches.list()),
    "batches.retrieve": lambda g: finished(g, g.batch).request_counts.completed == 1,
    "batches.cancel": lambda g: g.sdk.batches.cancel(g.new_batch().id).status in OVER,
    "fine_tuning.jobs.create": lambda g: g.new_job().status == "queued",
    "fine_tuning.jobs.list": lambda g: g.job.id in ids(g.sdk.fine_tuning.jobs.list()),
    "fine_tuning.jobs.retrieve": lambda g: g.sdk.fine_tuning.jobs.retrieve(g.job.id).training_file == g.file.id,
    "fine_tuning.jobs.cancel": lambda g: g.sdk.fine_tuning.jobs.cancel(g.new_job().id).status == "cancelled",
    "fine_tuning.jobs.pause": lambda g: g.sdk.fine_tuning.jobs.pause(g.new_job().id).status == "paused",
    "fine_tuning.jobs.resume": lambda g: g.sdk.fine_tuning.jobs.resume(g.new_job().id).status == "running",
    "fine_tuning.jobs.events": lambda g: (
        [each.message for each in g.sdk.fine_tuning.jobs.list_events(g.job.id)] == ["Queued"]
    ),
    "fine_tuning.jobs.checkpoints": lambda g: (
        [each.step_number for each in g.sdk.fine_tuning.jobs.checkpoints.list(g.job.id)] == [1]
    ),
    "vector_stores.create": lambda g: g.new_store().name == "papers",
    "vector_stores.list": lambda g: g.store.id in ids(g.sdk.vector_stores.list()),
    "vector_stores.retrieve": lambda g: g.sdk.vector_stores.retrieve(g.store.id).id == g.store.id,
    "vector_stores.update": lambda g: g.sdk.vector_stores.update(g.store.id, name="papers").name == "papers",
    "vector_stores.delete": lambda g: g.sdk.vector_stores.delete(g.new_store().id).deleted,
    "vector_stores.search": lambda g: (
        g.store_file.id in [hit.file_id for hit in g.sdk.vector_stores.search(g.store.id, query="where")]
    ),
    "vector_stores.files.create": lambda g: g.new_store_file().status == "completed",
    "vector_stores.files.list": lambda g: g.store_file.id in ids(g.sdk.vector_stores.files.list(g.store.id)),
    "vector_stores.files.retrieve": lambda g: (
        g.sdk.vector_stores.files.retrieve(g.store_file.id, vector_store_id=g.store.id).id == g.store_file.id
    ),
    "vector_stores.files.update": lambda g: (
        g.sdk.vector_stores.files.update(g.store_file.id, vector_store_id=g.store.id, attributes={"a": 1}).attributes
        == {"a": 1}
    ),
    "vector_stores.files.delete": lambda g: (
        g.sdk.vector_stores.files.delete(g.new_store_file().id, vector_store_id=g.store.id).deleted
    ),
    "vector_stores.files.content": lambda g: (
        [part.text for part in g.sdk.vector_stores.files.content(g.store_file.id, vector_store_id=g.store.id)] == [TEXT]
    ),
    "vector_stores.file_batches.create": lambda g: g.new_file_batch().status == "completed",
    "vector_stores.file_batches.retrieve": lambda g: (
        g.sdk.vector_stores.file_batches.retrieve(g.file_batch.id, vector_store_id=g.store.id).id == g.file_batch.id
    ),
    "vector_stores.file_batches.cancel": lambda g: (
        g.sdk.vector_stores.file_batches.cancel(g.new_file_batch().id, vector_store_id=g.store.id).status == "cancelled"
    ),
    "vector_stores.file_batches.files": lambda g: (
        len(ids(g.sdk.vector_stores.file_batches.list_files(g.file_batch.id, vector_store_id=g.store.id))) == 1
    ),
    "containers.create": lambda g: g.new_container().status == "running",
    "containers.list": lambda g: g.container.id in ids(g.sdk.containers.list()),
    "containers.retrieve": lambda g: g.sdk.containers.retrieve(g.container.id).name == "box",
    "containers.delete": lambda g: g.sdk.containers.delete(g.new_container().id) is None,
    "containers.files.create": lambda g: g.new_container_file().object == "container.file",
    "containers.files.create/by id": lambda g: (
        g.sdk.containers.files.create(g.container.id, file_id=g.file.id).object == "container.file"
    ),
    "containers.files.list": lambda g: g.container_file.id in ids(g.sdk.containers.files.list(g.container.id)),
    "containers.files.retrieve": lambda g: (
        g.sdk.containers.files.retrieve(g.container_file.id, container_id=g.container.id).id == g.container_file.id
    ),
    "containers.files.delete": lambda g: (
        g.sdk.containers.files.delete(g.new_container_file().id, container_id=g.container.id) is None
    ),
    "containers.files.content": lambda g: (
        g.sdk.containers.files.content.retrieve(g.container_file.id, container_id=g.container.id).content
        == TEXT.encode()
    ),
    "evals.create": lambda g: g.new_eval().testing_criteria == [],
    "evals.list": lambda g: g.eval.id in ids(g.sdk.evals.list()),
    "evals.retrieve": lambda g: g.sdk.evals.retrieve(g.eval.id).id == g.eval.id,
    "evals.update": lambda g: g.sdk.evals.update(g.eval.id, name="again").name == "again",
    "evals.delete": lambda g: g.sdk.evals.delete(g.new_eval().id).deleted,
    "evals.runs.create": lambda g: g.new_eval_run().status == "queued",
    "evals.runs.list": lambda g: g.eval_run.id in ids(g.sdk.evals.runs.list(g.eval.id)),
    "evals.runs.retrieve": lambda g: g.sdk.evals.runs.retrieve(g.eval_run.id, eval_id=g.eval.id).id == g.eval_run.id,
    "evals.runs.cancel": lambda g: g.sdk.evals.runs.cancel(g.new_eval_run().id, eval_id=g.eval.id).status == "canceled",
    "evals.runs.delete": lambda g: g.sdk.evals.runs.delete(g.new_eval_run().id, eval_id=g.eval.id).deleted,
    "evals.runs.output_items.list": lambda g: (
        [each.status for each in g.sdk.evals.runs.output_items.list(g.eval_run.id, eval_id=g.eval.id)] == ["pass"]
    ),
    "evals.runs.output_items.retrieve": lambda g: (
        g.sdk.evals.runs.output_items.retrieve(
            ids(g.sdk.evals.runs.output_items.list(g.eval_run.id, eval_id=g.eval.id))[0],
            eval_id=g.eval.id,
            run_id=g.eval_run.id,
        ).status
        == "pass"
    ),
    "assistants.create": lambda g: g.new_assistant().name == "guide",
    "assistants.list": lambda g: g.assistant.id in ids(g.sdk.beta.assistants.list()),
    "assistants.retrieve": lambda g: g.sdk.beta.assistants.retrieve(g.assistant.id).model == "gpt-4o",
    "assistants.update": lambda g: g.sdk.beta.assistants.update(g.assistant.id, name="pilot").name == "pilot",
    "assistants.delete": lambda g: g.sdk.beta.assistants.delete(g.new_assistant().id).deleted,
    "threads.create": lambda g: g.new_thread().metadata == {"who": "me"},
    "threads.create_and_run": lambda g: (
        g.sdk.beta.threads.create_and_run(assistant_id=g.assistant.id, thread={}).status == "completed"
    ),
    "threads.retrieve": lambda g: g.sdk.beta.threads.retrieve(g.thread.id).id == g.thread.id,
    "threads.update": lambda g: g.sdk.beta.threads.update(g.thread.id, metadata={"a": "b"}).metadata == {"a": "b"},
    "threads.delete": lambda g: g.sdk.beta.threads.delete(g.new_thread().id).deleted,
    "threads.messages.create": lambda g: g.new_message().thread_id is None or g.message.role == "user",
    "threads.messages.list": lambda g: g.message.id in ids(g.sdk.beta.threads.messages.list(g.thread.id)),
    "threads.messages.retrieve": lambda g: (
        g.sdk.beta.threads.messages.retrieve(g.message.id, thread_id=g.thread.id).id == g.message.id
    ),
    "threads.messages.update": lambda g: (
        g.sdk.beta.threads.messages.update(g.message.id, thread_id=g.thread.id, metadata={"a": "b"}).metadata
        == {"a": "b"}
    ),
    "threads.messages.delete": lambda g: (
        g.sdk.beta.threads.messages.delete(g.new_message().id, thread_id=g.thread.id).deleted
    ),
    "threads.runs.create": lambda g: g.new_run().usage.total_tokens == 30,
    "threads.runs.list": lambda g: g.run.id in ids(g.sdk.beta.threads.runs.list(g.thread.id)),
    "threads.runs.retrieve": lambda g: g.sdk.beta.threads.runs.retrieve(g.run.id, thread_id=g.thread.id).id == g.run.id,
    "threads.runs.update": lambda g: (
        g.sdk.beta.threads.runs.update(g.run.id, thread_id=g.thread.id, metadata={"a": "b"}).metadata == {"a": "b"}
    ),
    "threads.runs.cancel": lambda g: (
        g.sdk.beta.threads.runs.cancel(g.new_run().id, thread_id=g.thread.id).status == "cancelled"
    ),
    "threads.runs.submit_tool_outputs": lambda g: (
        g.sdk.beta.threads.runs.submit_tool_outputs(g.run.id, thread_id=g.thread.id, tool_outputs=[]).status
        == "completed"
    ),
    "threads.runs.steps.list": lambda g: (
        [each.status for each in g.sdk.beta.threads.runs.steps.list(g.run.id, thread_id=g.thread.id)] == ["completed"]
    ),
    "threads.runs.steps.retrieve": lambda g: (
        g.sdk.beta.threads.runs.steps.retrieve(
            ids(g.sdk.beta.threads.runs.steps.list(g.run.id, thread_id=g.thread.id))[0],
            thread_id=g.thread.id,
            run_id=g.run.id,
        ).status
        == "completed"
    ),
    "realtime.client_secrets.create": lambda g: g.sdk.realtime.client_secrets.create(
        session={"type": "realtime", "model": "gpt-4o"}
    ).value.startswith("ek_"),
    "videos.create": lambda g: g.new_video().status == "completed",
    "videos.list": lambda g: g.video.id in ids(g.sdk.videos.list()),
    "videos.retrieve": lambda g: g.sdk.videos.retrieve(g.video.id).id == g.video.id,
    "videos.delete": lambda g: g.sdk.videos.delete(g.new_video().id).deleted,
    "videos.content": lambda g: b"ftyp" in g.sdk.videos.download_content(g.video.id).content,
    "videos.remix": lambda g: g.sdk.videos.remix(g.video.id, prompt="at night").id != g.video.id,
    "videos.edit": lambda g: g.sdk.videos.edit(prompt="at night", video=PICTURE).status == "completed",
    "videos.extend": lambda g: g.sdk.videos.extend(prompt="on", seconds="4", video=PICTURE).status == "completed",
    "skills.create": lambda g: g.new_skill().object == "skill",
    "skills.list": lambda g: g.skill.id in ids(g.sdk.skills.list()),
    "skills.retrieve": lambda g: g.sdk.skills.retrieve(g.skill.id).id == g.skill.id,
    "skills.update": lambda g: g.sdk.skills.update(g.new_skill().id, default_version="2").default_version == "2",
    "skills.delete": lambda g: g.sdk.skills.delete(g.new_skill().id).deleted,
    "skills.content": lambda g: g.sdk.skills.content.retrieve(g.skill.id).content[:2] == b"PK",
    "skills.versions.create": lambda g: g.new_version().object == "skill.version",
    "skills.versions.list": lambda g: g.version.id in ids(g.sdk.skills.versions.list(g.skill.id)),
    "skills.versions.retrieve": lambda g: (
        g.sdk.skills.versions.retrieve(g.version.id, skill_id=g.skill.id).id == g.version.id
    ),
    "skills.versions.delete": lambda g: g.sdk.skills.versions.delete(g.new_version().id, skill_id=g.skill.id).deleted,
    "skills.versions.content": lambda g: (
        g.sdk.skills.versions.content.retrieve(g.version.id, skill_id=g.skill.id).content[:2] == b"PK"
    ),
    "fine_tuning.alpha.graders.run": lambda g: (
        g.sdk.fine_tuning.alpha.graders.run(grader=GRADER, model_sample="a").reward == 1
    ),
    "fine_tuning.alpha.graders.validate": lambda g: (
        g.sdk.fine_tuning.alpha.graders.validate(grader=GRADER).grader.model == "gpt-4o"
    ),
    "realtime.transcription_sessions.create": lambda g: (
        g.sdk.beta.realtime.transcription_sessions.create().client_secret.value.startswith("ek_")
    ),
    "realtime.translations.client_secrets.create": lambda g: g.sdk.realtime.translations.client_secrets.create(
        session={"model": "gpt-4o"}
    ).value.startswith("ek_"),
    "realtime.sessions.create": lambda g: g.sdk.beta.realtime.sessions.create().client_secret.value.startswith("ek_"),
}

EXCEPTIONS = {
    "evals.runs.update": "how older SDKs cancel a run; this one has a path of its own for that",
    "models.delete": "refused: a model is there for everybody",
    "realtime": "GET of a WebSocket: the SDK opens it with a library of its own, and the gateway answers it with 501",
}

NOT_THERE = {(UpstreamKind.AZURE, "images.create_variation")}
"""What a kind of upstream does not have: the client gets the upstream's 404."""


def operation_of(case: str) -> str:
    return case.partition("/")[0]


def test_every_operation_has_a_case_or_a_reason() -> None:
    names = {operation.name for operation in CATALOGUE}
    covered = {operation_of(case) for case in CASES}
    assert covered | set(EXCEPTIONS) == names
    assert not covered & set(EXCEPTIONS)


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire() as transport:
        yield transport


@pytest.fixture(scope="module")
def given(surface: Stack, wire: Wire) -> Iterator[dict[str, Given]]:
    """By style."""
    with httpx2.Client(transport=wire, timeout=30) as http:
        yield {style: Given(client(surface.host.base_url, surface.key(), http)) for style, client in STYLES.items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's own, of assistants and legacy methods
@pytest.mark.parametrize("case", CASES)
def test_the_sdk_gets_its_answer(
    surface: Stack, kind: UpstreamKind, wire: Wire, given: dict[str, Given], case: str
) -> None:
    operation = next(each for each in CATALOGUE if each.name == operation_of(case))
    for style in styles_for(kind, case, operation):
        surface.simulator.clear_account()
        wire.seen.clear()
        if (kind, operation.name) in NOT_THERE:
            with pytest.raises(openai.NotFoundError):
                CASES[case](given[style])
            continue
        assert CASES[case](given[style]), style
        assert operation.local or operation.name in called(surface.simulator, kind), style
        assert_same_bytes(wire.seen, surface.simulator.calls())


def assert_same_bytes(seen: list[Seen], served: list[Entry]) -> None:
    """Each answer has the upstream's bytes, and each request had the client's, but for what had to be rewritten."""
    forwarded = [each for each in seen if not route_of(each).operation.local]
    assert len(forwarded) == len(served)
    for each, entry in zip(forwarded, served, strict=True):
        place = each.request.url.path
        asked = b'"stream":true' in each.request.content and route_of(each).operation.usage_chunk
        names_no_model = route_of(each).operation.name == "moderations" and b'"model"' not in each.request.content
        assert asked or hashlib.sha256(each.response).hexdigest() == entry.response_sha256, f"the answer of {place}"
        assert asked or names_no_model or each.body_sha256 == entry.body_sha256, f"the request to {place}"


def route_of(seen: Seen) -> Route:
    return match(seen.request.method, seen.request.url.raw_path.decode().partition("?")[0])


def styles_for(kind: UpstreamKind, case: str, operation: Operation) -> list[str]:
    """Every style, for what is in a deployment on Azure: there the path and the model are translated.

    What is not has the same path behind any prefix. Each case has all styles and all kinds all the same, but not every
    pair of them, and the next case has other pairs.
    """
    styles = list(STYLES)
    if operation.names_model:
        return styles
    return [styles[(list(CASES).index(case) + list(UpstreamKind).index(kind)) % len(styles)]]


def called(simulator: Simulator, kind: UpstreamKind) -> set[str]:
    """The operations that the upstream was asked for, every one in the words of its kind."""
    entries = simulator.calls()
    assert {entry.family for entry in entries} <= {kind.value}
    return {match(entry.method, entry.path.removeprefix("/r/default")).operation.name for entry in entries}
