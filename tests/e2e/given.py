"""What calls are made of: bodies, and objects made through the SDK."""

import json
from functools import cached_property
from typing import Any

MESSAGES: Any = [{"role": "user", "content": "Where does the ferry land?"}]
CHAT: Any = {"model": "gpt-4o", "messages": MESSAGES}
ITEM: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
EVAL: Any = {"data_source_config": {"type": "custom", "item_schema": {}}, "testing_criteria": []}
EVAL_RUN: Any = {"type": "jsonl", "source": {"type": "file_content", "content": []}}
SOUND = ("said.wav", b"RIFF" + b"\x00" * 40_000)
PICTURE = ("seen.png", b"\x89PNG\r\n\x1a\n" + b"\x00" * 64)
TEXT = "Zürich \u2028 東京\r\n"
OVER = ("cancelled", "completed")  # whichever came first
LINE = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}


class Given:
    """One client of the SDK, and the objects that cases share; what a case destroys it makes anew."""

    def __init__(self, sdk: Any) -> None:
        self.sdk = sdk

    def new_file(self) -> Any:
        return self.sdk.files.create(file=("text.txt", TEXT.encode()), purpose="assistants")

    def new_response(self, **options: Any) -> Any:
        return self.sdk.responses.create(model="gpt-4o", input="hello", **options)

    def new_batch(self) -> Any:
        file = self.sdk.files.create(file=("in.jsonl", json.dumps(LINE).encode()), purpose="batch")
        return self.sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")

    def new_upload(self) -> Any:
        return self.sdk.uploads.create(bytes=6, filename="u.txt", mime_type="text/plain", purpose="assistants")

    def new_part(self, upload: Any, data: bytes) -> Any:
        return self.sdk.uploads.parts.create(upload.id, data=data)

    def new_job(self) -> Any:
        return self.sdk.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=self.file.id)

    def new_store(self) -> Any:
        return self.sdk.vector_stores.create(name="papers")

    def new_store_file(self) -> Any:
        return self.sdk.vector_stores.files.create(self.store.id, file_id=self.new_file().id)

    def new_file_batch(self) -> Any:
        return self.sdk.vector_stores.file_batches.create(self.store.id, file_ids=[self.file.id])

    def new_container(self) -> Any:
        return self.sdk.containers.create(name="box")

    def new_container_file(self) -> Any:
        return self.sdk.containers.files.create(self.container.id, file=("c.bin", TEXT.encode()))

    def new_eval(self) -> Any:
        return self.sdk.evals.create(**EVAL)

    def new_eval_run(self) -> Any:
        return self.sdk.evals.runs.create(self.eval.id, data_source=EVAL_RUN)

    def new_conversation(self) -> Any:
        return self.sdk.conversations.create(metadata={"who": "me"})

    def new_item(self) -> Any:
        return self.sdk.conversations.items.create(self.conversation.id, items=[ITEM]).data[0]

    def new_assistant(self) -> Any:
        return self.sdk.beta.assistants.create(model="gpt-4o", name="guide")

    def new_thread(self) -> Any:
        return self.sdk.beta.threads.create(metadata={"who": "me"})

    def new_message(self) -> Any:
        return self.sdk.beta.threads.messages.create(self.thread.id, role="user", content="hello")

    def new_run(self) -> Any:
        return self.sdk.beta.threads.runs.create(self.thread.id, assistant_id=self.assistant.id)

    def new_completion(self) -> Any:
        return self.sdk.chat.completions.create(**CHAT, store=True, metadata={"a": "b"})

    def new_video(self) -> Any:
        return self.sdk.videos.create(prompt="a ferry", model="sora-2")

    def new_skill(self) -> Any:
        return self.sdk.skills.create(files=("SKILL.md", b"# A skill"))

    def new_version(self) -> Any:
        return self.sdk.skills.versions.create(self.skill.id, files=("SKILL.md", b"# A skill"))

    file = cached_property(new_file)
    video = cached_property(new_video)
    skill = cached_property(new_skill)
    version = cached_property(new_version)
    response = cached_property(new_response)
    store = cached_property(new_store)
    store_file = cached_property(new_store_file)
    file_batch = cached_property(new_file_batch)
    container = cached_property(new_container)
    container_file = cached_property(new_container_file)
    eval = cached_property(new_eval)
    eval_run = cached_property(new_eval_run)
    conversation = cached_property(new_conversation)
    item = cached_property(new_item)
    assistant = cached_property(new_assistant)
    thread = cached_property(new_thread)
    message = cached_property(new_message)
    run = cached_property(new_run)
    completion = cached_property(new_completion)
    job = cached_property(new_job)
    batch = cached_property(new_batch)
    upload = cached_property(new_upload)
