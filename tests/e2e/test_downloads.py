"""Answers that are too large to be held pass through as they come, and are kept all the same."""

import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from shared.core.call_record import Outcome
from shared.core.clients.keys import RANDOM_BYTES, mint
from tests.e2e.sdk import STYLES
from tests.stack import Stack, key_hash, running

MEGABYTE = 1024 * 1024
CONTENT = b"".join(hashlib.sha256(number.to_bytes(8)).digest() for number in range(20 * MEGABYTE // 32))
DIGEST = hashlib.sha256(CONTENT).hexdigest()
LESS: dict[str, dict[str, Any]] = {
    "no-content": {"content": "metadata"},
    "a-part": {"content_bytes": 1000},
    "redacted": {"redact": [{"name": "numbers", "pattern": "[0-9]+"}]},
}
KEYS = {name: mint(secrets.token_bytes(RANDOM_BYTES)) for name in ("all", *LESS)}


@pytest.fixture(scope="module")
async def app(azurite: Azurite, simulator: Simulator) -> AsyncIterator[Stack]:
    clients = [{"id": name, "keys": [key_hash(key)], **LESS.get(name, {})} for name, key in KEYS.items()]
    settings = {"TOLLGATE_REPLAY_BYTES": str(MEGABYTE)}
    async with running(azurite, simulator, "downloads", {"clients": clients}, **settings) as started:
        yield started


@pytest.fixture(scope="module")
def file_id(app: Stack) -> str:
    with openai.OpenAI(base_url=f"{app.host.base_url}/v1", api_key=KEYS["all"].text) as sdk:
        return sdk.files.create(file=("large.bin", CONTENT), purpose="assistants").id


@pytest.mark.parametrize("style", STYLES)
async def test_a_large_file_reaches_the_client_and_the_archive_byte_for_byte(
    app: Stack, file_id: str, style: str
) -> None:
    sdk: Any = STYLES[style](app.host.base_url, KEYS["all"].text, None)
    with sdk:
        answer = sdk.files.with_raw_response.content(file_id)
    assert answer.content == CONTENT
    kept = await app.archived(answer.headers["x-tollgate-call-id"])
    assert (kept.request, kept.response) == (b"", CONTENT)
    assert (kept.record.response_bytes, kept.record.response_sha256) == (len(CONTENT), DIGEST)
    assert kept.record.outcome is Outcome.COMPLETED


async def test_a_client_that_leaves_a_download_leaves_no_call_open(app: Stack, file_id: str) -> None:
    """What it did not take is drained: the record is whole."""
    async with (
        httpx.AsyncClient(base_url=app.host.base_url, headers={"api-key": KEYS["all"].text}, timeout=30) as http,
        http.stream("GET", f"/v1/files/{file_id}/content") as answer,
    ):
        await anext(answer.aiter_raw())
    kept = await app.archived(answer.headers["x-tollgate-call-id"])
    assert kept.record.outcome is Outcome.CLIENT_CLOSED
    assert kept.response == CONTENT


async def until_it_breaks(chunks: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    """What came of an answer, and whether it broke off."""
    got = b""
    try:
        async for chunk in chunks:
            got += chunk
    except httpx.RemoteProtocolError:
        return got, True
    return got, False


async def test_an_upstream_that_breaks_a_download_off_is_told_and_recorded(app: Stack, file_id: str) -> None:
    headers = {"api-key": KEYS["all"].text, "x-simulator-fault": "cut_after_bytes=9000000"}
    async with (
        httpx.AsyncClient(base_url=app.host.base_url, headers=headers, timeout=30) as http,
        http.stream("GET", f"/v1/files/{file_id}/content") as answer,
    ):
        got, is_broken = await until_it_breaks(answer.aiter_raw())
    assert is_broken
    assert CONTENT.startswith(got)
    kept = await app.archived(answer.headers["x-tollgate-call-id"])
    assert (kept.record.outcome, kept.response) == (Outcome.UPSTREAM_ERROR, CONTENT[: len(kept.response)])
    assert MEGABYTE < len(kept.response) == kept.record.response_bytes <= 9_000_000, "as far as it came"


@pytest.mark.parametrize("client_id", sorted(LESS))
async def test_a_large_answer_is_kept_whole_or_not_at_all(app: Stack, client_id: str) -> None:
    with openai.OpenAI(base_url=f"{app.host.base_url}/v1", api_key=KEYS[client_id].text) as sdk:
        file = sdk.files.create(file=("large.bin", CONTENT[: 3 * MEGABYTE]), purpose="assistants")
        answer = sdk.files.with_raw_response.content(file.id)
    assert answer.content == CONTENT[: 3 * MEGABYTE]
    kept = await app.archived(answer.headers["x-tollgate-call-id"])
    assert kept.response == b""
    assert kept.record.response_bytes == 3 * MEGABYTE
    assert kept.record.response_sha256 == hashlib.sha256(answer.content).hexdigest()
