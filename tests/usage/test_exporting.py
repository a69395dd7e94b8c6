"""Exports, out of a real Storage account: read back, column by column."""

import csv
import io
from datetime import timedelta

import msgspec
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient

from devtools.azurite import Azurite
from shared.core.money.ledger import UsageEntry
from shared.core.recording.archive import ArchivedCall
from shared.core.reports.call_query import CallQuery
from shared.core.reports.evaluation import COLUMNS
from shared.usage.call_search import CallSearch
from shared.usage.exporting import (
    Download,
    Export,
    ExportStore,
    Lines,
    ToBlob,
    due_months,
    evaluation_lines,
    ledger_lines,
)
from tests.emulator import Storage
from tests.examples import NOON, call_id, closed, closed_record, opened
from tests.usage.test_usage_table import row

QUERY = CallQuery(start=NOON - timedelta(days=1), end=NOON + timedelta(days=1))


def body(text: str) -> bytes:
    return msgspec.json.encode({"messages": [{"role": "user", "content": text}]})


def answer(text: str) -> bytes:
    return msgspec.json.encode({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]})


async def with_calls(storage: Storage, *questions: str) -> CallSearch:
    """A ledger and an archive with a call for each question, and one that was never answered."""
    for number, question in enumerate(questions):
        call = ArchivedCall(record=closed_record(number), request=body(question), response=answer(f"re: {question}"))
        await storage.archive.put(call)
    await storage.ledger.write([*(closed(number) for number in range(len(questions))), opened(99)])
    return CallSearch(storage.ledger._table)


async def table(lines: Lines) -> list[dict[str, str]]:
    text = b"".join([line async for line in lines]).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


QUESTIONS = ["Where?", 'a "quoted"\r\n\u2028 line, 東京', "=HYPERLINK(0)"]


async def test_the_evaluation_dataset_as_json_lines_is_what_was_said(storage: Storage) -> None:
    search = await with_calls(storage, *QUESTIONS)
    lines = [line async for line in evaluation_lines(search, storage.archive, QUERY, as_csv=False)]
    rows = [msgspec.json.decode(line) for line in lines]
    assert all(line.count(b"\n") == 1 for line in lines), "a line is a row"
    assert [tuple(row) for row in rows] == [COLUMNS] * 3
    assert [row["query"] for row in rows] == QUESTIONS
    assert [row["response"] for row in rows] == [f"re: {question}" for question in QUESTIONS]
    assert [row["call_id"] for row in rows] == [call_id(number) for number in range(3)]
    assert {(row["context"], row["ground_truth"]) for row in rows} == {("", "")}


async def test_the_evaluation_dataset_as_csv_has_the_same_but_for_formulas(storage: Storage) -> None:
    search = await with_calls(storage, *QUESTIONS)
    rows = await table(evaluation_lines(search, storage.archive, QUERY, as_csv=True))
    assert [tuple(row) for row in rows] == [COLUMNS] * 3
    assert [row["query"] for row in rows] == [*QUESTIONS[:2], "'=HYPERLINK(0)"]
    assert [row["response"] for row in rows] == [f"re: {question}" for question in QUESTIONS]


async def test_a_dataset_has_only_the_calls_that_were_asked_for_and_may_be_seen(storage: Storage) -> None:
    search = await with_calls(storage, *QUESTIONS)
    others = msgspec.structs.replace(QUERY, client_id="team-red")
    assert [line async for line in evaluation_lines(search, storage.archive, others, as_csv=False)] == []
    first = msgspec.structs.replace(QUERY, end=NOON)
    assert [line async for line in evaluation_lines(search, storage.archive, first, as_csv=False)] == []


async def test_a_damaged_call_does_not_end_a_dataset(storage: Storage) -> None:
    search = await with_calls(storage, *QUESTIONS)
    blob = storage.archive._container.get_blob_client(f"{NOON:%Y/%m/%d/%H}/{call_id(1)}")
    await blob.upload_blob(b"not a call", overwrite=True)
    rows = [line async for line in evaluation_lines(search, storage.archive, QUERY, as_csv=False)]
    assert [msgspec.json.decode(row)["query"] for row in rows] == [QUESTIONS[0], QUESTIONS[2]]


async def test_the_ledger_as_csv_has_every_field_of_every_call(storage: Storage) -> None:
    await storage.ledger.write([closed(1, end_user="=cmd()", response_bytes=2**40), opened(2)])
    rows = await table(ledger_lines(CallSearch(storage.ledger._table), QUERY))
    assert [tuple(row) for row in rows] == [UsageEntry.__struct_fields__] * 2
    [ended, under_way] = rows
    assert ended["call_id"] == call_id(1)
    assert (ended["end_user"], ended["response_bytes"]) == ("'=cmd()", str(2**40))
    assert (ended["opened_at"], ended["outcome"]) == ("2026-11-21T12:00:00.250000Z", "completed")
    assert (under_way["outcome"], under_way["input_tokens"]) == ("", ""), "unknown is not zero"


async def lines_of(count: int) -> Lines:
    for number in range(count):
        yield f"{number:0999}\n".encode()


@pytest.fixture
async def container(azurite: Azurite, prefix: str) -> ContainerClient:
    return ContainerClient.from_connection_string(azurite.connection_string, f"{prefix}-exports")


async def test_an_export_to_a_blob_tells_how_far_it_is_and_then_its_name(container: ContainerClient) -> None:
    async with container:
        store = ExportStore(container)
        await store.prepare()
        await store.prepare()
        for count in (9000, 3):  # written again it is what was written last
            export = Export(name="x/y.csv", content_type="text/csv", lines=lines_of(count))
            progress = [msgspec.json.decode(line) async for line in ToBlob(store, export).chunks()]
            name = f"{container.container_name}/x/y.csv"
            assert progress[-1] == {"lines": count, "bytes": 1000 * count, "blob": name}
        blob = await container.download_blob("x/y.csv")
        assert await blob.readall() == b"".join([line async for line in lines_of(3)])
        assert blob.properties.content_settings.content_type == "text/csv"


async def test_a_month_that_changed_after_its_focus_file_is_written_again_and_no_other(
    storage: Storage, container: ContainerClient
) -> None:
    """Guards that what is told late, or rated anew, reaches the files of months that are over."""
    async with container:
        store = ExportStore(container)
        await store.prepare()

        async def write(month: str) -> None:
            version = await storage.usage.version(month.replace("-", ""))
            name = f"focus/{month}.csv"
            await store.put(Export(name=name, content_type="text/csv", lines=lines_of(1), made_of=version or ""))

        for month in ("2026-09", "2026-10"):
            await storage.count(month.replace("-", ""), [row(month.replace("-", ""))])
            await write(month)
        await storage.count("202608", [row("202608")])  # it has no file
        await store.put(Export(name="focus/mine.csv", content_type="text/csv", lines=lines_of(1)))
        assert await due_months(store, storage.usage, "2026-11") == ["2026-11"]
        await storage.count("202609", [row("202609", calls=2)])
        assert await due_months(store, storage.usage, "2026-11") == ["2026-11", "2026-09"], (
            "the current one at any rate"
        )
        await write("2026-09")
        await storage.count("202610", [])
        assert await due_months(store, storage.usage, "2026-11") == ["2026-11", "2026-10"], "which has no row any more"
        assert await due_months(store, storage.usage, "2026-10") == ["2026-10"]


async def test_an_export_that_is_given_up_leaves_no_blob(container: ContainerClient) -> None:
    async def endless() -> Lines:
        while True:
            async for line in lines_of(10_000):
                yield line

    async with container:
        store = ExportStore(container)
        await store.prepare()
        stream = ToBlob(store, Export(name="x.csv", content_type="text/csv", lines=endless()))
        assert b'"lines"' in await anext(stream.chunks())
        await stream.finish()
        with pytest.raises(ResourceNotFoundError):
            await container.download_blob("x.csv")


async def test_an_export_without_its_container_tells_the_error(container: ContainerClient) -> None:
    async with container:
        export = Export(name="x.csv", content_type="text/csv", lines=lines_of(1))
        progress = [msgspec.json.decode(line) async for line in ToBlob(ExportStore(container), export).chunks()]
    assert "not written" in progress[-1]["error"]
    assert "blob" not in progress[-1]


async def test_a_download_sends_many_lines_at_a_time_and_ends_with_its_client() -> None:
    lines = lines_of(1000)
    download = Download(lines)
    chunks = [chunk async for chunk in download.chunks()]
    assert b"".join(chunks) == b"".join([line async for line in lines_of(1000)])
    assert len(chunks) < 10
    abandoned = lines_of(10**9)
    download = Download(abandoned)
    await anext(download.chunks())
    await download.finish()
    assert [line async for line in abandoned] == []
