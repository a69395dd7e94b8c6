"""What others score as zero: a batch and a background response, through the running app to the report of who made them."""

import json
from typing import Any

from openai import OpenAI

from tests.e2e.given import LINE
from tests.stack import Stack


async def test_batches_and_background_responses_are_in_the_usage_of_who_made_them(own_stack: Stack) -> None:
    """Guards that nothing is scored as zero, and nothing twice."""
    with OpenAI(base_url=f"{own_stack.host.base_url}/v1", api_key=own_stack.key("team-b")) as sdk:
        file = sdk.files.create(file=("in.jsonl", json.dumps(LINE).encode()), purpose="batch")
        sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        response = sdk.responses.create(model="gpt-4o", input="hello", background=True)

        def is_there(report: dict[str, Any]) -> bool:
            return {"batches", "responses"} <= {row["operation"] for row in report["data"] if row["input_tokens"]}

        report = await own_stack.usage_when(is_there, group_by="client_id,operation")
        ended = sdk.responses.retrieve(response.id)
    rows = {row["operation"]: row for row in report["data"]}
    assert ended.usage
    assert rows["responses"]["input_tokens"] == ended.usage.input_tokens
    assert rows["responses"]["output_tokens"] == ended.usage.output_tokens
    assert (rows["batches"]["client_id"], rows["batches"]["unpriced_calls"]) == ("team-b", 0)
    assert float(rows["batches"]["cost"]) > 0
    again = await own_stack.usage_when(
        lambda report: any(row["operation"] == "responses.retrieve" for row in report["data"]), group_by="operation"
    )
    (counted,) = [row for row in again["data"] if row["operation"] == "responses"]
    assert counted["input_tokens"] == ended.usage.input_tokens, "looking at it is free"
