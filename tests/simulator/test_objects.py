"""Files, batch jobs and the objects that are only kept."""

import json

import anyio
import openai
import pytest

from tests.simulator.test_chat import PROMPT


async def done(client, batch):
    """Returns the batch once it has ended."""
    with anyio.fail_after(10):
        while batch.status not in ("completed", "cancelled"):
            await anyio.sleep(0.01)
            batch = await client.batches.retrieve(batch.id)
    return batch


async def test_a_file_comes_back_as_it_was_sent(client, azure, simulator):
    for sdk in (client, azure):
        data = b'{"a": 1}\r\n--not a boundary\r\n\x00\xff'
        made = await sdk.files.create(file=("data.jsonl", data), purpose="batch")
        assert (made.bytes, made.filename, made.purpose) == (len(data), "data.jsonl", "batch")
        assert (await sdk.files.content(made.id)).content == data
        assert made.id in [file.id async for file in sdk.files.list()]
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)  # that one is on Azure's resource
    await azure.files.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await azure.files.content(made.id)


async def test_a_batch_answers_its_lines_as_calls_would_be(client):
    bodies = {
        "chat": ("/v1/chat/completions", {"model": "gpt-4o", "messages": PROMPT}),
        "vector": ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "x"}),
        "think": ("/v1/responses", {"model": "o3", "input": "x"}),
        "wrong": ("/v1/chat/completions", {"model": "missing-model", "messages": PROMPT}),
    }
    lines = [{"custom_id": name, "method": "POST", "url": url, "body": body} for name, (url, body) in bodies.items()]
    file = await client.files.create(file=("in.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose="batch")
    batch = await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"who": "me"}
    )
    assert batch.status == "validating"

    batch = await done(client, batch)

    assert (batch.request_counts.completed, batch.request_counts.failed) == (3, 1)
    output = (await client.files.content(batch.output_file_id)).content.splitlines()  # of bytes: not at U+2028
    results = {result["custom_id"]: result["response"]["body"] for result in map(json.loads, output)}
    direct = await client.chat.completions.create(model="gpt-4o", messages=PROMPT)
    assert results["chat"]["usage"] == direct.usage.model_dump(exclude_unset=True)
    assert batch.usage.total_tokens == sum(body["usage"]["total_tokens"] for body in results.values())
    errors = json.loads((await client.files.content(batch.error_file_id)).text)
    assert (errors["custom_id"], errors["response"]["status_code"]) == ("wrong", 404)


async def test_a_batch_can_be_cancelled_and_listed(client):
    file = await client.files.create(file=("in.jsonl", b"{}"), purpose="batch")
    batch = await client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
    assert (await client.batches.cancel(batch.id)).status == "cancelled"
    assert batch.id in [found.id async for found in client.batches.list()]


async def test_a_batch_needs_a_file_of_the_same_resource(client, azure):
    file = await client.files.create(file=("in.jsonl", b"{}"), purpose="batch")
    with pytest.raises(openai.NotFoundError):
        await azure.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")


async def test_vector_stores_and_their_files_are_kept(client):
    store = await client.vector_stores.create(name="papers")
    file = await client.vector_stores.files.create(store.id, file_id="file-1")
    assert [found.id async for found in client.vector_stores.files.list(store.id)] == [file.id]
    assert (await client.vector_stores.update(store.id, name="books")).name == "books"
    assert (await client.vector_stores.delete(store.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.vector_stores.files.list(store.id)


async def test_fine_tuning_uploads_evals_and_conversations_are_kept(client):
    job = await client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file="file-1")
    assert (await client.fine_tuning.jobs.cancel(job.id)).status == "cancelled"
    upload = await client.uploads.create(bytes=3, filename="a", mime_type="text/plain", purpose="batch")
    part = await client.uploads.parts.create(upload.id, data=b"abc")
    assert (await client.uploads.complete(upload.id, part_ids=[part.id])).status == "completed"
    evaluation = await client.evals.create(
        data_source_config={"type": "custom", "item_schema": {}}, testing_criteria=[]
    )
    assert (await client.evals.retrieve(evaluation.id)).id == evaluation.id
    conversation = await client.conversations.create(metadata={"a": "b"})
    assert (await client.conversations.retrieve(conversation.id)).metadata == {"a": "b"}


async def test_assistants_and_threads_are_kept(wire):
    thread = (await wire.post("/openai/threads?api-version=2024-05-01-preview", json={})).json()
    url = f"/openai/threads/{thread['id']}/runs"
    run = (await wire.post(f"{url}?api-version=2024-05-01-preview", json={"assistant_id": "asst_1"})).json()
    assert run["usage"]["total_tokens"] == 30
    assert (await wire.get(f"{url}/{run['id']}?api-version=2024-05-01-preview")).json() == run
    assert (await wire.get("/openai/threads/thread_0/runs?api-version=2024-05-01-preview")).status_code == 404


async def test_lists_come_in_pages(client):
    made = [(await client.vector_stores.create(name=str(at))).id for at in range(5)]
    pages = [page async for page in (await client.vector_stores.list(limit=2, order="desc")).iter_pages()]
    assert [store.id for page in pages for store in page.data][:5] == made[::-1]
    assert all(len(page.data) <= 2 for page in pages)


async def test_what_is_made_of_kept_objects(client):
    """The calls that do more than keep: each answer holds what another call has put there."""
    text = await client.files.create(file=("a.txt", "Zürich".encode()), purpose="assistants")
    store = await client.vector_stores.create()
    await client.vector_stores.files.create(store.id, file_id=text.id)
    found = await client.vector_stores.search(store.id, query="where")
    assert [(hit.file_id, hit.content[0].text) for hit in found.data] == [(text.id, "Zürich")]

    upload = await client.uploads.create(bytes=6, filename="b", mime_type="text/plain", purpose="batch")
    parts = [(await client.uploads.parts.create(upload.id, data=data)).id for data in (b"def", b"abc")]
    whole = await client.uploads.complete(upload.id, part_ids=parts[::-1])
    assert (await client.files.content(whole.file.id)).content == b"abcdef"

    container = await client.containers.create(name="c")
    kept = await client.containers.files.create(container.id, file=("c.bin", b"\x00\xff"))
    assert (await client.containers.files.content.retrieve(kept.id, container_id=container.id)).content == b"\x00\xff"
