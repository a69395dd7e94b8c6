"""Calls as rows of an evaluation dataset."""

from typing import Any

import msgspec
import pytest

from shared.core.reports.evaluation import COLUMNS, evaluation_row
from tests.examples import archived

ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "At the pier."}}]}
REFUSED = {"choices": [{"index": 0, "message": {"role": "assistant", "content": None, "refusal": "No."}}]}


def messages(*said: tuple[str, str]) -> bytes:
    return msgspec.json.encode({"messages": [{"role": role, "content": content} for role, content in said]})


ROWS: dict[str, tuple[bytes, Any, tuple[str, str, str]]] = {
    "a question": (messages(("user", "Where?")), ANSWER, ("Where?", "At the pier.", "")),
    "a system prompt is the context": (
        messages(("system", "Be brief."), ("user", "Where?")),
        ANSWER,
        ("Where?", "At the pier.", "Be brief."),
    ),
    "the last of a conversation, after all of it": (
        messages(
            ("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Where?"), ("tool", "pier 4")
        ),
        ANSWER,
        ("Where?", "At the pier.", "system: Be brief.\n\nuser: Hi\n\nassistant: Hello\n\ntool: pier 4"),
    ),
    "a refusal": (messages(("user", "Where?")), REFUSED, ("Where?", "No.", "")),
}


@pytest.mark.parametrize(("request_", "response", "expected"), ROWS.values(), ids=ROWS.keys())
def test_a_call_is_what_was_asked_answered_and_known(request_: bytes, response: Any, expected: tuple[str, ...]) -> None:
    call = archived(1, request_, msgspec.json.encode(response))
    row = evaluation_row(call)
    assert row is not None
    assert (row.query, row.response, row.context) == expected
    assert (row.ground_truth, row.call_id) == ("", call.record.call_id)


def test_a_stream_is_a_row_too() -> None:
    stream = b"".join(b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % said for said in (b"At ", b"4"))
    row = evaluation_row(archived(1, messages(("user", "Where?")), stream))
    assert row is not None
    assert row.response == "At 4"


NONE = {
    "content was not kept": (b"", b""),
    "nobody asked": (messages(("system", "Be brief.")), msgspec.json.encode(ANSWER)),
    "nobody answered": (messages(("user", "Where?")), b'{"error":{"message":"no"}}'),
    "bodies that cannot be read": (b"{", b"\xff"),
}


@pytest.mark.parametrize(("request_", "response"), NONE.values(), ids=NONE.keys())
def test_a_call_of_which_one_side_is_unknown_makes_no_row(request_: bytes, response: bytes) -> None:
    assert evaluation_row(archived(1, request_, response)) is None


def test_the_columns_are_those_of_foundry_and_where_the_row_comes_from() -> None:
    assert COLUMNS == ("query", "response", "context", "ground_truth", "call_id")
