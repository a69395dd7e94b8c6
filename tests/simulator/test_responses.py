"""The Responses API, as the official SDK sees it."""

import json

import anyio
import openai
import pytest

from tests.simulator.test_chat import TOOL

ASK = {"model": "gpt-4o", "input": "Say something about rivers."}
REASON = {"model": "gpt-5", "input": "Say something about rivers."}


@pytest.mark.parametrize("request_", [ASK, REASON], ids=["plain", "reasoning"])
async def test_a_stream_ends_with_the_response_that_is_answered_whole(client, azure, request_):
    whole = await client.responses.create(**request_)
    for sdk in (client, azure):
        events = [event async for event in await sdk.responses.create(**request_, stream=True)]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
        assert events[-1].type == "response.completed"
        assert events[-1].response.output_text == whole.output_text
        assert (
            "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
        )
        assert events[-1].response.usage == whole.usage
    assert (whole.usage.output_tokens_details.reasoning_tokens > 0) == (request_ is REASON)


async def test_the_sdk_can_put_a_stream_together(client):
    async with client.responses.stream(**REASON) as stream:
        final = await stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.output_text


def test_sync_clients_work_too(sync_client, sync_azure):
    texts = {sdk.responses.create(**ASK).output_text for sdk in (sync_client, sync_azure)}
    assert len(texts) == 1


async def test_a_limit_makes_the_response_incomplete(client):
    cut = await client.responses.create(**ASK, max_output_tokens=9)
    assert (cut.status, cut.incomplete_details.reason, cut.usage.output_tokens) == (
        "incomplete",
        "max_output_tokens",
        9,
    )
    events = [event async for event in await client.responses.create(**ASK, max_output_tokens=9, stream=True)]
    assert events[-1].type == "response.incomplete"


async def test_a_function_is_called(client):
    tool = {"type": "function", **TOOL["function"]}
    made = await client.responses.create(**ASK, tools=[tool], tool_choice="required")
    assert json.loads(made.output[0].arguments) == {"gate": "Zürich", "axles": 7}
    async with client.responses.stream(**ASK, tools=[tool], tool_choice="required") as stream:
        assert (await stream.get_final_response()).output[0].arguments == made.output[0].arguments
    answered = await client.responses.create(
        model="gpt-4o",
        input=[{"type": "function_call_output", "call_id": made.output[0].call_id, "output": "2.50"}],
        previous_response_id=made.id,
        tools=[tool],
    )
    assert answered.output[0].type == "message"


async def test_a_response_is_kept_until_it_is_deleted(client):
    made = await client.responses.create(**ASK)
    assert await client.responses.retrieve(made.id) == made
    items = [item async for item in await client.responses.input_items.list(made.id)]
    assert items[0].content == ASK["input"]
    replayed = [event async for event in await client.responses.retrieve(made.id, stream=True, starting_after=3)]
    assert replayed[0].sequence_number == 4
    assert replayed[-1].response == made
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)


async def test_what_is_not_to_be_stored_is_not(client):
    made = await client.responses.create(**ASK, store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)


async def test_another_resource_knows_nothing_of_a_response(client, simulator):
    made = await client.responses.create(**ASK)
    elsewhere = client.with_options(base_url=f"{simulator.url('elsewhere')}/v1")
    with pytest.raises(openai.NotFoundError):
        await elsewhere.responses.retrieve(made.id)
    with pytest.raises(openai.NotFoundError, match="Previous response"):
        await elsewhere.responses.create(**ASK, previous_response_id=made.id)
    assert (await client.responses.create(**ASK, previous_response_id=made.id)).previous_response_id == made.id


async def test_a_background_response_comes_about_and_is_billed_to_its_creation(client, simulator):
    made = await client.responses.create(**ASK, background=True)
    assert (made.status, made.usage) == ("queued", None)
    seen = [made.status]
    while seen[-1] != "completed":
        await anyio.sleep(0.01)
        seen.append((await client.responses.retrieve(made.id)).status)
    assert set(seen) <= {"queued", "in_progress", "completed"}
    usage = (await client.responses.retrieve(made.id)).usage
    entries = await simulator.settled()
    assert entries[0].usage == usage.model_dump(exclude_unset=True)
    assert all(entry.usage is None for entry in entries[1:])


async def test_a_cancelled_background_response_is_billed_in_part(client, simulator):
    made = await client.responses.create(**ASK, background=True)
    assert (await client.responses.cancel(made.id)).status == "cancelled"
    whole = await client.responses.create(**ASK)
    billed = (await simulator.settled())[0].usage
    assert billed["output_tokens"] < whole.usage.output_tokens
    with pytest.raises(openai.BadRequestError):
        await client.responses.cancel(whole.id)


async def test_a_conversation_must_be_of_the_same_resource(client, simulator):
    conversation = await client.conversations.create()
    assert (await client.responses.create(**ASK, conversation=conversation.id)).status == "completed"
    elsewhere = client.with_options(base_url=f"{simulator.url('elsewhere')}/v1")
    with pytest.raises(openai.NotFoundError):
        await elsewhere.responses.create(**ASK, conversation=conversation.id)
