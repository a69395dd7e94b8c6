"""Models that are named deep inside a request, or in the lines of a file."""

import json
from typing import Any

import pytest

from shared.core.api.named_models import LineReader, lines_renamed, renamed
from shared.core.errors import BadRequest, NotFound

TRANSLATED = {"gpt-4o": "prod-4o", "o4-mini": "o4-mini"}


def rename(name: str) -> str:
    if name not in TRANSLATED:
        raise NotFound(f"The model '{name}' does not exist")
    return TRANSLATED[name]


CASES: dict[str, tuple[str, Any, Any]] = {
    "at the top": ("model", {"model": "gpt-4o", "x": 1}, {"model": "prod-4o", "x": 1}),
    "deep": ("a.b.model", {"a": {"b": {"model": "gpt-4o"}, "c": [1]}}, {"a": {"b": {"model": "prod-4o"}, "c": [1]}}),
    "in each item": (
        "graders.*.model",
        {"graders": [{"model": "gpt-4o"}, {"type": "python"}, {"model": "o4-mini"}]},
        {"graders": [{"model": "prod-4o"}, {"type": "python"}, {"model": "o4-mini"}]},
    ),
}


@pytest.mark.parametrize(("path", "before", "after"), CASES.values(), ids=CASES.keys())
def test_a_model_gets_the_upstreams_name_where_it_stands(path: str, before: Any, after: Any) -> None:
    text = renamed(json.dumps(before).encode(), (tuple(path.split(".")),), rename)
    assert json.loads(text) == after


UNCHANGED = {
    "the same name": b'{ "model": "o4-mini" }',
    "none": b'{ "messages": [] }',
    "null": b'{ "model": null }',
    "no text": b'{ "model": 4 }',
    "no object": b"[1, 2]",
    "no JSON": b'{ "model": "gpt-4o" ',
    "nothing": b"",
}


@pytest.mark.parametrize("body", UNCHANGED.values(), ids=UNCHANGED.keys())
def test_what_needs_no_change_stays_byte_for_byte(body: bytes) -> None:
    assert renamed(body, (("model",), ("model", "x"), ("model", "*", "y")), rename) is body


def test_one_that_may_not_be_used_is_refused_wherever_it_stands() -> None:
    with pytest.raises(NotFound, match="gpt-9"):
        renamed(b'{"data_source":{"model":"gpt-9"}}', (("data_source", "model"),), rename)


@pytest.mark.parametrize("body", [b'{"model":"gpt-9","model":"o4-mini"}', b'{"model":"gpt-9","mod\\u0065l":"o4-mini"}'])
def test_a_name_that_stands_twice_reaches_the_upstream_as_it_was_read(body: bytes) -> None:
    """Guards that an upstream that takes the first of them does not get one that was not checked."""
    assert renamed(body, (("model",),), rename) == b'{"model":"o4-mini"}'


def line(model: str, **fields: Any) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": 'say "model" twice: "model"'}]}
    return json.dumps({"custom_id": "1", "url": "/v1/chat/completions", "body": body, **fields}).encode()


def form(*lines: bytes, end: bytes = b"\n") -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n'
    return head + end.join(lines) + b"\r\n--b--\r\n"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
def test_each_line_of_a_batch_file_is_translated(end: bytes) -> None:
    content = lines_renamed(form(line("gpt-4o"), line("o4-mini"), line("gpt-4o"), end=end), rename)
    models = [json.loads(each)["body"]["model"] for each in content.split(b"\n") if each.startswith(b"{")]
    assert models == ["prod-4o", "o4-mini", "prod-4o"]
    assert content.count(b"\n") == form(line("x"), line("x"), line("x"), end=end).count(b"\n")
    assert content.endswith(b"\r\n--b--\r\n")


def read_along(content: bytes, size: int) -> None:
    """The content as it passes, in chunks of that size."""
    reader = LineReader(rename)
    for start in range(0, len(content), size):
        reader.feed(content[start : start + size])
    reader.end()


OTHER_ENDS = [b"\r", b"\r\r", b"\x0b", b"\x1e", "\x85".encode(), "\u2028".encode()]


@pytest.mark.parametrize("end", OTHER_ENDS)
def test_lines_that_only_some_readers_tell_apart_are_read_too(end: bytes) -> None:
    """Python's `splitlines` ends a line at each of these."""
    content = lines_renamed(form(line("gpt-4o"), line("o4-mini"), line("gpt-4o"), end=end), rename)
    _, body = content.split(b"\r\n\r\n")
    lines = body.removesuffix(b"\r\n--b--\r\n").decode().splitlines()
    assert [json.loads(each)["body"]["model"] for each in lines if each] == ["prod-4o", "o4-mini", "prod-4o"]
    with pytest.raises(NotFound, match="gpt-9"):
        lines_renamed(form(line("o4-mini"), line("gpt-9"), end=end), rename)


def test_a_line_end_within_a_line_hides_no_model() -> None:
    """Guards that what is white space for one reader is looked at by the other's rule too."""
    for text in (
        b'{"body":\r{"model":"gpt-9"}}',
        b'{"a":\r{"body":{"model":"gpt-9"}}\r,"body":{"model":"o4-mini"}}',
    ):
        with pytest.raises(NotFound, match="gpt-9"):
            lines_renamed(text, rename)


@pytest.mark.parametrize("end", OTHER_ENDS)
@pytest.mark.parametrize("size", [1 << 20, (1 << 20) - 1])
def test_a_file_that_passes_hides_no_line_behind_what_is_not_held(end: bytes, size: int) -> None:
    hidden = b"x" * (9 * (1 << 20) - len(end)) + end + line("gpt-9") + end
    with pytest.raises((NotFound, BadRequest), match=r"gpt-9|longer than"):
        read_along(hidden, size)


def test_a_batch_file_that_needs_no_change_stays_byte_for_byte() -> None:
    for content in (form(line("o4-mini"), b"{ broken", b"[]"), form(b'{"messages": []}'), b"\x89PNG\r\n\x1a\n{"):
        assert lines_renamed(content, rename) is content


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_a_file_that_passes_is_read_however_it_is_cut(size: int) -> None:
    content = form(line("o4-mini"), line("gpt-9"))

    with pytest.raises(NotFound, match="gpt-9"):
        read_along(content, size)
    with pytest.raises(NotFound, match="gpt-9"):
        read_along(content.removesuffix(b"\r\n--b--\r\n"), size)
    with pytest.raises(BadRequest, match="split it"):
        read_along(form(line("gpt-4o")), size)
    read_along(form(line("o4-mini"), line("o4-mini")), size)


def test_what_is_no_batch_file_is_not_held() -> None:
    reader = LineReader(rename)
    for _ in range(40):
        reader.feed(b"x" * (1 << 20))
    assert len(reader._rest) <= 9 << 20
    with pytest.raises(BadRequest, match="longer than"):
        reader.feed(b"\n{" + b"x" * (1 << 23))


def test_a_file_of_countless_models_is_refused() -> None:
    with pytest.raises(BadRequest, match="more than 100 models"):
        lines_renamed(form(*(line(f"m-{number}") for number in range(101))), lambda name: name)


HOSTILE = {
    "lines": b'{"body":{"model":"o4-mini"}}\n',
    "lines for some readers": b'{"body":{"model":"o4-mini"}}\r',
    "lines that cannot be read": b'{"body":{"model":"o4-mini"}x\n',
    "names twice": b'{"body":{"model":"o4-mini","model":"o4-mini"}}\n',
    "names in escapes": b'{"body":{"mod\\u0065l":"o4-mini"}}\n',
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_file_of_more_lines_than_any_batch_has_is_refused(line: bytes) -> None:
    with pytest.raises(BadRequest, match="split it"):
        lines_renamed(line * 100_001, rename)


PLAIN = {
    "another language": b'{"body":{"model":"gpt-4o","input":"caf\\u00e9 \\ud83d\\ude00"}}',
    "half a pair": b'{"body":{"model":"gpt-4o","input":"\\ud83d"}}',
    "a name in escapes": b'{"bod\\u0079":{"model":"gpt-4o"}}',
    "a tool that has a model": b'{"body":{"model":"gpt-4o","tools":[{"properties":{"model":{"type":"string"}}}]}}',
}


@pytest.mark.parametrize("line", PLAIN.values(), ids=PLAIN.keys())
def test_a_line_is_translated_however_it_is_written(line: bytes) -> None:
    assert json.loads(lines_renamed(line, rename))["body"]["model"] == "prod-4o"
    with pytest.raises(NotFound):
        lines_renamed(line.replace(b"gpt-4o", b"gpt-9"), rename)
