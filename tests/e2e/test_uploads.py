"""Uploads that are too large to be held pass through as they come, and are kept all the same."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Fault, Simulator
from shared.core.call_record import Outcome
from tests.stack import Stack, running

MEGABYTE = 1024 * 1024
BOUNDARY = "an-upload"


@pytest.fixture(scope="module")
async def app(azurite: Azurite, simulator: Simulator) -> AsyncIterator[Stack]:
    async with running(azurite, simulator, "uploads", TOLLGATE_REPLAY_BYTES=str(MEGABYTE)) as started:
        yield started


def form(size: int) -> bytes:
    """A multipart body with a file of so many bytes."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n\r\n'
    )
    content = b"".join(hashlib.sha256(number.to_bytes(8)).digest() for number in range(size // 32))
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


async def upload(app: Stack, body: bytes) -> httpx.Response:
    headers = {"api-key": app.key(), "content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    async with httpx.AsyncClient(base_url=app.host.base_url, timeout=60) as http:
        return await http.post("/v1/files", content=body, headers=headers)


@pytest.mark.parametrize("size", [MEGABYTE // 2, 3 * MEGABYTE, 30 * MEGABYTE], ids=["held", "passes", "is large"])
async def test_an_upload_reaches_the_upstream_and_the_archive_byte_for_byte(
    app: Stack, simulator: Simulator, size: int
) -> None:
    body = form(size)
    answer = await upload(app, body)
    assert answer.status_code == 200, answer.text
    [entry] = [each for each in simulator.calls() if each.body_bytes == len(body)]
    assert entry.body_sha256 == hashlib.sha256(body).hexdigest()
    kept = await app.archived(answer.headers["x-tollgate-call-id"])
    assert kept.request == body
    assert kept.response == answer.content
    assert (kept.record.request_bytes, kept.record.request_sha256) == (len(body), entry.body_sha256)
    assert kept.record.outcome is Outcome.COMPLETED


async def test_an_upload_that_passes_is_not_tried_again(app: Stack, simulator: Simulator) -> None:
    simulator.set_fault("default:*", Fault(status=503))
    try:
        answer = await upload(app, form(2 * MEGABYTE))
    finally:
        simulator.clear_faults()
    assert answer.status_code == 503
    record = (await app.archived(answer.headers["x-tollgate-call-id"])).record
    assert [each.status for each in record.attempts] == [503]


async def test_a_client_that_breaks_an_upload_off_leaves_no_call_open(app: Stack) -> None:
    body = form(5 * MEGABYTE)

    async def half() -> AsyncIterator[bytes]:
        yield body[: 2 * MEGABYTE]
        await asyncio.sleep(0.2)
        raise ConnectionError("the client's cable")

    headers = {
        "api-key": app.key("team-b"),
        "content-type": f"multipart/form-data; boundary={BOUNDARY}",
        "content-length": str(len(body)),
    }
    async with httpx.AsyncClient(base_url=app.host.base_url) as http:
        with pytest.raises(ConnectionError):
            await http.post("/v1/files", content=half(), headers=headers)
    report = await app.usage_when(
        lambda report: any(
            row["rejected"] or row["upstream_error"] for row in report["data"] if row["client_id"] == "team-b"
        )
    )
    assert report["total"]["open"] == 0
