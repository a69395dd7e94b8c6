"""Table Storage's own protocol, for the two places where the SDK's work for each entity would be what a rollup or a recorder
costs: pages of entities read straight into structs, and transactions written from plain text.

Rule: authentication, retries and hosts are the SDK's own, for every request goes through its client. Properties are as
shared/storage/entities.py has them. Protocol: https://learn.microsoft.com/rest/api/storageservices/query-entities and
https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.data.tables import EntityProperty, TableTransactionError
from azure.data.tables.aio import TableClient

from shared.storage.entities import Entity, property_name

TRANSACTION_LIMIT = 100
"""Entities in one transaction, all of one partition."""
OVERTAKEN = frozenset({404, 409, 412})
"""Statuses of a transaction whose condition did not hold."""

_NEXT = {"NextPartitionKey": "x-ms-continuation-nextpartitionkey", "NextRowKey": "x-ms-continuation-nextrowkey"}
_VERSIONS = {"x-ms-version": "2019-02-02", "DataServiceVersion": "3.0", "MaxDataServiceVersion": "3.0;NetFx"}
_BATCH, _CHANGES = "batch_tollgate", "changeset_tollgate"
"""Boundaries. Neither can stand in a part: JSON has no line ends of its own."""
_INNER_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_ETAG = re.compile(rb"(?im)^etag: *(\S+)")


def quoted(text: str) -> str:
    """A text as it stands in a filter, or in an address."""
    return "'" + text.replace("'", "''") + "'"


type Columns = Mapping[str, tuple[Any, ...]]
"""By name, as msgspec.defstruct takes them: type, and default where it has one."""


def columns_of(type_: type[msgspec.Struct], without: Collection[str] = ()) -> Columns:
    """The fields of a struct as columns."""
    return {field.name: _column(field) for field in msgspec.structs.fields(type_) if field.name not in without}


class Reader[T]:
    """Reads entities as values. Only its columns are asked for."""

    def __init__(self, columns: Columns, make: Callable[[Any], T] | None, bases: tuple[type, ...] = ()) -> None:
        """`make` gives the value of an object that has the columns as attributes. None: it is that object, of these classes."""
        self._make = make
        self._select = ",".join(map(property_name, columns))
        fields = [(name, *column) for name, column in columns.items()]
        as_sent = msgspec.defstruct("Entity", fields, rename=property_name, kw_only=True, bases=bases, frozen=True)
        page = msgspec.defstruct("Page", [("value", list[as_sent])])  # type: ignore[valid-type]
        self._page = msgspec.json.Decoder(page, strict=False)  # a 64-bit number is sent as text

    async def read(self, table: TableClient, filter_: str) -> AsyncIterator[T]:
        """The values, ordered by the entities' keys; 1,000 at most are held at a time. Raises HttpResponseError."""
        asked = {"$filter": filter_, "$select": self._select}
        start: dict[str, str] | None = {}
        while start is not None:
            request = HttpRequest(
                "GET",
                _address(table, f"{table.table_name}()"),
                params={name: quote(value, safe="") for name, value in (asked | start).items()},  # it does not quote
                headers=_VERSIONS | {"Accept": "application/json;odata=nometadata"},
            )
            response = await _sent(table, request, expected=200)
            page: Any = self._page.decode(await response.read())
            for entity in page.value:
                yield self._make(entity) if self._make else entity
            more = {name: response.headers[header] for name, header in _NEXT.items() if response.headers.get(header)}
            start = more or None


class Change(msgspec.Struct, frozen=True):
    """One entity's part of a transaction."""

    method: str
    """`POST` inserts, `PUT` replaces, `PATCH` merges, `DELETE` deletes what its keys name."""
    entity: Entity
    etag: str | None = None
    """Only this version is changed. None: whatever there is; but an insertion fails where there is anything."""


async def submit(table: TableClient, changes: Sequence[Change]) -> str | None:
    """Makes all of the changes or none; at most 100, in one partition. Returns the ETag of the first one's entity.

    Raises TableTransactionError, with the status of the change that failed; HttpResponseError.
    """
    request = HttpRequest(
        "POST",
        _address(table, "$batch"),
        content=_batch(_address(table, table.table_name).partition("?")[0], changes),
        headers=_VERSIONS | {"Content-Type": f"multipart/mixed; boundary={_BATCH}", "Accept": "application/json"},
    )
    response = await _sent(table, request, expected=202)
    answer = await response.read()
    statuses = [int(status) for status in _INNER_STATUS.findall(answer)]
    if failed := next((status for status in statuses if status >= 300), None):
        error = TableTransactionError(message=answer.decode(errors="replace")[-500:], response=response)
        error.status_code = failed
        raise error
    etag = _ETAG.search(answer)
    return etag[1].decode() if etag else None


def _column(field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    if field.required:
        return (field.type,)
    if field.default is not msgspec.NODEFAULT:
        return field.type, field.default
    return field.type, msgspec.field(default_factory=field.default_factory)


def _address(table: TableClient, what: str) -> str:
    """The address of something of the account; a SAS, where there is one, stays behind it."""
    account, mark, sas = table.url.partition("?")
    return f"{account}/{what}{mark}{sas}"


async def _sent(table: TableClient, request: HttpRequest, *, expected: int) -> AsyncHttpResponse:
    # The SDK has no public way to send a request of one's own with its credential.
    response: AsyncHttpResponse = await table._client.send_request(request, stream=True)  # noqa: SLF001
    if response.status_code != expected:
        await response.read()
        kind = ResourceNotFoundError if response.status_code == 404 else HttpResponseError  # as the SDK has it
        raise kind(message=response.text()[:500], response=response)
    return response


def _batch(address: str, changes: Iterable[Change]) -> bytes:
    parts = [f"--{_BATCH}\r\nContent-Type: multipart/mixed; boundary={_CHANGES}\r\n".encode()]
    for change in changes:
        parts += _part(address, change)
    return b"\r\n".join((*parts, f"--{_CHANGES}--\r\n".encode(), f"--{_BATCH}--\r\n".encode()))


def _part(address: str, change: Change) -> tuple[bytes, ...]:
    """The lines of a change."""
    entity = change.entity
    keys = f"(PartitionKey={quoted(entity['PartitionKey'])},RowKey={quoted(entity['RowKey'])})"
    target = address if change.method == "POST" else address + quote(keys, safe="()=,'")
    if_match = "*" if change.method == "DELETE" and change.etag is None else change.etag
    headers = [
        f"--{_CHANGES}",
        "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n",
        f"{change.method} {target} HTTP/1.1",
        "Content-Type: application/json",
        "Accept: application/json;odata=minimalmetadata",
        "DataServiceVersion: 3.0",
        *(["Prefer: return-no-content"] if change.method == "POST" else []),
        *([f"If-Match: {if_match}"] if if_match else []),
        "",
    ]
    return "\r\n".join(headers).encode(), b"" if change.method == "DELETE" else _ascii_json(_as_sent(entity)), b""


def _ascii_json(entity: Entity) -> bytes:
    """As the SDK sends it: with every other letter escaped."""
    plain = msgspec.json.encode(entity)
    return plain if plain.isascii() else json.dumps(entity).encode()


_PLAIN = frozenset({str, bool, float})


def _as_sent(entity: Entity) -> Entity:
    """The entity with the types of its properties said where JSON does not."""
    typed = [(name, value) for name, value in entity.items() if type(value) not in _PLAIN]
    if not typed:
        return entity
    sent = dict(entity)
    for name, value in typed:
        if isinstance(value, EntityProperty):
            sent[name] = str(value.value)
            sent[f"{name}@odata.type"] = value.edm_type
        elif isinstance(value, datetime):
            sent[name] = f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
            sent[f"{name}@odata.type"] = "Edm.DateTime"
    return sent
