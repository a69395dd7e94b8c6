"""Who is let in, to what, and how the two families say no."""

import openai
import pytest
from openai import AsyncAzureOpenAI

from devtools.simulator import Simulator
from tests.simulator.test_chat import PROMPT

CHAT = {"messages": PROMPT, "model": "gpt-4o"}
DATED = "/openai/deployments/gpt-4o/chat/completions"

REFUSALS = {
    "Azure without api-version": (DATED, CHAT, 404, "404"),
    "Azure with a version that is none": (f"{DATED}?api-version=latest", CHAT, 400, "BadRequest"),
    "dated URL without a deployment": ("/openai/chat/completions?api-version=2024-10-21", CHAT, 404, "404"),
    "the Responses API is of no deployment": (
        "/openai/deployments/gpt-4o/responses?api-version=2025-04-01-preview",
        {"input": "x"},
        404,
        "404",
    ),
    "no such operation at OpenAI": ("/v1/nothing", CHAT, 404, None),
    "no such operation on Azure": ("/openai/v1/nothing", CHAT, 404, "404"),
    "missing deployment": (
        "/openai/deployments/missing-model/embeddings?api-version=2024-10-21",
        {"input": "x"},
        404,
        "DeploymentNotFound",
    ),
    "missing model": ("/v1/embeddings", {"input": "x", "model": "missing-model"}, 404, "model_not_found"),
    "no messages": ("/v1/chat/completions", {"model": "gpt-4o"}, 400, "missing_required_parameter"),
    "no model": ("/v1/chat/completions", {"messages": PROMPT}, 400, None),
    "usage asked for without a stream": (
        "/v1/chat/completions",
        CHAT | {"stream_options": {"include_usage": True}},
        400,
        None,
    ),
    "usage asked for before Azure knew it": (
        f"{DATED}?api-version=2024-06-01",
        CHAT | {"stream": True, "stream_options": {"include_usage": True}},
        400,
        None,
    ),
    "usage asked of the Responses API": (
        "/v1/responses",
        {"model": "gpt-4o", "input": "x", "stream": True, "stream_options": {"include_usage": True}},
        400,
        None,
    ),
    "not an object": ("/v1/chat/completions", [], 400, None),
}


@pytest.mark.parametrize(("url", "body", "status", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_refused(wire, url, body, status, code):
    answer = await wire.post(url, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


async def test_usage_is_streamed_from_the_first_version_that_knows_it(simulator):
    async with AsyncAzureOpenAI(
        azure_endpoint=simulator.base_url, api_key="k", api_version="2024-09-01-preview", max_retries=0
    ) as sdk:
        stream = await sdk.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
        assert [chunk.usage async for chunk in stream][-1].total_tokens > 0


async def test_a_key_is_needed_and_may_have_to_be_the_right_one(wire):
    with Simulator.start(keys=frozenset({"right"})) as locked:
        for key, status in (("right", 200), ("wrong", 401), ("", 401)):
            for headers in ({"api-key": key}, {"authorization": f"Bearer {key}".strip()}):
                url = f"{locked.base_url}{DATED}?api-version=2024-10-21"
                assert (await wire.post(url, json=CHAT, headers={"authorization": "", **headers})).status_code == status


async def test_openai_takes_no_api_key_header(wire):
    answer = await wire.post("/v1/chat/completions", json=CHAT, headers={"authorization": "", "api-key": "k"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    answer = await wire.post("/openai/v1/chat/completions", json=CHAT, headers={"authorization": "", "api-key": "k"})
    assert answer.status_code == 200


async def test_each_family_has_its_headers(client, azure):
    mine = (await client.chat.completions.with_raw_response.create(**CHAT)).headers
    theirs = (
        await azure.chat.completions.with_raw_response.create(**CHAT, extra_headers={"x-ms-client-request-id": "c1"})
    ).headers
    shared = {"x-request-id", "x-ratelimit-remaining-tokens", "x-ratelimit-limit-requests", "x-ratelimit-reset-tokens"}
    assert shared | {"openai-processing-ms", "openai-version", "openai-organization"} <= set(mine)
    assert shared | {"apim-request-id", "azureml-model-session", "x-ms-rai-invoked"} <= set(theirs)
    assert theirs["x-ms-region"] == "eastus"
    assert theirs["x-ms-deployment-name"] == "gpt-4o"
    assert theirs["x-ms-client-request-id"] == "c1"
    assert "apim-request-id" not in mine


async def test_models_are_listed_and_retrieved(client, azure):
    for sdk in (client, azure):
        assert "gpt-4o" in [model.id async for model in sdk.models.list()]
        assert (await sdk.models.retrieve("gpt-4o")).id == "gpt-4o"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("missing-model")


async def test_another_seed_gives_other_answers(client, simulator):
    mine = await client.chat.completions.create(**CHAT)
    with Simulator.start(seed=8) as other:
        theirs = await client.with_options(base_url=f"{other.base_url}/v1").chat.completions.create(**CHAT)
    assert mine.choices[0].message.content != theirs.choices[0].message.content
