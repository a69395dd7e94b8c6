"""Chat completions, legacy completions and embeddings, as the official SDK sees them."""

import json

import openai
import pytest

PROMPT = [{"role": "user", "content": "Say something about rivers."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "toll",
        "parameters": {"type": "object", "properties": {"gate": {"type": "string"}, "axles": {"type": "integer"}}},
    },
}


async def collect(stream):
    """Returns a stream's chunks, its text and its usages."""
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    return chunks, text, [chunk.usage for chunk in chunks if chunk.usage is not None]


async def test_every_url_family_and_client_gets_the_same_answer(client, azure, sync_client, sync_azure):
    answers = [
        await client.chat.completions.create(model="gpt-4o", messages=PROMPT),
        await azure.chat.completions.create(model="gpt-4o", messages=PROMPT),
        sync_client.chat.completions.create(model="gpt-4o", messages=PROMPT),
        sync_azure.chat.completions.create(model="gpt-4o", messages=PROMPT),
    ]

    assert len({answer.choices[0].message.content for answer in answers}) == 1
    assert len({answer.usage.model_dump_json() for answer in answers}) == 1
    assert {answer.model for answer in answers} == {"gpt-4o-2024-11-20"}
    assert len({answer.id for answer in answers}) == 4


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5-mini", "o3"])
async def test_a_stream_says_what_the_whole_answer_says_and_costs_the_same(client, azure, model):
    whole = await client.chat.completions.create(model=model, messages=PROMPT)
    for sdk in (client, azure):
        stream = await sdk.chat.completions.create(
            model=model, messages=PROMPT, stream=True, stream_options={"include_usage": True}
        )
        chunks, text, usages = await collect(stream)
        assert text == whole.choices[0].message.content
        assert [usage.model_dump() for usage in usages] == [whole.usage.model_dump()]
        assert chunks[-1].choices == []
        assert chunks[-2].choices[0].finish_reason == "stop"


async def test_usage_is_streamed_only_when_asked_for(client, azure):
    for sdk in (client, azure):
        chunks, _, usages = await collect(
            await sdk.chat.completions.create(model="gpt-4o", messages=PROMPT, stream=True)
        )
        assert usages == []
        assert all("usage" not in chunk.model_fields_set for chunk in chunks)


def test_sync_streams_work_too(sync_client, sync_azure):
    for sdk in (sync_client, sync_azure):
        with sdk.chat.completions.create(model="gpt-4o-mini", messages=PROMPT, stream=True) as stream:
            assert len("".join(c.choices[0].delta.content or "" for c in stream if c.choices)) > 20


async def test_azure_annotates_with_its_content_filter_and_openai_does_not(client, azure):
    whole = await azure.chat.completions.create(model="gpt-4o", messages=PROMPT)
    assert whole.choices[0].content_filter_results["hate"] == {"filtered": False, "severity": "safe"}
    assert whole.prompt_filter_results[0]["prompt_index"] == 0
    chunks, _, _ = await collect(await azure.chat.completions.create(model="gpt-4o", messages=PROMPT, stream=True))
    assert chunks[0].choices == []
    assert chunks[0].prompt_filter_results
    plain = await client.chat.completions.create(model="gpt-4o", messages=PROMPT)
    assert "prompt_filter_results" not in plain.model_dump()


async def test_a_limit_cuts_the_answer_to_its_beginning(client):
    whole = await client.chat.completions.create(model="gpt-4o", messages=PROMPT)
    for name in ("max_tokens", "max_completion_tokens"):
        cut = await client.chat.completions.create(model="gpt-4o", messages=PROMPT, **{name: 9})
        assert cut.choices[0].finish_reason == "length"
        assert cut.usage.completion_tokens == 9
        assert whole.choices[0].message.content.startswith(cut.choices[0].message.content)


async def test_reasoning_counts_as_output_and_against_the_limit(client):
    whole = await client.chat.completions.create(model="o4-mini", messages=PROMPT)
    assert 0 < whole.usage.completion_tokens_details.reasoning_tokens < whole.usage.completion_tokens
    cut = await client.chat.completions.create(model="o4-mini", messages=PROMPT, max_completion_tokens=30)
    assert cut.usage.completion_tokens_details.reasoning_tokens == cut.usage.completion_tokens == 30
    assert cut.choices[0].message.content == ""


async def test_long_prompts_are_partly_cached(client):
    long = [{"role": "user", "content": "many words " * 1000}]
    usage = (await client.chat.completions.create(model="gpt-4o", messages=long)).usage
    assert 0 < usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens
    assert usage.prompt_tokens_details.cached_tokens % 128 == 0


async def test_several_choices_differ_and_are_all_billed(client):
    answer = await client.chat.completions.create(model="gpt-4o", messages=PROMPT, n=3, max_tokens=20)
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert answer.usage.completion_tokens == 60
    stream = await client.chat.completions.create(model="gpt-4o", messages=PROMPT, n=3, max_tokens=20, stream=True)
    texts = {0: "", 1: "", 2: ""}
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert list(texts.values()) == [choice.message.content for choice in answer.choices]


CASES = {
    "demanded by name": ({"type": "function", "function": {"name": "toll"}}, "Hello", "stop"),
    "any demanded": ("required", "Hello", "tool_calls"),
    "the prompt says so": ("auto", "Please call a tool.", "tool_calls"),
}


@pytest.mark.parametrize(("choice", "prompt", "finish"), CASES.values(), ids=CASES)
async def test_a_function_is_called_when(client, choice, prompt, finish):
    request = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": prompt}],
        "tools": [TOOL],
        "tool_choice": choice,
    }
    answer = (await client.chat.completions.create(**request)).choices[0]
    assert answer.finish_reason == finish
    assert answer.message.content is None
    assert answer.message.tool_calls[0].function.name == "toll"
    assert json.loads(answer.message.tool_calls[0].function.arguments) == {"gate": "Zürich", "axles": 7}
    async with client.chat.completions.stream(**request) as stream:
        final = (await stream.get_final_completion()).choices[0]
    assert final.message.tool_calls[0].function.arguments == answer.message.tool_calls[0].function.arguments


async def test_without_a_demand_no_function_is_called(client):
    answer = await client.chat.completions.create(model="gpt-4o", messages=PROMPT, tools=[TOOL])
    assert answer.choices[0].message.tool_calls is None


async def test_some_answers_hold_text_that_is_hard_to_carry(client):
    said = ""
    for number in range(24):
        messages = [{"role": "user", "content": f"prompt {number}"}]
        whole = (await client.chat.completions.create(model="gpt-4o", messages=messages)).choices[0].message.content
        _, text, _ = await collect(await client.chat.completions.create(model="gpt-4o", messages=messages, stream=True))
        assert text == whole
        said += whole
    assert {"\u2028", "🙂", "東"} <= set(said)


async def test_a_schema_is_kept(client):
    shape = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "tags": {"type": "array", "items": {"type": "number"}}},
    }
    answer = await client.chat.completions.create(
        model="gpt-4o",
        messages=PROMPT,
        response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": shape}},
    )
    assert json.loads(answer.choices[0].message.content) == {"city": "Zürich", "tags": [2.5]}


async def test_legacy_completions_answer_and_stream(client, azure):
    for sdk in (client, azure):
        whole = await sdk.completions.create(model="gpt-35-turbo", prompt="Once", max_tokens=12)
        stream = await sdk.completions.create(model="gpt-35-turbo", prompt="Once", max_tokens=12, stream=True)
        text = "".join([choice.text async for chunk in stream for choice in chunk.choices])
        assert whole.choices[0].text == text
        assert whole.object == "text_completion"
        assert whole.usage.completion_tokens == 12


async def test_a_stored_completion_can_be_read_again_on_its_resource_only(simulator, client):
    made = await client.chat.completions.create(model="gpt-4o", messages=PROMPT, store=True)
    assert (await client.chat.completions.retrieve(made.id)).choices[0] == made.choices[0]
    with pytest.raises(openai.NotFoundError):
        await client.with_options(base_url=simulator.url("other") + "/v1").chat.completions.retrieve(made.id)


async def test_embeddings_are_the_same_as_floats_and_as_base64(client, azure):
    texts = ["one", "two"]
    floats = await client.embeddings.create(model="text-embedding-3-small", input=texts, encoding_format="float")
    decoded = await azure.embeddings.create(model="text-embedding-3-small", input=texts)  # the SDK asks for base64
    assert [len(item.embedding) for item in floats.data] == [1536, 1536]
    assert floats.data[0].embedding == pytest.approx(decoded.data[0].embedding)
    assert floats.data[0].embedding != floats.data[1].embedding
    assert sum(value * value for value in floats.data[0].embedding) == pytest.approx(1, rel=1e-5)
    assert floats.usage.prompt_tokens == floats.usage.total_tokens == 2


@pytest.mark.parametrize(("given", "vectors"), [("one", 1), ([1, 2, 3], 1), ([[1, 2], [3]], 2), (["a", "b", "c"], 3)])
async def test_embeddings_take_texts_and_token_ids(client, given, vectors):
    made = await client.embeddings.create(model="text-embedding-3-large", input=given, dimensions=64)
    assert [len(item.embedding) for item in made.data] == [64] * vectors


async def test_a_test_may_say_how_long_the_answer_is(client):
    pace = {"x-simulator-pace": "answer_tokens=500"}
    for hint in ({"extra_headers": pace}, {"extra_query": pace}, {"metadata": pace}):
        answer = await client.chat.completions.create(model="gpt-4o", messages=PROMPT, **hint)
        assert answer.usage.completion_tokens == 500
