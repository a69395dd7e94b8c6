"""Ids of stored objects are found however a client disguises them."""

from datetime import timedelta

import pytest

from shared.core.api.references import (
    ids_in,
    ids_in_form,
    ids_in_path,
    items_missing_in,
    items_named_in,
    items_told_in,
    lifetime,
)

ID = "file-abc123XYZ"
FOUND = {
    "plain": b'{"file":"file-abc123XYZ"}',
    "with escapes": rb'{"file":"\u0066ile\u002dabc12\u0033XY\u005A"}',
    "with escapes in a text that is not quite JSON": rb'{"x":NaN,"file":"\u0066ile-abc123XYZ",}',
    "beside half a surrogate pair": rb'{"x":"\ud800","file":"\u0066ile-abc123XYZ"}',
    "beside bytes that are no text": b'{"x":"\xff","file":"file-abc123XYZ"}',
    "in an array": b'{"file_ids":["x", "file-abc123XYZ"]}',
}


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND.keys())
def test_an_id_is_found(text: bytes) -> None:
    assert ids_in(text) == {ID}


NOT_FOUND = {
    "within a text": b'{"content":"see file-abc123XYZ"}',
    "quoted within a text": rb'{"content":"see \"file-abc123XYZ\""}',
    "quoted with escapes": rb'{"content":"see \u0022file-abc123XYZ\u0022"}',
    "another kind": b'["note-abc123XYZ"]',
    "the name of a tool": b'["file_search", "file_search_call", "run_terminal_command", "batch-of-things"]',
}


@pytest.mark.parametrize("text", NOT_FOUND.values(), ids=NOT_FOUND.keys())
def test_a_text_that_contains_an_id_is_text(text: bytes) -> None:
    assert ids_in(text) == frozenset()


FORMS = {
    "a field": b'--b\r\nContent-Disposition: form-data; name="file_id"\r\n\r\nfile-abc123XYZ\r\n--b--\r\n',
    "JSON where a form was expected": b' {"file_id": "file-abc123XYZ"}',
}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS.keys())
def test_an_id_in_a_form_is_found(body: bytes) -> None:
    assert ids_in_form(body) == {ID}


def test_a_file_that_holds_ids_is_a_file() -> None:
    part = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n{"a":"file-abc123XYZ"}\r\n--b--\r\n'
    )
    assert ids_in_form(part) == frozenset()


def test_an_id_in_a_path_is_a_whole_segment() -> None:
    assert ids_in_path(f"things/{ID}/vs_0123456789abcdef/file_search/x{ID}") == {ID, "vs_0123456789abcdef"}


ITEM = "msg_67ccd2bf17f0819081ff3bb2cf6508e6"


def test_an_item_is_found_in_a_request_wherever_it_stands() -> None:
    for text in (f'["{ITEM}"]', f'{{"input":[{{"id" : "{ITEM}"}}]}}', f'{{"x":"\\u006d{ITEM[1:]}"}}'):
        assert items_named_in(text.encode()) == {ITEM}


def test_what_is_no_item_is_not_looked_for() -> None:
    for text in ('"call_67ccd2bf17f0819081ff3bb2cf6508e6"', '"get_weather_of_everywhere"', '"msg_1"', f'"see {ITEM}"'):
        assert items_named_in(text.encode()) == frozenset()


def test_an_answer_tells_of_an_item_by_its_id() -> None:
    events = f'data: {{"item_id":"{ITEM}x"}}\n\ndata: {{"item":{{"id": "{ITEM}","call_id":"{ITEM}y"}}}}\n\n'
    assert items_told_in(events.encode()) == {ITEM}


MISSING = {
    "referred to": ('[{"type":"item_reference","id":"msg_1"}]', {"msg_1"}),
    "referred to without a type": ('[{"id":"msg_1"},{"id":"msg_2","type":null}]', {"msg_1", "msg_2"}),
    "reasoning that is kept upstream": ('[{"type":"reasoning","id":"rs_1","summary":[]}]', {"rs_1"}),
    "reasoning that is sealed": ('[{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"x"}]', set()),
    "a picture that is kept upstream": ('[{"type":"image_generation_call","id":"ig_1"}]', {"ig_1"}),
    "a picture": ('[{"type":"image_generation_call","id":"ig_1","result":"AA=="}]', set()),
    "a message": ('[{"role":"assistant","content":"x","id":"msg_1"}]', set()),
    "a call": ('[{"type":"function_call","id":"fc_1","call_id":"c","name":"n","arguments":"{}"}]', set()),
    "an approval": ('[{"type":"mcp_approval_response","approval_request_id":"mcpr_1","approve":true}]', {"mcpr_1"}),
    "an approval of what is here": (
        '[{"type":"mcp_approval_request","id":"mcpr_1"},{"type":"mcp_approval_response","approval_request_id":"mcpr_1"}]',
        set(),
    ),
    "a text": ('"hello"', set()),
    "nothing": ("", set()),
}


@pytest.mark.parametrize(("given", "missing"), MISSING.values(), ids=MISSING.keys())
def test_items_that_are_not_said_have_to_be_known(given: str, missing: set[str]) -> None:
    assert items_missing_in(given.encode()) == missing


def test_an_item_lives_as_long_as_what_it_is_in() -> None:
    assert lifetime(ITEM) == lifetime("resp_1") == timedelta(days=31)
    assert lifetime(ITEM, in_conversation=True) is None
    assert lifetime("resp_1", in_conversation=True) == timedelta(days=31)


def test_a_container_that_is_used_on_stays_its_owners() -> None:
    """It ends minutes after its last use, of which none is noted here."""
    life = lifetime("cntr_1")
    assert life is not None
    assert life >= timedelta(days=1)
