"""Storage queue triggers. They hold for `func start` too, but for the options of our own host."""

import asyncio
import base64
import os
import uuid
from collections.abc import AsyncIterator

import pytest
from azure.storage.queue.aio import QueueClient

from devtools.azurite import Azurite
from devtools.devhost.client import DevHost
from tests.devhost.conftest import APPS, Notes

own_host_only = pytest.mark.skipif(os.environ.get("TOLLGATE_HOST") == "func", reason="an option of our host")


@pytest.fixture
async def queue(azurite: Azurite) -> AsyncIterator[QueueClient]:
    async with QueueClient.from_connection_string(azurite.connection_string, f"q-{uuid.uuid4().hex}") as one:
        await one.create_queue()
        yield one


def poison_of(queue: QueueClient, azurite: Azurite) -> QueueClient:
    return QueueClient.from_connection_string(azurite.connection_string, f"{queue.queue_name}-poison")


def settings(azurite: Azurite, queue: QueueClient, notes: Notes) -> dict[str, str]:
    assert queue.queue_name is not None
    storage = azurite.connection_string
    return {"AzureWebJobsStorage": storage, "QUEUE": queue.queue_name, "NOTES": str(notes.path)}


async def send(queue: QueueClient, body: str) -> None:
    await queue.send_message(base64.b64encode(body.encode()).decode())


async def is_empty(queue: QueueClient) -> bool:
    # Messages that are invisible count too.
    return (await queue.get_queue_properties()).approximate_message_count == 0


async def wait_until_empty(queue: QueueClient, notes: Notes) -> None:
    for _ in range(1000):
        if await is_empty(queue):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(notes.lines())


async def test_a_message_that_succeeds_is_deleted(azurite: Azurite, queue: QueueClient, notes: Notes) -> None:
    for number in range(6):
        await send(queue, f"message {number}")
    async with DevHost.start(APPS / "queue", settings(azurite, queue, notes)):
        seen = await notes.wait_for(lambda notes: found if len(found := notes.read()) == 6 else [])
        await wait_until_empty(queue, notes)
    assert {one["body"] for one in seen} == {f"message {number}" for number in range(6)}
    assert {one["count"] for one in seen} == {1}
    assert all(one["id"] and one["inserted"] != "None" for one in seen)


async def test_a_message_that_fails_comes_back_later_and_ends_as_poison(
    azurite: Azurite, queue: QueueClient, notes: Notes
) -> None:
    await send(queue, "fail")
    async with DevHost.start(APPS / "queue", settings(azurite, queue, notes)), poison_of(queue, azurite) as poison:
        first, second = await notes.wait_for(lambda notes: found if len(found := notes.read()) == 2 else [])
        await wait_until_empty(queue, notes)
        [message] = [one async for one in poison.receive_messages()]
    assert (first["count"], second["count"]) == (1, 2)
    assert second["at"] - first["at"] >= 0.9  # visibilityTimeout of host.json is 1 s
    assert base64.b64decode(message.content) == b"fail"


async def test_a_message_that_is_not_base64_goes_to_poison_unseen(
    azurite: Azurite, queue: QueueClient, notes: Notes
) -> None:
    await queue.send_message("{not base64}")
    await send(queue, "after it")
    async with DevHost.start(APPS / "queue", settings(azurite, queue, notes)), poison_of(queue, azurite) as poison:
        await notes.wait_for(lambda notes: notes.read(body="after it"))
        await wait_until_empty(queue, notes)
        assert [one.content async for one in poison.receive_messages()] == ["{not base64}"]
    assert len(notes.read()) == 1


async def test_admin_runs_a_queue_function_with_the_given_text(
    azurite: Azurite, queue: QueueClient, notes: Notes
) -> None:
    async with DevHost.start(APPS / "queue", settings(azurite, queue, notes)) as host:
        await host.invoke("work", "by hand")
        await notes.wait_for(lambda notes: notes.read(body="by hand"))


@own_host_only
async def test_a_message_stays_invisible_while_its_function_runs(
    azurite: Azurite, queue: QueueClient, notes: Notes
) -> None:
    await send(queue, "sleep 4")
    arguments = ["--queue-lease", "2"]
    async with DevHost.start(APPS / "queue", settings(azurite, queue, notes), arguments=arguments):
        await notes.wait_for(lambda notes: notes.read())
        await wait_until_empty(queue, notes)
    assert len(notes.read()) == 1


@own_host_only
async def test_a_message_in_work_comes_back_after_a_crash(azurite: Azurite, queue: QueueClient, notes: Notes) -> None:
    await send(queue, "sleep 1")
    arguments = ["--queue-lease", "2"]
    async with DevHost.start(APPS / "queue", settings(azurite, queue, notes), arguments=arguments) as host:
        await notes.wait_for(lambda notes: notes.read())
        await host.kill()
        await host.begin()
        await notes.wait_for(lambda notes: len(notes.read()) == 2)
        await wait_until_empty(queue, notes)
    assert [one["count"] for one in notes.read()] == [1, 2]


@own_host_only
async def test_a_message_in_work_is_finished_at_the_end(azurite: Azurite, queue: QueueClient, notes: Notes) -> None:
    await send(queue, "sleep 1")
    async with DevHost.start(APPS / "queue", settings(azurite, queue, notes)) as host:
        await notes.wait_for(lambda notes: notes.read())
        assert await host.stop() == 0
    assert await is_empty(queue)


@own_host_only
async def test_a_missing_queue_is_created(azurite: Azurite, notes: Notes) -> None:
    async with (
        QueueClient.from_connection_string(azurite.connection_string, f"q-{uuid.uuid4().hex}") as queue,
        DevHost.start(APPS / "queue", settings(azurite, queue, notes)) as host,
    ):
        await host.wait_for_log("Created the queue")
        await send(queue, "hello")
        await notes.wait_for(lambda notes: notes.read(body="hello"))


@own_host_only
async def test_a_storage_outage_is_outlived(notes: Notes) -> None:
    with Azurite.start() as own:
        async with (
            QueueClient.from_connection_string(own.connection_string, "outage") as queue,
            DevHost.start(APPS / "queue", settings(own, queue, notes)) as host,
        ):
            await host.wait_for_log("Created the queue")
            own.kill()
            await host.wait_for_log("cannot be read|failed, again in")
            own.start_again()
            await queue.create_queue()
            await send(queue, "after the outage")
            await notes.wait_for(lambda notes: notes.read(body="after the outage"))
