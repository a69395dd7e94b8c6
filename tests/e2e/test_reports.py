"""What finance and auditors read, through the running app: usage in every shape."""

import csv
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import openai
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from tests.stack import ADMIN_KEY, Stack, running

CALLS = {"team-a": 3, "team-b": 2}
QUESTION = "=HYPERLINK(0) or a question?"


@dataclass(frozen=True)
class Reported:
    """An app that has served CALLS, and rolled them up."""

    stack: Stack
    total: dict[str, Any]

    async def get(self, path: str, key: str = ADMIN_KEY, accept: str = "*/*", **parameters: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}", "accept": accept}
        async with httpx.AsyncClient(base_url=self.stack.host.base_url) as http:
            return await http.get(path, params=parameters, headers=headers)


@pytest.fixture(scope="module")
async def reported(anyio_backend: str, azurite: Azurite, simulator: Simulator) -> AsyncIterator[Reported]:
    async with running(azurite, simulator, "reports") as stack:
        for client_id, calls in CALLS.items():
            base_url = f"{stack.host.base_url}/v1"
            async with openai.AsyncOpenAI(api_key=stack.key(client_id), base_url=base_url) as client:
                for number in range(calls):
                    messages: Any = [
                        {"role": "system", "content": "Be brief."},
                        {"role": "user", "content": f"{QUESTION} {number}"},
                    ]
                    await client.chat.completions.create(model="gpt-4o", messages=messages, user="ann")
        report = await stack.usage_when(
            lambda report: report["total"]["completed"] == sum(CALLS.values()), granularity="day"
        )
        yield Reported(stack, report["total"])


async def test_every_granularity_has_the_same_figures(reported: Reported) -> None:
    """Guards that rows of days and months are the sums of their hours."""
    for granularity in ("hour", "day", "month"):
        report = (await reported.get("/usage", granularity=granularity)).json()
        assert report["total"] == reported.total
    month = f"{datetime.now(UTC):%Y-%m}"
    whole = (await reported.get("/usage", start=f"{month}-01", end="9999-01-01")).json()
    assert whole["total"] == reported.total
    assert (whole["total"]["provider"], whole["total"]["closed"]) == (5, 5)
    assert whole["total"]["duration_ms"]["p50"] >= 0


async def test_usage_as_a_table_has_the_figures_of_the_report(reported: Reported) -> None:
    table = await reported.get("/usage", accept="text/csv", group_by="client_id")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(table.text, newline="")))
    report = (await reported.get("/usage", group_by="client_id")).json()
    assert [(row["client_id"], int(row["calls"])) for row in rows] == list(CALLS.items())
    assert [int(row["input_tokens"]) for row in rows] == [line["input_tokens"] for line in report["data"]]
    assert [row["currency"] for row in rows] == [report["currency"]] * 2


async def test_a_client_sees_its_own_usage_only(reported: Reported) -> None:
    key = reported.stack.key("team-b")
    assert (await reported.get("/usage", key)).json()["total"]["calls"] == CALLS["team-b"]
    assert (await reported.get("/usage", key, client_id="team-a")).json()["total"]["calls"] == 0
    assert "team-a" not in (await reported.get("/usage", key, accept="text/csv")).text


async def test_a_filter_that_is_misspelt_is_refused(reported: Reported) -> None:
    answer = await reported.get("/usage", cliend_id="team-a")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "cliend_id")
