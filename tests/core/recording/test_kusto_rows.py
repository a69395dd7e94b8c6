"""Rows of Data Explorer: what becomes of a call, and that the table is as the rows are."""

import json
import re
from datetime import datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from shared.core.call_record import CallRecord
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.kusto_rows import _CALLED_OTHERWISE, COLUMNS, TEXT_LIMIT, Row, json_lines, row_of
from shared.core.usage import TokenUsage
from tests.examples import archived, closed_record

TABLES = Path(__file__).parents[3] / "queries" / "tables.kql"
KUSTO_TYPES = {str: "string", int: "long", bool: "bool", datetime: "datetime"}
NARROWER = {"Status": "int", "RecordVersion": "int"}

CHAT = b'{"model":"gpt-4o","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]}'
ANSWER = b'{"choices":[{"index":0,"message":{"content":"Hello"},"finish_reason":"stop"},{"index":1,"message":{"refusal":"No"}}]}'


def row(request: bytes = CHAT, response: bytes = ANSWER, **fields: Any) -> Row:
    return row_of(ArchivedCall(record=closed_record(**fields), request=request, response=response))


def declared() -> dict[str, str]:
    """The table's columns and their types, in order."""
    table = TABLES.read_text(encoding="utf-8").partition(".create-merge table CallRecords (")[2].partition(")")[0]
    return dict(re.findall(r"(\w+): (\w+)", table))


def kusto_type(hint: Any) -> str:
    (kind,) = set(get_args(hint) if isinstance(hint, UnionType) else (hint,)) - {NoneType}
    return KUSTO_TYPES.get(kind, "dynamic")


def test_the_table_has_the_columns_of_a_row() -> None:
    hints = get_type_hints(Row)
    types = {
        column: NARROWER.get(column, kusto_type(hints[field]))
        for field, column in zip(Row.__struct_fields__, COLUMNS, strict=True)
    }
    assert declared() == types
    assert tuple(declared()) == COLUMNS


def test_a_row_has_all_that_a_record_has() -> None:
    """A field that is added to the record is noticed here."""
    elsewhere = {"model", "model_served", "usage", "response_encoding", "response_parent", "trace", *_CALLED_OTHERWISE}
    assert set(CallRecord.__struct_fields__) - elsewhere <= set(Row.__struct_fields__)
    assert set(TokenUsage.__struct_fields__) <= set(Row.__struct_fields__)


def test_what_was_said_is_in_the_messages() -> None:
    given = json.loads(msgspec.json.encode(row()))
    assert given["RequestMessages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    assert given["ResponseMessages"] == [
        {"role": "assistant", "content": "Hello", "finish_reason": "stop"},
        {"role": "assistant", "content": "", "refusal": "No"},
    ]


def test_an_operation_that_is_not_in_the_catalogue_has_a_row_without_messages() -> None:
    given = row(operation="unknown")
    assert (given.operation_name, given.request_messages, given.response_messages) == ("unknown", (), ())


TOTALS: dict[str, tuple[TokenUsage | None, int | None]] = {
    "both are known": (TokenUsage(input_tokens=3, output_tokens=4), 7),
    "there is no output": (TokenUsage(input_tokens=3), 3),
    "nothing is known": (None, None),
    "nothing was used": (TokenUsage(input_tokens=0, output_tokens=0), 0),
}


@pytest.mark.parametrize(("usage", "total"), TOTALS.values(), ids=TOTALS)
def test_the_total_is_of_what_is_known(usage: TokenUsage | None, total: int | None) -> None:
    """Guards that unknown is not zero."""
    assert row(usage=usage).total_tokens == total


SPILLOVER: dict[str, tuple[dict[str, str], bool]] = {
    "said so": ({"x-ms-is-spilled-over": "True", "x-ms-spillover-from-deployment": "ptu"}, True),
    "only from where": ({"x-ms-spillover-from-deployment": "ptu"}, True),
    "said no": ({"x-ms-is-spilled-over": "false", "x-ms-spillover-from-deployment": "ptu"}, False),
    "nothing said": ({}, False),
}


@pytest.mark.parametrize(("headers", "spilled"), SPILLOVER.values(), ids=SPILLOVER)
def test_spillover_is_read_from_the_headers(headers: dict[str, str], spilled: bool) -> None:
    given = row(response_headers=headers)
    assert given.is_spilled_over is spilled
    assert given.spillover_from == headers.get("x-ms-spillover-from-deployment")


def test_the_model_asked_for_stands_in_for_one_that_nobody_named() -> None:
    assert row(model_served=None).model_name == row().model_asked == "gpt-4o"
    assert row().model_name == "gpt-4o-2024-11-20"


def test_messages_too_long_for_a_row_say_that_they_were_cut() -> None:
    long = b'{"messages":[{"role":"user","content":"%b"},{"role":"user","content":"after"}]}' % (
        b"x" * (TEXT_LIMIT + 1)
    )
    (message,) = row(request=long).request_messages
    assert message.content.startswith("x" * TEXT_LIMIT + "[cut: ")
    assert len(message.content) < TEXT_LIMIT + 100


HOSTILE = {"no JSON": b"\xff\xfe", "nothing": b"", "deep": b"[" * 100_000, "another type": b'{"messages": 7}'}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_bodies_that_cannot_be_read_leave_the_rest_of_the_row(body: bytes) -> None:
    assert row(request=body, response=body).input_tokens == 10


def test_lines_are_json_whatever_the_text_holds() -> None:
    hostile = json.dumps({"messages": [{"role": "user", "content": "a\nb\u2028c\u0000"}]}).encode()
    lines = json_lines([row(request=hostile), row()]).split(b"\n")
    assert [json.loads(line)["CallId"] for line in lines[:2]] == [closed_record().call_id] * 2
    assert lines[2] == b""


def test_the_same_call_gives_the_same_row() -> None:
    assert json_lines([row_of(archived())]) == json_lines([row_of(archived())])
