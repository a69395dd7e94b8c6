"""A stored object is found by the client that made it, on the upstream that holds it, and by nobody else anywhere."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import httpx
import openai
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Fault, Simulator
from shared.core.api.operations import CATALOGUE, Operation
from tests.e2e.conftest import SELDOM
from tests.e2e.given import CHAT, TEXT, Given
from tests.e2e.sdk import STYLES
from tests.stack import API_VERSION, Stack, running, upstream_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's own, of assistants

PREFIXES = {"/v1/": "", "/openai/v1/": "", "/openai/": f"?api-version={API_VERSION}"}
"""The styles of URL as they are written, with the query that each needs."""


@pytest.fixture(scope="module")
async def divided(anyio_backend: str, azurite: Azurite) -> AsyncIterator[Stack]:
    """An app with two upstreams: gpt-4o is on both, and the east is preferred; gpt-4o-mini is in the west only."""
    with Simulator.start() as simulator:
        placed = {
            "east-4o": ("gpt-4o", "east", 0),
            "west-4o": ("gpt-4o", "west", 1),
            "mini": ("gpt-4o-mini", "west", 0),
            "video": ("sora-2", "east", 0),
        }
        document = {
            "upstreams": [upstream_of(simulator, name, "azure", name) for name in ("east", "west")],
            "deployments": [
                {"name": name, "model": model, "upstream": upstream, "priority": priority}
                for name, (model, upstream, priority) in placed.items()
            ],
        }
        settings = {"TOLLGATE_ROLLUP_SCHEDULE": SELDOM, "TOLLGATE_UNKNOWN_OPERATIONS": "forward"}
        async with running(azurite, simulator, "divided", document, **settings) as started:
            yield started


def client(stack: Stack, client_id: str, style: str = "OpenAI /v1") -> openai.OpenAI:
    return STYLES[style](stack.host.base_url, stack.key(client_id), None)


@pytest.fixture(scope="module")
def mine(divided: Stack) -> Iterator[Given]:
    """What team-a has, in the east."""
    with client(divided, "team-a") as sdk:
        yield Given(sdk)


@pytest.fixture(scope="module")
def other(divided: Stack) -> Iterator[httpx.Client]:
    """team-b, who knows ids of team-a's."""
    headers = {"authorization": f"Bearer {divided.key('team-b')}"}
    with httpx.Client(base_url=divided.host.base_url, headers=headers, timeout=30) as http:
        yield http


def refused(stack: Stack, answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error"), answer.text
    assert not stack.simulator.calls(), "it was forwarded"


WHOSE: Mapping[str, Callable[[Given], Any]] = {
    # What a path's placeholder stands for
    "assistant": lambda a: a.assistant,
    "batch": lambda a: a.batch,
    "completion": lambda a: a.completion,
    "container": lambda a: a.container,
    "conversation": lambda a: a.conversation,
    "eval": lambda a: a.eval,
    "file": lambda a: a.file,
    "item": lambda a: a.item,
    "job": lambda a: a.job,
    "message": lambda a: a.message,
    "response": lambda a: a.response,
    "run": lambda a: a.run,
    "skill": lambda a: a.skill,
    "step": lambda a: a.run,
    "store": lambda a: a.store,
    "thread": lambda a: a.thread,
    "upload": lambda a: a.upload,
    "version": lambda a: a.version,
    "video": lambda a: a.video,
}

WITH_IDS = {each.name: each for each in CATALOGUE if "{" in each.path and not (each.local or each.refusal)}


def path_of(operation: Operation, a: Given) -> str:
    parts = operation.path.split("/")
    return "/".join(WHOSE[part[1:-1]](a).id if part.startswith("{") else part for part in parts)


@pytest.mark.parametrize("operation", WITH_IDS.values(), ids=WITH_IDS.keys())
def test_anothers_object_is_not_found_by_its_path(
    divided: Stack, mine: Given, other: httpx.Client, operation: Operation
) -> None:
    path = path_of(operation, mine)
    divided.simulator.clear_account()
    for prefix, query in PREFIXES.items():
        refused(divided, other.request(operation.method, prefix + path + query))


@pytest.mark.parametrize("operation", WITH_IDS.values(), ids=WITH_IDS.keys())
def test_an_unknown_object_is_not_found(divided: Stack, other: httpx.Client, operation: Operation) -> None:
    path = "/".join("file-0123456789abcdef" if part.startswith("{") else part for part in operation.path.split("/"))
    divided.simulator.clear_account()
    for prefix, query in PREFIXES.items():
        refused(divided, other.request(operation.method, prefix + path + query))


UNKNOWN = ("files/{}/anything", "anything/{}", "anything/more/{}", "responses/{}/input_items/more")


@pytest.mark.parametrize("path", UNKNOWN)
def test_anothers_object_is_not_found_by_a_path_that_is_in_no_catalogue(
    divided: Stack, mine: Given, other: httpx.Client, path: str
) -> None:
    anothers = path.format(mine.file.id)
    divided.simulator.clear_account()
    refused(divided, other.get(f"/v1/{anothers}"))
    own = httpx.get(f"{divided.host.base_url}/v1/{anothers}", headers={"api-key": divided.key("team-a")})
    assert len(divided.simulator.calls()) == 1, own.text


def asks(**fields: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "input": "hello", **fields}


def says(part: dict[str, Any]) -> dict[str, Any]:
    return asks(input=[{"role": "user", "content": [part]}])


def refers(item_id: str) -> dict[str, Any]:
    return asks(input=[{"type": "item_reference", "id": item_id}])


IN_BODY: Mapping[str, tuple[str, Callable[[Given], Any]]] = {
    "previous response": ("responses", lambda a: asks(previous_response_id=a.response.id)),
    "conversation": ("responses", lambda a: asks(conversation=a.conversation.id)),
    "conversation, as an object": ("responses", lambda a: asks(conversation={"id": a.conversation.id})),
    "file to read": ("responses", lambda a: says({"type": "input_file", "file_id": a.file.id})),
    "picture to see": ("responses", lambda a: says({"type": "input_image", "file_id": a.file.id})),
    "store to search": (
        "responses",
        lambda a: asks(tools=[{"type": "file_search", "vector_store_ids": [a.store.id]}]),
    ),
    "container to compute in": (
        "responses",
        lambda a: asks(tools=[{"type": "code_interpreter", "container": a.container.id}]),
    ),
    "files to compute with": (
        "responses",
        lambda a: asks(tools=[{"type": "code_interpreter", "container": {"type": "auto", "file_ids": [a.file.id]}}]),
    ),
    "item of a response": ("responses", lambda a: refers(a.response.output[0].id)),
    "item of a response, without its type": ("responses", lambda a: asks(input=[{"id": a.response.output[0].id}])),
    "item of a response, whole": ("responses", lambda a: asks(input=[a.response.output[0].to_dict()])),
    "item of a response, by another type": (
        "responses",
        lambda a: asks(input=[{"type": "reasoning", "summary": [], "id": a.response.output[0].id}]),
    ),
    "item of a conversation": ("responses", lambda a: refers(a.item.id)),
    "item to approve": (
        "responses",
        lambda a: asks(
            input=[
                {"type": "mcp_approval_response", "approve": True, "approval_request_id": a.response.output[0].id},
            ]
        ),
    ),
    "item to compact": ("responses/compact", lambda a: refers(a.response.output[0].id)),
    "item to count": ("responses/input_tokens", lambda a: refers(a.response.output[0].id)),
    "item for a conversation": (
        "conversations",
        lambda a: {"items": [{"type": "item_reference", "id": a.response.output[0].id}]},
    ),
    "response to compact": ("responses/compact", lambda a: asks(previous_response_id=a.response.id)),
    "response to count": ("responses/input_tokens", lambda a: asks(previous_response_id=a.response.id)),
    "file in a chat": (
        "chat/completions",
        lambda a: {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": a.file.id}}]}],
        },
    ),
    "batch input": ("batches", lambda a: {"input_file_id": a.file.id, "endpoint": "/v1/responses"}),
    "training file": ("fine_tuning/jobs", lambda a: {"model": "gpt-4o-mini", "training_file": a.file.id}),
    "files of a store": ("vector_stores", lambda a: {"file_ids": [a.file.id]}),
    "files of a container": ("containers", lambda a: {"name": "c", "file_ids": [a.file.id]}),
    "files of an assistant": (
        "assistants",
        lambda a: {"model": "gpt-4o", "tool_resources": {"code_interpreter": {"file_ids": [a.file.id]}}},
    ),
    "attachment of a thread": (
        "threads",
        lambda a: {"messages": [{"role": "user", "content": "x", "attachments": [{"file_id": a.file.id}]}]},
    ),
    "assistant to run": ("threads/runs", lambda a: {"assistant_id": a.assistant.id}),
    "unknown operation": ("anything", lambda a: {"what": [a.file.id]}),
}

SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "one letter escaped": lambda text: f"\\u{ord(text[0]):04x}{text[1:]}",
    "all escaped": lambda text: "".join(f"\\u{ord(letter):04X}" for letter in text),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
@pytest.mark.parametrize(("path", "body"), IN_BODY.values(), ids=IN_BODY.keys())
def test_anothers_object_is_not_found_in_a_body(
    divided: Stack,
    mine: Given,
    other: httpx.Client,
    path: str,
    body: Callable[[Given], Any],
    spelling: Callable[[str], str],
) -> None:
    objects = (mine.assistant, mine.container, mine.conversation, mine.file, mine.item, mine.response, mine.store)
    text = json.dumps(body(mine))
    for each in (*objects, mine.response.output[0]):
        text = text.replace(each.id, spelling(each.id))
    divided.simulator.clear_account()
    refused(divided, other.post(f"/v1/{path}", content=text, headers={"content-type": "application/json"}))


def test_anothers_file_cannot_be_put_into_ones_own(divided: Stack, mine: Given, other: httpx.Client) -> None:
    with client(divided, "team-b") as sdk:
        own = Given(sdk)
        container, store, thread = own.container.id, own.store.id, own.thread.id
    file_id, assistant_id = mine.file.id, mine.assistant.id
    divided.simulator.clear_account()
    form = {"file_id": (None, file_id)}
    refused(divided, other.post(f"/v1/containers/{container}/files", files=form))
    refused(divided, other.post(f"/v1/containers/{container}/files", json={"file_id": file_id}))
    refused(divided, other.post(f"/v1/vector_stores/{store}/files", json={"file_id": file_id}))
    refused(divided, other.post(f"/v1/vector_stores/{store}/file_batches", json={"file_ids": [file_id]}))
    refused(divided, other.post(f"/v1/threads/{thread}/runs", json={"assistant_id": assistant_id}))


LISTS: Mapping[str, Callable[[Given], Any]] = {
    "assistants.list": lambda a: a.assistant,
    "batches.list": lambda a: a.batch,
    "chat.completions.list": lambda a: a.completion,
    "containers.list": lambda a: a.container,
    "evals.list": lambda a: a.eval,
    "files.list": lambda a: a.file,
    "fine_tuning.jobs.list": lambda a: a.job,
    "skills.list": lambda a: a.skill,
    "vector_stores.list": lambda a: a.store,
    "videos.list": lambda a: a.video,
}


def test_every_list_is_looked_at() -> None:
    assert set(LISTS) == {operation.name for operation in CATALOGUE if operation.lists}


@pytest.mark.parametrize("fault", ["", "gzip"], ids=["plain", "compressed"])
@pytest.mark.parametrize("name", LISTS)
def test_a_list_shows_only_ones_own(divided: Stack, mine: Given, other: httpx.Client, name: str, fault: str) -> None:
    operation = next(each for each in CATALOGUE if each.name == name)
    anothers = LISTS[name](mine).id
    with client(divided, "team-b") as sdk:
        own = LISTS[name](Given(sdk)).id
    for prefix, query in PREFIXES.items():
        answer = other.get(prefix + operation.path + query, headers={"x-simulator-fault": fault} if fault else {})
        listed = answer.json()
        assert own in [each["id"] for each in listed["data"]]
        assert anothers not in answer.text
        assert {listed["first_id"], listed["last_id"]} <= {each["id"] for each in listed["data"]}


def test_a_page_is_never_empty_while_there_is_more(divided: Stack, mine: Given) -> None:
    """Others' objects fill whole pages: they are passed over, up to the client's own."""
    with client(divided, "team-b") as sdk:
        own = Given(sdk).new_file()
        for _ in range(5):
            mine.new_file()
        for style in STYLES:
            with client(divided, "team-b", style) as again:
                assert own.id in [each.id for each in again.files.list(limit=2).data]
        assert {each.id for each in sdk.files.list(limit=2)} >= {own.id}, "the SDK goes from page to page"


def test_a_list_goes_over_all_upstreams_that_hold_something_of_the_clients(divided: Stack, mine: Given) -> None:
    east = mine.new_file()
    divided.simulator.set_fault("east:*", Fault(status=503, times=1))
    west = mine.new_file()
    ids = [each.id for each in mine.sdk.files.list(limit=3)]
    assert {east.id, west.id} <= set(ids)
    assert len(set(ids)) == len(ids), "none is shown twice"
    assert ids.index(east.id) < ids.index(west.id), "upstream by upstream"
    first = mine.sdk.files.list(limit=1)
    assert first.has_more


def test_a_list_that_breaks_off_is_an_error_and_no_shorter_list(divided: Stack, mine: Given) -> None:
    assert mine.file
    divided.simulator.set_fault("west:*", Fault(cut_after_bytes=20, times=1))
    with pytest.raises(openai.InternalServerError), client(divided, "team-a") as sdk:
        list(sdk.with_options(max_retries=0).files.list(limit=100))


def test_nobody_lists_from_what_is_not_ones_own(divided: Stack, mine: Given, other: httpx.Client) -> None:
    assert mine.file
    divided.simulator.clear_account()
    for cursor in (mine.file.id, "file-0123456789", "%0d%0a", "../files", "x" * 2000):
        refused(divided, other.get("/v1/files", params={"after": cursor}))


def test_a_list_that_cannot_be_read_is_not_shown(divided: Stack, mine: Given, other: httpx.Client) -> None:
    assert mine.file
    answer = other.get("/v1/files", headers={"x-simulator-fault": "malformed-json"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "server_error")


def test_calls_go_to_the_upstream_that_holds_the_object(divided: Stack, mine: Given) -> None:
    east = mine.file
    divided.simulator.set_fault("east:*", Fault(status=503, times=1))
    west = mine.new_file()
    places = [entry.resource for entry in divided.simulator.calls() if entry.path.endswith("/openai/files")]
    assert places[-2:] == ["east", "west"], "the second one was made in the west, because the east was away"
    for style in STYLES:
        with client(divided, "team-a", style) as sdk:
            for file, resource in ((east, "east"), (west, "west")):
                divided.simulator.clear_account()
                assert sdk.files.content(file.id).content == TEXT.encode()
                sdk.vector_stores.create(file_ids=[file.id])
                assert [entry.resource for entry in divided.simulator.calls()] == [resource] * 2


def test_a_response_is_gone_on_with_where_it_is(divided: Stack, mine: Given) -> None:
    west = mine.sdk.responses.create(model="gpt-4o-mini", input="hello")
    for style in STYLES:
        with client(divided, "team-a", style) as sdk:
            divided.simulator.clear_account()
            again = sdk.responses.create(model="gpt-4o", input="and?", previous_response_id=west.id)
            assert sdk.responses.retrieve(again.id).output_text == again.output_text
            assert [entry.resource for entry in divided.simulator.calls()] == ["west"] * 2


def test_a_model_that_is_not_where_the_response_is_cannot_go_on_with_it(divided: Stack, mine: Given) -> None:
    east = mine.response
    divided.simulator.clear_account()
    with pytest.raises(openai.BadRequestError, match="not deployed where"):
        mine.sdk.responses.create(model="gpt-4o-mini", input="and?", previous_response_id=east.id)
    assert not divided.simulator.calls()


def test_an_item_is_referred_to_where_it_is(divided: Stack, mine: Given) -> None:
    """The east is preferred and has the model too, but not what is referred to."""
    west = mine.sdk.responses.create(model="gpt-4o-mini", input="hello")
    [asked] = mine.sdk.responses.input_items.list(west.id).data
    for style in STYLES:
        with client(divided, "team-a", style) as sdk:
            for item in (west.output[0], asked):
                divided.simulator.clear_account()
                assert sdk.responses.create(**refers(item.id)).output_text
                assert [entry.resource for entry in divided.simulator.calls()] == ["west"]


def test_items_of_a_stream_are_the_clients(divided: Stack, mine: Given, other: httpx.Client) -> None:
    body: Any = {"model": "gpt-4o-mini", "input": "hello", "stream": True}
    events: list[Any] = list(mine.sdk.responses.create(**body))
    [item_id] = {event.item.id for event in events if event.type == "response.output_item.done"}
    divided.simulator.clear_account()
    refused(divided, other.post("/v1/responses", json=refers(item_id)))
    assert mine.sdk.responses.create(**refers(item_id)).output_text
    assert [entry.resource for entry in divided.simulator.calls()] == ["west"]


def test_an_item_that_is_sent_along_whole_may_go_anywhere(divided: Stack, mine: Given) -> None:
    """Who sends the whole conversation each time can be served by any deployment."""
    west = mine.sdk.responses.create(model="gpt-4o-mini", input="hello")
    said = [{"role": "user", "content": "hello"}, west.output[0].to_dict(), {"role": "user", "content": "and?"}]
    divided.simulator.clear_account()
    assert mine.sdk.responses.create(**asks(input=said)).output_text
    assert [entry.resource for entry in divided.simulator.calls()] == ["east"]


def test_an_item_that_nobody_has_is_the_upstreams_to_refuse(divided: Stack, mine: Given) -> None:
    with pytest.raises(openai.NotFoundError, match="Item with id 'msg_0123456789abcdef0123' not found"):
        mine.sdk.responses.create(**refers("msg_0123456789abcdef0123"))


def test_items_on_different_upstreams_cannot_be_used_together(divided: Stack, mine: Given) -> None:
    west = mine.sdk.responses.create(model="gpt-4o-mini", input="hello")
    both = [{"type": "item_reference", "id": each.output[0].id} for each in (mine.response, west)]
    with pytest.raises(openai.BadRequestError, match="on different upstreams"):
        mine.sdk.responses.create(**asks(input=both))


@pytest.mark.parametrize("fault", ["", "gzip"], ids=["plain", "compressed"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_an_answer_speaks_of_is_the_clients(divided: Stack, stream: bool, fault: str) -> None:
    with client(divided, "team-a") as sdk:
        body: Any = {"model": "gpt-4o", "input": f"remember {stream} {fault}", "stream": stream}
        raw = sdk.responses.with_raw_response.create(
            **body, extra_headers={"x-simulator-fault": fault} if fault else {}
        )
        parsed: Any = raw.parse()
        response = list(parsed)[-1].response if stream else parsed
        assert sdk.responses.retrieve(response.id).output_text == response.output_text


def test_a_streamed_response_is_the_clients_from_its_first_event(divided: Stack) -> None:
    """A background response is followed with another call while, or after, its stream was broken off."""
    with client(divided, "team-a") as sdk:
        pace = {"x-simulator-pace": "tokens_per_second=20"}
        with sdk.responses.create(model="gpt-4o", input="slowly", stream=True, extra_headers=pace) as stream:
            created: Any = next(iter(stream))
            assert sdk.responses.retrieve(created.response.id).id == created.response.id
            [entry] = [each for each in divided.simulator.calls() if each.stream and not each.ended]
            assert not entry.completed, "the stream was over before it was asked for"


def test_the_name_of_a_tool_is_nobodys(divided: Stack) -> None:
    """`file_search` looks like an id and stands in the answers of all who use it."""
    tools: Any = [{"type": "file_search", "vector_store_ids": []}, {"type": "function", "name": "run_terminal_2x"}]
    for client_id in ("team-a", "team-b"):
        with client(divided, client_id) as sdk:
            assert sdk.responses.create(model="gpt-4o", input="find it", tools=tools).output


def test_nothing_becomes_ones_own_by_being_repeated(divided: Stack, other: httpx.Client) -> None:
    """What an upstream holds that no client has made is nobody's, even where its answer repeats a client's guess."""
    with openai.OpenAI(base_url=f"{divided.simulator.url('east')}/v1", api_key="another way in") as direct:
        file_id = direct.files.create(file=("secret.txt", b"secret"), purpose="assistants").id
    made = other.post("/v1/vector_stores", json={"name": file_id})
    assert made.json()["name"] == file_id
    assert other.get(f"/v1/files/{file_id}").status_code == 404


def test_a_chat_that_is_not_stored_is_not_looked_for(divided: Stack, mine: Given) -> None:
    passing = mine.sdk.chat.completions.create(**CHAT)
    with pytest.raises(openai.NotFoundError):
        mine.sdk.chat.completions.retrieve(passing.id)
