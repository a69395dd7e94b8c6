"""The configuration that is in force, followed where it is kept: a file, a blob, or the setting itself.

Rule: what is in force is a plain attribute, so a call reads it without a lock and without I/O, and keeps what it read to
its end. A version that is broken or cannot be read changes nothing but `status`, which says so.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotModifiedError
from azure.storage.blob.aio import BlobServiceClient

from shared.core.configuration import Configuration, parse
from shared.core.document_lines import is_json
from shared.core.document_problems import ConfigurationInvalid
from shared.usage.shipped_prices import shipped_prices

_log = logging.getLogger(__name__)

_BLOB = "blob:"
_READ_TIMEOUT_S = 8.0
_MISSING = {404, 412}
"""What a blob that is not there answers; 412 is Azurite's answer where it is asked for unless it is the version known."""


class OriginUnavailable(Exception):
    """The document cannot be read; the message says why."""


class Text(msgspec.Struct, frozen=True):
    """A document as it was read, and what tells this version of it from others."""

    text: str
    version: str


class Origin(Protocol):
    """Where the document is kept. `name` says where, for a person."""

    name: str

    async def read(self, known: str | None) -> Text | None:
        """The document; None where it still has the version `known`. Raises OriginUnavailable."""
        ...


class Nowhere:
    """No setting."""

    name = "TOLLGATE_CONFIG"

    async def read(self, known: str | None) -> Text | None:  # noqa: ARG002 - nothing to compare
        raise OriginUnavailable("TOLLGATE_CONFIG is not set: add the path of a configuration file, or its JSON")


class Inline:
    """The setting holds the document. It changes with a restart only."""

    name = "TOLLGATE_CONFIG"

    def __init__(self, text: str) -> None:
        self._text = text

    async def read(self, known: str | None) -> Text | None:
        return None if known else Text(self._text, "inline")


class File:
    """A local file."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    async def read(self, known: str | None) -> Text | None:
        try:
            return await asyncio.to_thread(self._read, known)
        except (OSError, UnicodeDecodeError) as error:
            raise OriginUnavailable(f"TOLLGATE_CONFIG names a file that cannot be read: {error}") from error

    def _read(self, known: str | None) -> Text | None:
        stat = self._path.stat()
        version = f"{stat.st_mtime_ns}-{stat.st_size}-{stat.st_ino}"
        return None if version == known else Text(self._path.read_text(encoding="utf-8"), version)


class Blob:
    """A blob in the app's own storage account."""

    def __init__(self, blobs: BlobServiceClient, container: str, blob: str) -> None:
        self.name = f"{_BLOB}{container}/{blob}"
        self._blob = blobs.get_blob_client(container, blob)

    async def read(self, known: str | None) -> Text | None:
        condition: dict[str, Any] = {"etag": known, "match_condition": MatchConditions.IfModified} if known else {}
        try:
            download = await self._blob.download_blob(encoding="utf-8", **condition)
            return Text(await download.readall(), str(download.properties.etag))
        except ResourceNotModifiedError:
            return None
        except (AzureError, UnicodeDecodeError) as error:
            is_missing = isinstance(error, HttpResponseError) and error.status_code in _MISSING
            why = "does not exist: upload it" if is_missing else f"cannot be read: {str(error).partition('\n')[0]}"
            raise OriginUnavailable(f"TOLLGATE_CONFIG names {self.name}, which {why}") from error


def origin_of(setting: str, blobs: BlobServiceClient | None) -> Origin:
    """Where `TOLLGATE_CONFIG` says that the document is: JSON, `blob:container/name` (of `blobs`), or else a file's path."""
    if not setting:
        return Nowhere()
    if is_json(setting):
        return Inline(setting)
    container, slash, blob = setting.removeprefix(_BLOB).partition("/")
    if setting.startswith(_BLOB) and blobs and container and slash and blob:
        return Blob(blobs, container, blob)
    return File(Path(setting))


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the configuration stands."""

    source: str
    loaded_at: datetime | None = None
    """When the version in force was read; None: there is none yet."""
    problems: tuple[str, ...] = ()
    """What is wrong with the newest version."""

    @property
    def summary(self) -> str:
        """A sentence for /health/ready."""
        broken = "; ".join(self.problems)
        if self.loaded_at is None:
            return f"none: {broken}"
        since = f"{self.loaded_at:%Y-%m-%dT%H:%M:%SZ}"
        return f"kept the version of {since}; the new one is broken: {broken}" if broken else f"the version of {since}"


class ConfigurationSource:
    """Holds the configuration in force."""

    def __init__(self, origin: Origin, settings: Mapping[str, str], now: Callable[[], datetime]) -> None:
        self.current: Configuration | None = None
        self.status = SourceStatus(source=origin.name)
        self._origin = origin
        self._settings = settings
        self._now = now
        self._version: str | None = None
        self._broken: tuple[str, ...] = ()

    async def refresh(self) -> None:
        """Looks whether there is a new version, and puts it in force. Raises nothing: `status` says what went wrong."""
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                found = await self._origin.read(self._version)
        except (OriginUnavailable, TimeoutError) as error:
            self._report((str(error) or f"{self._origin.name} cannot be read: it does not answer",))
            return
        if found is not None:
            self._version = found.version
            await self._load(found.text)
        self._report(self._broken)

    async def _load(self, text: str) -> None:
        try:
            self.current = await asyncio.to_thread(lambda: parse(text, self._settings, shipped_prices()))
        except ConfigurationInvalid as error:
            self._broken = error.problems
        else:
            self._broken = ()
            self.status = SourceStatus(source=self._origin.name, loaded_at=self._now())
            _log.info("configuration loaded", extra={"source": self._origin.name})

    def _report(self, problems: tuple[str, ...]) -> None:
        if problems and problems != self.status.problems:
            _log.error("configuration not usable", extra={"source": self._origin.name, "problems": problems})
        self.status = msgspec.structs.replace(self.status, problems=problems)
