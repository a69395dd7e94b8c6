"""A Kusto database in DuckDB: tables, ingestion by JSON mapping, and KQL that is answered right or refused.

DuckDB runs what duckdb-kql translates; what it does not know it refuses, and so does this. Of the management commands,
those that shape data are carried out (tables, mappings, functions, update policies, materialized views as plain views)
and the rest of `.create`, `.alter`, `.delete` and `.enable` (policies, row-level security, ...) is accepted unread.
https://learn.microsoft.com/kusto/management/
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import duckdb_kql
import msgspec
from duckdb_kql.errors import KqlError
from duckdb_kql.server import RestColumn, Result
from duckdb_kql.stored_functions import ResolvedFunctions, StoredFunction, parse_functions
from duckdb_kql.types import kusto_type

_DUCKDB_TYPES = {
    "string": "VARCHAR",
    "long": "BIGINT",
    "int": "INTEGER",
    "real": "DOUBLE",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "datetime": "TIMESTAMP",
    "dynamic": "JSON",
    "decimal": "DECIMAL(38, 10)",
    "guid": "UUID",
    "timespan": "INTERVAL",
}
_NAME = r"(?:\[['\"](?P<{0}q>[^'\"]+)['\"]\]|(?P<{0}>[\w-]+))"
_NOT_FOUND = "BadRequest_EntityNotFound"
_COMMANDS = re.compile(r"(?m)^(?=\.)")  # a command starts in column 0; the lines of a body do not start with a dot
_lines: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_STEP = re.compile(r"\.?(?:(\w+)|\['([^']+)'\]|\[(\d+)\])")


class KustoError(Exception):
    """What the service answers with 400: an error code such as BadRequest_EntityNotFound, and what was wrong."""

    def __init__(self, message: str, code: str = "General_BadRequest") -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Table:
    """Columns as (name, Kusto type); mappings as (column, JSON path); update policies as (source, query)."""

    columns: dict[str, str]
    mappings: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    updates: list[tuple[str, str]] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)


class Store:
    """One database. Not thread-safe."""

    def __init__(self) -> None:
        self._duckdb = duckdb_kql.connect()
        self._functions: dict[str, StoredFunction] = {}
        self.tables: dict[str, Table] = {}
        patterns: dict[str, Callable[[re.Match[str]], Result | None]] = {
            rf"\.create(-merge|-or-alter)? table {_NAME.format('t')} *\((?P<columns>[^)]*)\).*": self._create_table,
            rf"\.create(-or-alter)? table {_NAME.format('t')} ingestion json mapping ['\"](?P<m>.*?)['\"] *(?P<json>.*)": (
                self._create_mapping
            ),
            r"\.create(-or-alter)? function (with\s*\([^)]*\)\s*)?(?P<rest>(?P<name>\w+)\s*\(.*)": self._create_function,
            rf"\.alter table {_NAME.format('t')} policy update (?P<json>.*)": self._alter_update,
            r"\.create(-or-alter)? (async )?(ifnotexists )?materialized-view (async )?(ifnotexists )?(with\s*\([^)]*\)\s*)?"
            r"(?P<name>\w+)\s+on table \w+\s*\{(?P<query>.*)\}": self._create_view,
            r"\.execute database script.*?<\|(?P<script>.*)": self._run_script,
            rf"\.delete table {_NAME.format('t')} records <\| *(?P<query>.*)": self._delete_records,
            rf"\.show table {_NAME.format('t')} ingestion json mappings": self._show_mappings,
            r"\.(create|alter|delete|enable|drop)\b.*": lambda _: None,
        }
        self._commands = {re.compile(text, re.DOTALL | re.IGNORECASE): run for text, run in patterns.items()}

    def close(self) -> None:
        """Free the database."""
        self._duckdb.close()

    def manage(self, command: str) -> Result:
        """Carry out a management command. Raises KustoError."""
        flat = re.sub(r"^\.[^({<|]*", lambda head: re.sub(r"\s+", " ", head[0]), command.strip())
        for pattern, run in self._commands.items():
            if match := pattern.fullmatch(flat):
                try:
                    return run(match) or Result([], [])
                except (KqlError, duckdb.Error, ValueError, LookupError) as error:
                    raise KustoError(f"{flat.splitlines()[0]}: {error}", "BadRequest_SyntaxError") from error
        return self.query(command)  # .show, .set-or-append and their like are duckdb-kql's

    def query(self, kql: str, parameters: dict[str, Any] | None = None) -> Result:
        """Answer a KQL query. Raises KustoError, also for what duckdb-kql refuses."""
        try:
            relation = self._relation(kql, parameters)
            columns = [
                RestColumn.derived(name, kusto_type(kind))
                for name, kind in zip(relation.columns, relation.types, strict=True)
            ]
            return Result(columns, relation.fetchall())
        except (KqlError, duckdb.Error) as error:
            raise KustoError(f"Semantic error: {error}", "BadRequest_SemanticError") from error

    def ingest(self, table_name: str, data: bytes, mapping_name: str | None, tags: Sequence[str] = ()) -> int:
        """Store JSON records (multijson: one after another, or an array) and run update policies. Returns the count."""
        table = self._table(table_name)
        if mapping_name is not None and mapping_name not in table.mappings:
            raise KustoError(f"Entity ID '{mapping_name}' of kind 'MappingPersistent' was not found.", _NOT_FOUND)
        mapping = table.mappings[mapping_name] if mapping_name else [(name, f"$['{name}']") for name in table.columns]
        try:
            rows = [{column: _walk(record, path) for column, path in mapping} for record in _records(data)]
        except ValueError as error:
            raise KustoError(f"Stream_WrongNumberOfFields: not JSON: {error}", "BadRequest_InvalidBlob") from error
        cells = [{name: _cell(row.get(name), kind) for name, kind in table.columns.items()} for row in rows]
        shape = [{name: _DUCKDB_TYPES[kind] for name, kind in table.columns.items()}]
        # The new rows hide the table while its update policies run: they see only what has just arrived.
        self._duckdb.execute(
            f'CREATE TEMP TABLE "{table_name}" AS SELECT unnest(from_json(?, ?), recursive := true)',
            [msgspec.json.encode(cells).decode(), json.dumps(shape)],
        )
        try:
            self._duckdb.execute(f'INSERT INTO memory.main."{table_name}" BY NAME SELECT * FROM temp."{table_name}"')
            for target, query in self._updates_from(table_name):
                self._relation(query).create("_update")
                self._duckdb.execute(f'INSERT INTO "{target}" BY NAME SELECT * FROM _update')
                self._duckdb.execute("DROP TABLE _update")
        finally:
            self._duckdb.execute(f'DROP TABLE temp."{table_name}"')
        table.tags.update(tags)
        return len(rows)

    def load(self, table_name: str, files: Sequence[Path]) -> None:
        """Add rows from files whose lines are JSON objects with the table's columns: no mapping, no policies, and fast."""
        columns = {name: _DUCKDB_TYPES[kind] for name, kind in self._table(table_name).columns.items()}
        texts = [name for name, kind in columns.items() if kind == "VARCHAR"]
        replaced = ", ".join(f'coalesce("{name}", \'\') AS "{name}"' for name in texts)  # Kusto has no null string
        self._duckdb.execute(
            f'INSERT INTO "{table_name}" BY NAME SELECT * REPLACE ({replaced}) FROM'
            " read_json($1, format = 'newline_delimited', columns = $2, maximum_object_size = 67108864)",
            [[str(file) for file in files], columns],
        )

    def retain(self, table_name: str, column: str, values: Iterable[str]) -> None:
        """Take out the rows whose column has none of these values."""
        self._duckdb.execute(f'DELETE FROM "{table_name}" WHERE NOT list_contains(?, "{column}")', [list(values)])

    def rows(self, table_name: str) -> list[dict[str, Any]]:
        """All rows of a table; dynamic values as JSON text."""
        cursor = self._duckdb.execute(f'SELECT * FROM "{table_name}"')
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def clear(self, table_name: str) -> None:
        """Take out every row of a table, and forget the tags of their batches."""
        self._duckdb.execute(f'DELETE FROM "{table_name}"')
        self._table(table_name).tags.clear()

    def has_any_tag(self, table_name: str, tags: Sequence[str]) -> bool:
        """Whether an earlier ingestion carried one of these tags."""
        return not self._table(table_name).tags.isdisjoint(tags)

    # ---- commands

    def _create_table(self, command: re.Match[str]) -> None:
        name = command["t"] or command["tq"]
        declared = (part.split(":", 1) for part in command["columns"].split(",") if part.strip())
        columns = {column.strip().strip("[]'\""): kind.strip().lower() for column, kind in declared}
        table = self.tables.setdefault(name, Table({}))
        definition = ", ".join(f'"{column}" {_DUCKDB_TYPES[kind]}' for column, kind in columns.items())
        self._duckdb.execute(f'CREATE TABLE IF NOT EXISTS "{name}" ({definition})')
        for column, kind in columns.items():
            self._duckdb.execute(f'ALTER TABLE "{name}" ADD COLUMN IF NOT EXISTS "{column}" {_DUCKDB_TYPES[kind]}')
        table.columns |= columns

    def _create_mapping(self, command: re.Match[str]) -> None:
        entries = _literal(command["json"])
        self._table(command["t"] or command["tq"]).mappings[command["m"]] = [
            (
                entry["column"],
                entry.get("path") or (entry.get("Properties") or {}).get("Path") or f"$['{entry['column']}']",
            )
            for entry in entries
        ]

    def _show_mappings(self, command: re.Match[str]) -> Result:
        names = self._table(command["t"] or command["tq"]).mappings
        return Result([RestColumn.derived("Name", "string")], [(name,) for name in names])

    def _create_function(self, command: re.Match[str]) -> None:
        self._functions |= _parsed(f"function {command['rest']}")

    def _alter_update(self, command: re.Match[str]) -> None:
        policies = [policy for policy in _literal(command["json"]) if policy.get("IsEnabled", True)]
        table = self._table(command["t"] or command["tq"])
        table.updates = [(policy["Source"], policy["Query"]) for policy in policies]

    def _create_view(self, command: re.Match[str]) -> None:
        self._relation(command["query"]).create_view(command["name"])

    def _delete_records(self, command: re.Match[str]) -> None:
        """Soft delete of calls: the query says which. A view is plain here, and has them no more than its table."""
        name = command["tq"] or command["t"]
        ids = [call_id for (call_id,) in self._relation(f"{command['query']} | project CallId").fetchall()]
        self._duckdb.execute(f'DELETE FROM "{name}" WHERE list_contains(?, "CallId")', [ids])

    def _run_script(self, command: re.Match[str]) -> None:
        for part in _COMMANDS.split(command["script"]):
            if part.strip().startswith("."):
                self.manage(re.sub(r"(?m)^//.*$", "", part))

    # ---- helpers

    def _relation(self, kql: str, parameters: dict[str, Any] | None = None) -> duckdb.DuckDBPyRelation:
        functions: ResolvedFunctions = {None: self._functions}
        return duckdb_kql.kql(self._duckdb, kql, parameters, functions=functions)

    def _table(self, name: str) -> Table:
        if name not in self.tables:
            raise KustoError(f"Entity ID '{name}' of kind 'Table' was not found.", _NOT_FOUND)
        return self.tables[name]

    def _updates_from(self, source: str) -> Iterable[tuple[str, str]]:
        return [(name, query) for name, table in self.tables.items() for of, query in table.updates if of == source]


@functools.cache
def _parsed(definition: str) -> Mapping[str, StoredFunction]:
    """By name. Parsing takes a tenth of a second or more, so it is done once, however many databases have the function."""
    return (parse_functions([definition]) or {})[None]


def _literal(text: str) -> Any:
    """The JSON in one or more KQL string literals, or between ``` fences."""
    stripped = text.strip()
    if stripped.startswith("```"):
        return json.loads(stripped.strip("`"))
    verbatim = re.sub(r"(?s)@'((?:[^']|'')*)'|'((?:[^'\\\\]|\\\\.)*)'", _unquote, stripped)
    return json.loads(re.sub(r"(?s)\s*with\s*\(.*\)\s*$", "", verbatim))


def _unquote(literal: re.Match[str]) -> str:
    verbatim, plain = literal.groups()
    return verbatim.replace("''", "'") if verbatim is not None else re.sub(r"\\(.)", r"\1", plain)


def _records(data: bytes) -> Iterable[Any]:
    try:
        return [part for line in _lines.decode_lines(data) for part in (line if isinstance(line, list) else [line])]
    except msgspec.DecodeError:  # one line may hold several, and one may go over many lines
        return _one_after_another(data)


def _one_after_another(data: bytes) -> Iterator[Any]:
    text, decoder, at = data.decode("utf-8-sig"), json.JSONDecoder(), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        value, at = decoder.raw_decode(text, at)
        yield from value if isinstance(value, list) else [value]


def _walk(record: Any, path: str) -> Any:
    """The value at a JSON path such as $.a.b, $['a b'] or $.a[0]; None when there is none."""
    for name, quoted, index in _STEP.findall(path.removeprefix("$")):
        if index:
            record = record[int(index)] if isinstance(record, list) and int(index) < len(record) else None
        else:
            record = record.get(name or quoted) if isinstance(record, dict) else None
    return record


def _cell(value: Any, kind: str) -> Any:
    """A value as its column keeps it: Kusto has no null string, and keeps documents as their text."""
    if kind != "string":
        return value
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
