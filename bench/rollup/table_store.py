"""A Table Storage that holds a month: in memory, one process, the few requests that the ledger and the usage table send.

Azurite keeps an entity in a document store of its own and takes some 1,700 a second; a million would need ten minutes to be
put in alone. This answers the same requests by the same protocol, pages of 1,000 and ETags included; `--store azurite` uses
the real one. It is a tool of this bench and no product: what it does not know it refuses with 501.

    GET  /account/Table()?$filter=...     entities, a page at a time; $select is not looked at
    GET  /account/Table(keys)             one entity
    PUT, PATCH, DELETE /account/Table(keys), POST /account/Table and /account/Tables
    POST /account/$batch                  one changeset, all or nothing
    GET  /operations                      how many requests of each kind came
"""

import argparse
import asyncio
import re
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from urllib.parse import unquote

import msgspec
from aiohttp import web

ACCOUNT = "account"
_PAGE = 1000
_KEYS = re.compile(r"\(PartitionKey='((?:[^']|'')*)',RowKey='((?:[^']|'')*)'\)$")
_TERM = re.compile(r"(PartitionKey|RowKey|ClientId) (eq|ge|lt) '((?:[^']|'')*)'")
_PART = re.compile(rb"\r\n\r\n(\w+) (\S+) HTTP/1\.1\r\n(.*?)\r\n\r\n(.*?)\r\n--changeset", re.DOTALL)
_IF_MATCH = re.compile(rb"(?i)if-match: *(\S+)")

type Stored = tuple[str, bytes]
"""An entity: its ETag and its JSON, without the opening brace."""


class Refused(Exception):
    """A status to answer with."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Store:
    """All tables."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, dict[str, Stored]]] = {}
        self._partitions: dict[str, list[str]] = {}
        self._version = 0
        self.operations: Counter[str] = Counter()

    def change(self, table: str, partition: str, row: str, method: str, body: bytes, if_match: str | None) -> str:
        """The ETag of the entity once it is changed. Raises Refused."""
        rows = self._rows(table, partition)
        before = rows.get(row)
        self._check(method, before, if_match)
        if method == "DELETE":
            rows.pop(row, None)
            return ""
        if method in ("PATCH", "MERGE") and before:
            merged = msgspec.json.decode(b"{" + before[1]) | msgspec.json.decode(body)
            body = msgspec.json.encode(merged)
        self._version += 1
        etag = f"W/\"datetime'{self._version}'\""
        keys = msgspec.json.encode({"PartitionKey": partition, "RowKey": row})
        content = body.lstrip()[1:]
        rows[row] = (etag, content if b'"RowKey"' in content else keys[1:-1] + b"," * (len(content) > 1) + content)
        return etag

    def _check(self, method: str, before: Stored | None, if_match: str | None) -> None:
        if method == "POST" and before:
            raise Refused(409)
        if if_match and if_match != "*" and (before is None or before[0] != if_match):
            raise Refused(404 if before is None else 412)
        if method == "DELETE" and before is None:
            raise Refused(404)

    def find(self, table: str, filter_: str, start: tuple[str, str]) -> Iterator[tuple[str, str, Stored]]:
        """The entities that a filter takes, in order, from a place on."""
        terms = [(field, how, text.replace("''", "'")) for field, how, text in _TERM.findall(filter_)]
        if len(terms) != filter_.count(" eq ") + filter_.count(" ge ") + filter_.count(" lt "):
            raise Refused(501)
        names = self._partitions.get(table, [])
        for name in names[bisect_left(names, start[0]) :]:
            if not _takes(terms, "PartitionKey", name):
                continue
            rows = self._tables[table][name]
            for row in sorted(rows):
                if (name, row) >= start and _takes(terms, "RowKey", row):
                    yield name, row, rows[row]

    def _rows(self, table: str, partition: str) -> dict[str, Stored]:
        partitions = self._tables.setdefault(table, {})
        if partition not in partitions:
            partitions[partition] = {}
            insort(self._partitions.setdefault(table, []), partition)
        return partitions[partition]

    def get(self, table: str, partition: str, row: str) -> Stored | None:
        """One entity."""
        return self._tables.get(table, {}).get(partition, {}).get(row)

    def batch(self, body: bytes) -> list[str]:
        """The ETags of a changeset's entities. Raises Refused, and then nothing has changed."""
        changes = []
        for method, address, headers, content in _PART.findall(body):
            table, partition, row = _target(unquote(address.decode()), content)
            matched = _IF_MATCH.search(headers)
            if_match = matched[1].decode() if matched else None
            self._check(method.decode(), self.get(table, partition, row), if_match)
            changes.append((table, partition, row, method.decode(), content, if_match))
        return [self.change(*each) for each in changes]


def _takes(terms: list[tuple[str, str, str]], field: str, value: str) -> bool:
    tests = {"eq": value.__eq__, "ge": value.__ge__, "lt": value.__lt__}
    return all(tests[how](text) for name, how, text in terms if name == field)


def _target(address: str, content: bytes) -> tuple[str, str, str]:
    named = address.rpartition("/")[2]
    if keys := _KEYS.search(named):
        return named[: keys.start()], keys[1].replace("''", "'"), keys[2].replace("''", "'")
    entity = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    partition, row = (msgspec.json.decode(entity[name], type=str) for name in ("PartitionKey", "RowKey"))
    return named, partition, row


def application(store: Store) -> web.Application:
    """The server."""

    async def handle(request: web.Request) -> web.Response:
        name = unquote(request.path).rpartition("/")[2]
        try:
            return await _answer(store, request, name)
        except Refused as refused:
            error = {
                "odata.error": {"code": _CODES.get(refused.status, "NotImplemented"), "message": {"value": "refused"}}
            }
            return web.json_response(error, status=refused.status)

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_get("/operations", lambda _: _counted(store))
    app.router.add_route("*", "/{tail:.*}", handle)
    return app


_CODES = {404: "ResourceNotFound", 409: "EntityAlreadyExists", 412: "UpdateConditionNotSatisfied"}


async def _counted(store: Store) -> web.Response:
    return web.json_response(dict(store.operations))


async def _answer(store: Store, request: web.Request, name: str) -> web.Response:
    if name == "Tables":
        return web.json_response({"TableName": "made"}, status=201)
    if name == "$batch":
        body = await request.read()
        store.operations["transactions"] += 1
        return _multipart(store, body)
    if request.method == "GET":
        store.operations["reads"] += 1
        return _entity(store, name) if _KEYS.search(name) else _page(store, request, name)
    store.operations["single writes"] += 1
    body = await request.read()
    table, partition, row = _target(name, body)
    etag = store.change(table, partition, row, request.method, body, request.headers.get("If-Match"))
    return web.Response(status=204, headers={"etag": etag} if etag else {})


def _entity(store: Store, name: str) -> web.Response:
    found = store.get(*_target(name, b""))
    if found is None:
        raise Refused(404)
    body = b'{"odata.etag":%s,' % msgspec.json.encode(found[0]) + found[1]
    return web.Response(body=body, content_type="application/json", headers={"etag": found[0]})


def _page(store: Store, request: web.Request, name: str) -> web.Response:
    query = request.query
    start = query.get("NextPartitionKey", ""), query.get("NextRowKey", "")
    found = store.find(name.partition("(")[0], query.get("$filter", ""), start)
    entities: list[bytes] = []
    headers = {}
    for partition, row, (etag, content) in found:
        if len(entities) == _PAGE:
            headers = {"x-ms-continuation-NextPartitionKey": partition, "x-ms-continuation-NextRowKey": row}
            break
        entities.append(b'{"odata.etag":%s,' % msgspec.json.encode(etag) + content)
    body = b'{"value":[' + b",".join(entities) + b"]}"
    return web.Response(body=body, content_type="application/json", headers=headers)


def _multipart(store: Store, body: bytes) -> web.Response:
    try:
        parts = [f"HTTP/1.1 204 No Content\r\nETag: {etag}\r\n\r\n" for etag in store.batch(body)]
    except Refused as refused:
        parts = [f"HTTP/1.1 {refused.status} Refused\r\n\r\n{{}}"]
    inner = "".join(f"--changesetresponse\r\nContent-Type: application/http\r\n\r\n{part}\r\n" for part in parts)
    text = (
        "--batchresponse\r\nContent-Type: multipart/mixed; boundary=changesetresponse\r\n\r\n"
        f"{inner}--changesetresponse--\r\n--batchresponse--\r\n"
    )
    return web.Response(
        status=202, body=text.encode(), headers={"Content-Type": "multipart/mixed; boundary=batchresponse"}
    )


async def _serve() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    runner = web.AppRunner(application(Store()), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", parser.parse_args().port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
