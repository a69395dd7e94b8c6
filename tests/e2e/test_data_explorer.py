"""From the openai SDK to Data Explorer, through the running app."""

import asyncio
from typing import Any

import httpx
import openai
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from tests.cluster import cluster
from tests.stack import ADMIN_KEY, running


async def ask(client: openai.AsyncOpenAI, text: str, *, stream: bool) -> None:
    messages: Any = [{"role": "user", "content": text}]
    answer: Any = await client.chat.completions.create(model="gpt-4o", messages=messages, stream=stream)
    if stream:
        async for _ in answer:
            pass


@pytest.mark.parametrize("ingestion", ["queued", "managed"])
async def test_calls_reach_data_explorer_also_those_made_while_it_was_away(
    ingestion: str, azurite: Azurite, simulator: Simulator, prefix: str
) -> None:
    """Guards that a sink that is down loses nothing: its work waits and is delivered."""
    async with cluster(azurite.connection_string) as kusto:
        settings: Any = {"TOLLGATE_KUSTO_URI": kusto.url, "TOLLGATE_KUSTO_INGESTION": ingestion}
        async with running(azurite, simulator, prefix, **settings) as stack:
            base_url = f"{stack.host.base_url}/v1"
            async with openai.AsyncOpenAI(api_key=stack.key(), base_url=base_url, max_retries=0) as client:
                kusto.faults.unavailable = True
                await ask(client, "while it was away", stream=True)
                await stack.usage_when(lambda report: report["total"]["completed"] == 1)
                kusto.faults.unavailable = False
                await ask(client, "once it was back", stream=False)
            await asyncio.wait_for(kusto.stored("CallRecords", 2), 60)
            report = await stack.usage_when(lambda report: report["total"]["completed"] == 2)
        async with running(azurite, simulator, prefix, **settings, TOLLGATE_USAGE_FROM="data-explorer") as reader:
            async with httpx.AsyncClient(
                base_url=reader.host.base_url, timeout=60
            ) as http:  # the stand-in is no cluster
                answer = await http.get("/usage", headers={"api-key": ADMIN_KEY})
            assert answer.json()["total"] == report["total"], "it does not matter where usage is read from"
        rows = kusto.query(
            "Calls | project OpenedAt, Asked = tostring(RequestMessages[0].content) | order by OpenedAt asc"
        )
        (sums,) = kusto.query("Calls | summarize Input = sum(InputTokens), Output = sum(OutputTokens)")
    assert [row["Asked"] for row in rows] == ["while it was away", "once it was back"]
    assert (sums["Input"], sums["Output"]) == (report["total"]["input_tokens"], report["total"]["output_tokens"])
