"""The configuration, followed where it is kept. What is in force never gets worse by a change."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from devtools.azurite import Azurite
from shared.configuration_source import Blob, ConfigurationSource, File, Inline, Nowhere, Origin, origin_of

AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
ONE, TWO = '[[clients]]\nid = "one"\n', '{"clients": [{"id": "two"}]}'
BROKEN = '[[clients]]\n\nidd = "three"\n'


class Clock:
    """A minute later each time that it is asked."""

    def __init__(self) -> None:
        self.at = AT

    def __call__(self) -> datetime:
        self.at += timedelta(minutes=1)
        return self.at


def source_of(origin: Origin) -> ConfigurationSource:
    return ConfigurationSource(origin, {}, Clock())


def clients(source: ConfigurationSource) -> list[str]:
    return [] if source.current is None else list(source.current.clients_by_id)


def write(path: Path, text: str) -> None:
    """As an editor does: a new file in the old one's place, so that no half of one is ever read."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


@pytest.fixture
async def container(azurite: Azurite, prefix: str) -> AsyncIterator[ContainerClient]:
    async with BlobServiceClient.from_connection_string(azurite.connection_string, retry_total=0) as blobs:
        yield await blobs.create_container(f"{prefix}-config")


async def test_a_file_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "tollgate.toml"
    path.write_text(ONE)
    source = source_of(File(path))
    await source.refresh()
    assert (clients(source), source.status.loaded_at) == (["one"], AT + timedelta(minutes=1))
    before = source.current
    await source.refresh()
    assert source.current is before
    write(path, TWO)
    await source.refresh()
    assert (clients(source), source.status.loaded_at) == (["two"], AT + timedelta(minutes=2))
    assert source.status.summary == "the version of 2026-11-21T09:02:00Z"


async def test_a_change_of_the_same_size_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "tollgate.toml"
    path.write_text(ONE)
    source = source_of(File(path))
    await source.refresh()
    path.write_text(ONE.replace("one", "eno"))
    os.utime(path, (0, 0))
    await source.refresh()
    assert clients(source) == ["eno"]


async def test_a_broken_version_keeps_the_last_good_one_and_says_so_until_it_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "tollgate.toml"
    path.write_text(ONE)
    source = source_of(File(path))
    await source.refresh()
    write(path, BROKEN)
    for _ in range(2):
        await source.refresh()
        assert clients(source) == ["one"]
        assert source.status.summary.startswith(
            "kept the version of 2026-11-21T09:01:00Z; the new one is broken: line 3: Object contains unknown field `idd`"
        )
    path.unlink()
    await source.refresh()
    assert "cannot be read" in source.status.summary
    write(path, BROKEN)
    await source.refresh()
    assert "unknown field" in source.status.summary
    write(path, TWO)
    await source.refresh()
    assert (clients(source), source.status.problems) == (["two"], ())


async def test_a_file_that_was_away_for_a_while_is_no_problem_any_more(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "tollgate.toml", tmp_path / "elsewhere"
    path.write_text(ONE)
    source = source_of(File(path))
    await source.refresh()
    path.rename(elsewhere)
    await source.refresh()
    assert source.status.problems
    elsewhere.rename(path)
    await source.refresh()
    assert (clients(source), source.status.problems) == (["one"], ())


async def test_what_was_broken_at_the_start_is_mended_later(tmp_path: Path) -> None:
    path = tmp_path / "tollgate.toml"
    source = source_of(File(path))
    await source.refresh()
    assert source.status.summary.startswith("none: TOLLGATE_CONFIG names a file that cannot be read")
    path.write_bytes(b"\xff\xfe")
    await source.refresh()
    assert source.status.summary.startswith("none: TOLLGATE_CONFIG names a file that cannot be read")
    write(path, BROKEN)
    await source.refresh()
    assert (source.current, len(source.status.problems)) == (None, 1)
    write(path, ONE)
    await source.refresh()
    assert clients(source) == ["one"]


async def test_the_setting_itself_is_read_once() -> None:
    source = source_of(Inline(TWO))
    await source.refresh()
    before = source.current
    await source.refresh()
    assert source.current is before
    assert clients(source) == ["two"]


async def test_a_broken_setting_stays_broken() -> None:
    source = source_of(Inline("{"))
    for _ in range(2):
        await source.refresh()
        assert (source.current, source.status.summary) == (
            None,
            "none: not valid JSON: line 1: Input data was truncated",
        )


async def test_no_setting_says_what_to_set() -> None:
    source = source_of(Nowhere())
    await source.refresh()
    assert source.status.problems == ("TOLLGATE_CONFIG is not set: add the path of a configuration file, or its JSON",)


async def test_a_blob_is_followed_by_its_etag(container: ContainerClient, azurite: Azurite) -> None:
    async with BlobServiceClient.from_connection_string(azurite.connection_string, retry_total=0) as blobs:
        source = source_of(Blob(blobs, container.container_name, "a/tollgate.toml"))
        await source.refresh()
        assert "does not exist: upload it" in source.status.summary
        await container.upload_blob("a/tollgate.toml", ONE)
        await source.refresh()
        assert clients(source) == ["one"]
        before = source.current
        await source.refresh()
        assert source.current is before
        await container.upload_blob("a/tollgate.toml", TWO, overwrite=True)
        await source.refresh()
        assert clients(source) == ["two"]
        await container.upload_blob("a/tollgate.toml", BROKEN, overwrite=True)
        await source.refresh()
        assert clients(source) == ["two"]
        assert "line 3" in source.status.summary
        await container.delete_blob("a/tollgate.toml")
        await source.refresh()
        assert clients(source) == ["two"]
        assert "does not exist: upload it" in source.status.summary


async def test_a_storage_account_that_is_away_changes_nothing(prefix: str) -> None:
    with Azurite.start() as own:
        blobs = BlobServiceClient.from_connection_string(own.connection_string, retry_total=0)
        container = await blobs.create_container(f"{prefix}-config")
        await container.upload_blob("c", ONE)
        source = source_of(Blob(blobs, container.container_name, "c"))
        await source.refresh()
    await source.refresh()
    await blobs.close()
    assert clients(source) == ["one"]
    assert source.status.summary.startswith("kept the version of")
    assert "\n" not in source.status.summary


SETTINGS = {
    "nothing": ("", Nowhere, "TOLLGATE_CONFIG"),
    "JSON": (' {"clients": []}', Inline, "TOLLGATE_CONFIG"),
    "a blob": ("blob:config/a/tollgate.toml", Blob, "blob:config/a/tollgate.toml"),
    "a path": ("config/tollgate.toml", File, "config/tollgate.toml"),
    "a blob without a name is no blob": ("blob:config", File, "blob:config"),
}


@pytest.mark.parametrize(("setting", "kind", "name"), SETTINGS.values(), ids=SETTINGS.keys())
async def test_the_setting_says_where_the_document_is(
    azurite: Azurite, setting: str, kind: type[Origin], name: str
) -> None:
    async with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        origin = origin_of(setting, blobs)
        assert isinstance(origin, kind)
        assert origin.name == name
        if isinstance(origin, Blob):
            await origin._blob.close()
