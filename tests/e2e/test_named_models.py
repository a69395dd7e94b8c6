"""Models that are named inside runs, evaluations and batch files are checked, and sent on under the upstream's own names.

`team-a` may use gpt-4o, which is in the east as prod-4o and in the west as west-4o, and o4-mini, which is in the west only.
"""

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from shared.core.call_record import Outcome
from tests.e2e.conftest import SELDOM
from tests.e2e.sdk import STYLES
from tests.stack import CLIENTS, Stack, running, upstream_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's own, of assistants

HELD_BYTES = 20_000


@pytest.fixture(scope="module")
async def named(anyio_backend: str, azurite: Azurite, simulator: Simulator) -> AsyncIterator[Stack]:
    placed = (
        ("gpt-4o", "east", "prod-4o"),
        ("gpt-4o", "west", "west-4o"),
        ("o4-mini", "west", ""),
        ("gpt-5", "east", ""),
    )
    document: dict[str, Any] = {
        "upstreams": [upstream_of(simulator, name, "azure-v1", name) for name in ("east", "west")],
        "deployments": [
            {"name": f"{model}-{place}", "model": model, "upstream": place, "deployment": name, "priority": priority}
            for priority, (model, place, name) in enumerate(placed)
        ],
        "defaults": {"models": ["gpt-4o", "o4-mini"]},
    }
    settings = {"TOLLGATE_ROLLUP_SCHEDULE": SELDOM, "TOLLGATE_REPLAY_BYTES": str(HELD_BYTES)}
    async with running(azurite, simulator, "named", document, **settings) as started:
        yield started


@pytest.fixture
def sdk(named: Stack) -> Iterator[Any]:
    with STYLES["OpenAI /v1"](named.host.base_url, named.key(CLIENTS[0]), None) as client:
        named.simulator.clear_account()
        yield client


def lines(*models: str, padding: int = 0) -> tuple[str, bytes]:
    messages = [{"role": "user", "content": "hi" + "x" * padding}]
    each = (
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": messages},
        }
        for number, model in enumerate(models)
    )
    return "in.jsonl", "\n".join(map(json.dumps, each)).encode()


def test_a_batch_file_reaches_the_upstream_in_its_own_names(sdk: Any) -> None:
    file = sdk.files.create(file=lines("gpt-4o", "gpt-4o"), purpose="batch")
    kept = sdk.files.content(file.id).content.splitlines()
    assert [json.loads(line)["body"]["model"] for line in kept] == ["prod-4o", "prod-4o"]
    batch = sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    deadline = time.monotonic() + 10
    while batch.status != "completed" and time.monotonic() < deadline:
        batch = sdk.batches.retrieve(batch.id)
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 0)


def test_a_batch_file_goes_where_all_its_models_are(sdk: Any, named: Stack) -> None:
    file = sdk.files.create(file=lines("o4-mini", "gpt-4o"), purpose="batch")
    kept = sdk.files.content(file.id).content.splitlines()
    assert [json.loads(line)["body"]["model"] for line in kept] == ["o4-mini", "west-4o"]
    assert {entry.resource for entry in named.simulator.calls()} == {"west"}


@pytest.mark.parametrize("padding", [0, HELD_BYTES], ids=["held", "passes"])
def test_a_batch_file_with_a_model_that_the_client_may_not_use_is_refused(sdk: Any, named: Stack, padding: int) -> None:
    with pytest.raises(openai.NotFoundError, match="'gpt-5' does not exist"):
        sdk.files.create(file=lines("gpt-4o" if not padding else "gpt-5", "gpt-5", padding=padding), purpose="batch")
    assert not [entry for entry in named.simulator.calls() if entry.completed], "nothing was kept"


async def test_a_file_that_is_broken_off_is_on_record_with_who_was_asked(named: Stack) -> None:
    name, content = lines("gpt-5", padding=HELD_BYTES)
    async with httpx.AsyncClient(base_url=named.host.base_url, headers={"api-key": named.key()}) as http:
        answer = await http.post("/v1/files", files={"file": (name, content)}, data={"purpose": "batch"})
    kept = await named.archived(answer.headers["x-tollgate-call-id"])
    record = kept.record
    assert (answer.status_code, record.status, record.outcome) == (404, 404, Outcome.REJECTED)
    assert [(each.upstream, each.status, each.error) for each in record.attempts] == [("east", None, "model_not_found")]
    assert b"gpt-5" not in kept.request, "what was not passed on"


def test_a_file_too_large_to_be_changed_says_what_to_do(sdk: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="split it"):
        sdk.files.create(file=lines("gpt-4o", padding=HELD_BYTES), purpose="batch")


@pytest.mark.parametrize("padding", [0, 2 * HELD_BYTES], ids=["held", "passes"])
def test_a_batch_file_names_no_object_of_another_client(sdk: Any, named: Stack, padding: int) -> None:
    """And one that names the client's own goes where that is."""
    theirs = sdk.responses.create(model="o4-mini", input="a secret")
    body = {"model": "o4-mini", "previous_response_id": theirs.id, "input": "x" * padding}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/responses", "body": body}
    file: Any = ("in.jsonl", json.dumps(line).encode())
    with STYLES["OpenAI /v1"](named.host.base_url, named.key(CLIENTS[1]), None) as other:
        named.simulator.clear_account()
        with pytest.raises(openai.NotFoundError, match=theirs.id):
            other.files.create(file=file, purpose="batch")
        assert not [entry for entry in named.simulator.calls() if entry.completed], "nothing was kept"
    if not padding:
        named.simulator.clear_account()
        assert sdk.files.create(file=file, purpose="batch").id
        assert {entry.resource for entry in named.simulator.calls()} == {"west"}


def test_a_batch_file_does_not_come_in_parts_where_its_models_have_to_be_checked(sdk: Any, named: Stack) -> None:
    with pytest.raises(openai.BadRequestError, match="in one piece"):
        sdk.uploads.create(bytes=6, filename="u.jsonl", mime_type="application/jsonl", purpose="batch")
    assert not named.simulator.calls()
    assert sdk.uploads.create(bytes=6, filename="u.txt", mime_type="text/plain", purpose="assistants").id


def test_evaluations_are_graded_by_the_upstreams_own_names(sdk: Any, named: Stack) -> None:
    grader: Any = {"type": "score_model", "name": "g", "model": "gpt-4o", "input": []}
    source: Any = {"type": "custom", "item_schema": {}}
    made = sdk.evals.create(data_source_config=source, testing_criteria=[grader])
    assert made.testing_criteria[0].model == "prod-4o"
    run: Any = {"type": "completions", "model": "gpt-4o", "source": {"type": "file_content", "content": []}}
    assert sdk.evals.runs.create(made.id, data_source=run).data_source.model == "prod-4o"
    before = len(named.simulator.calls())
    with pytest.raises(openai.NotFoundError, match="'gpt-5'"):
        sdk.evals.create(data_source_config=source, testing_criteria=[grader | {"model": "gpt-5"}])
    with pytest.raises(openai.NotFoundError, match="'gpt-5'"):
        sdk.evals.runs.create(made.id, data_source=run | {"model": "gpt-5"})
    with pytest.raises(openai.BadRequestError, match="has all the models"):
        sdk.evals.runs.create(made.id, data_source=run | {"model": "o4-mini"})  # the evaluation is in the east
    assert len(named.simulator.calls()) == before


def test_runs_and_sessions_name_no_model_that_the_client_may_not_use(sdk: Any, named: Stack) -> None:
    assistant = sdk.beta.assistants.create(model="gpt-4o", name="guide")
    thread = sdk.beta.threads.create()
    run = sdk.beta.threads.runs.create(thread.id, assistant_id=assistant.id, model="gpt-4o")
    assert run.model == "prod-4o"
    before = len(named.simulator.calls())
    for refused in (
        lambda: sdk.beta.threads.runs.create(thread.id, assistant_id=assistant.id, model="gpt-5"),
        lambda: sdk.beta.threads.create_and_run(assistant_id=assistant.id, thread={}, model="gpt-5"),
        lambda: sdk.beta.assistants.update(assistant.id, model="gpt-5"),
        lambda: sdk.realtime.client_secrets.create(session={"type": "realtime", "model": "gpt-5"}),
    ):
        with pytest.raises(openai.NotFoundError, match="'gpt-5'"):
            refused()
    assert len(named.simulator.calls()) == before
