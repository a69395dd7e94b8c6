"""Ids of stored objects are found however a client disguises them."""

import pytest

from shared.core.api.references import ids_in, ids_in_form, ids_in_path

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
