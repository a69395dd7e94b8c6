"""What is taken out of bodies before they are kept, in JSON, in streams and elsewhere."""

import gzip
import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.api.completion_text import completion_text
from shared.core.api.operations import match
from shared.core.configuration import Redaction, parse
from shared.core.document_problems import ConfigurationInvalid
from shared.core.recording.accounting import open_record
from shared.core.recording.archive import ArchivedCall
from shared.core.recording.content_policy import kept
from shared.core.recording.redaction import redacted
from tests.examples import call, closed_record

EMAIL = Redaction(name="email", pattern=r"[\w.+-]+@[\w-]+\.\w+")
CARD = Redaction(name="card", pattern=r"\b(?:\d{4}[ -]?){3}\d{4}\b")
BOTH = (EMAIL, CARD)
KEY = "sk-proj-abcdefghijklmnopqrstuvwx"
CHAT = match("POST", "/v1/chat/completions").operation
RESPONSES = match("POST", "/v1/responses").operation


def chat_stream(*pieces: str, choice: int = 0) -> bytes:
    """A chat completion whose deltas are these."""
    chunks: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces), {}]
    lines = [
        json.dumps({"id": "chatcmpl-1", "choices": [{"index": choice, "delta": delta, "finish_reason": None}]})
        for delta in chunks
    ]
    return b"".join(f"data: {line}\n\n".encode() for line in (*lines, "[DONE]"))


def text_of(body: bytes) -> str:
    (choice,) = completion_text(CHAT, body).choices
    return choice.content


JSON_BODIES = {
    "a string": (b'{"input": "write to ann@example.com"}', b'{"input":"write to [email]"}'),
    "escaped": (rb'{"input":"ann\u0040example.com\n"}', b'{"input":"[email]\\n"}'),
    "several, in several strings": (
        b'{"messages":[{"content":"a@b.cd, e@f.gh"},{"content":[{"text":"i@j.kl"}]}]}',
        b'{"messages":[{"content":"[email], [email]"},{"content":[{"text":"[email]"}]}]}',
    ),
    "by two patterns": (b'["a@b.cd 4111 1111 1111 1111"]', b'["[email] [card]"]'),
    "a secret": (b'{"note":"my key is %s"}' % KEY.encode(), b'{"note":"my key is [secret]"}'),
}


@pytest.mark.parametrize(("body", "expected"), JSON_BODIES.values(), ids=JSON_BODIES.keys())
def test_text_inside_json_is_redacted_as_its_reader_sees_it(body: bytes, expected: bytes) -> None:
    assert redacted(body, BOTH).body == expected


UNTOUCHED = {
    "JSON": b'{ "input" : "nothing here",\r\n "n": 1.50 }',
    "a stream": chat_stream("noth", "ing @ here").replace(b"\n\n", b"\r\n\r\n"),
    "binary": bytes(range(256)),
    "no gzip": b"\x1f\x8b nonsense",
    "nothing": b"",
}


@pytest.mark.parametrize("body", UNTOUCHED.values(), ids=UNTOUCHED.keys())
def test_a_body_in_which_nothing_is_found_is_kept_to_the_byte(body: bytes) -> None:
    assert redacted(body, BOTH).body == body
    assert redacted(body, BOTH).found == {}


@given(st.lists(st.integers(0, 60), max_size=8), st.integers(0, 60))
def test_a_match_is_found_wherever_a_stream_cuts_it(cuts: list[int], start: int) -> None:
    text = f"{'x' * (start % 7)} ann@example.com and bob@example.com, {KEY} 4111-1111-1111-1111."
    marks = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    body = chat_stream(*(text[first:last] for first, last in pairwise(marks)))
    result = redacted(body, BOTH)
    assert text_of(result.body) == f"{'x' * (start % 7)} [email] and [email], [secret] [card]."
    assert result.found == {"email": 2, "card": 1, "secret": 1}


def test_secrets_are_found_in_streams_without_any_pattern_set() -> None:
    assert (
        text_of(redacted(chat_stream("my key: s", "k-proj-abcdefghijkl", "mnopqrstuvwx."), ()).body)
        == "my key: [secret]."
    )


def test_choices_of_a_stream_are_texts_of_their_own() -> None:
    """Their pieces come in turn: what stands side by side belongs to different texts."""
    events = [
        f"data: {json.dumps({'choices': [{'index': index, 'delta': {'content': piece}}]})}\n\n"
        for index, piece in ((0, "ann@"), (1, "bob@"), (0, "example.com"), (1, "example.org!"), (0, "?"))
    ]
    first, second = completion_text(CHAT, redacted("".join(events).encode(), [EMAIL]).body).choices
    assert (first.content, second.content) == ("[email]?", "[email]!")


def test_arguments_of_a_tool_call_are_a_text() -> None:
    calls = [[{"index": 1, "function": {"arguments": each}}] for each in ('{"to": "ann', '@example.com"}')]
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": each}}]} for each in calls]
    events = [f"data: {json.dumps(each)}\n\n" for each in chunks]
    (choice,) = completion_text(CHAT, redacted("".join(events).encode(), [EMAIL]).body).choices
    assert choice.tool_calls[0].arguments == '{"to": "[email]"}'


def test_a_stream_of_responses_is_redacted_in_its_deltas_and_where_it_repeats_them() -> None:
    pieces = ["Ask ann@exa", "mple.com"]
    events: list[dict[str, Any]] = [
        {
            "type": "response.output_text.delta",
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
            "delta": piece,
        }
        for piece in pieces
    ]
    events.append({"type": "response.output_text.done", "item_id": "msg_1", "text": "".join(pieces)})
    output = [{"type": "message", "content": [{"type": "output_text", "text": "".join(pieces)}]}]
    events.append({"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": output}})
    body = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events).encode()
    result = redacted(body, [EMAIL])
    assert b"example.com" not in result.body
    assert b"ann@" not in result.body
    assert [line for line in result.body.splitlines() if line.startswith(b"event:")] == [
        line for line in body.splitlines() if line.startswith(b"event:")
    ]
    assert completion_text(RESPONSES, result.body).choices[0].content == "Ask [email]"


def test_logprobs_go_with_the_text_that_they_repeat() -> None:
    logprobs = {"content": [{"token": "ann@example.com", "bytes": [97]}]}
    choice = {"index": 0, "message": {"content": "ann@example.com"}, "logprobs": logprobs}
    body = json.dumps({"choices": [choice]}).encode()
    assert json.loads(redacted(body, [EMAIL]).body)["choices"][0]["logprobs"] is None


def test_what_is_compressed_is_looked_into_and_stays_compressed() -> None:
    body = gzip.compress(b'{"text":"ann@example.com"}')
    assert gzip.decompress(redacted(body, [EMAIL], "gzip").body) == b'{"text":"[email]"}'


def test_the_text_parts_of_a_form_are_looked_at_and_its_files_that_are_no_text_are_not() -> None:
    audio = bytes(range(256)) + b"a@b.cd"
    form = b'--x\r\nname="prompt"\r\n\r\nfor ann@example.com\r\n--x\r\nname="file"\r\n\r\n' + audio + b"\r\n--x--\r\n"
    assert redacted(form, [EMAIL]).body == form.replace(b"ann@example.com", b"[email]")


DEEP = b"[" * 990 + b'"ann@example.com"' + b"]" * 990
CUT = {
    "an event too deep": b'data: {"a":' + DEEP + b"}\n\n",
    "a little too deep": DEEP,
    "cut off": b'{"input":"write to ann@example.com',
    "too deep": b"[" * 5000 + b'"ann@example.com"' + b"]" * 5000,
}


@pytest.mark.parametrize("body", CUT.values(), ids=CUT.keys())
def test_what_cannot_be_read_as_json_is_looked_at_as_it_is_written(body: bytes) -> None:
    assert redacted(body, [EMAIL]).body == body.replace(b"ann@example.com", b"[email]")


def test_only_what_is_kept_is_redacted_and_the_record_says_what_was_found() -> None:
    """Invariant: the digests and sizes of a record are those of what was sent."""
    made = call(b'{"model":"gpt-4o","input":"ann@example.com"}')
    made = msgspec.structs.replace(made, client=msgspec.structs.replace(made.client, redact=(EMAIL,)))
    closed = ArchivedCall(record=closed_record(), request=made.body, response=chat_stream("bob@", "example.com"))
    archived = kept(made, closed)
    assert b"@" not in archived.request + archived.response
    assert archived.record == msgspec.structs.replace(closed.record, redactions={"email": 2})
    assert open_record(made).request_bytes == len(made.body)


def test_the_configuration_says_which_patterns_hold_for_which_client() -> None:
    text = """
    [[defaults.redact]]
    name = "email"
    pattern = '[\\w.+-]+@[\\w-]+\\.\\w+'
    [[clients]]
    id = "a"
    [[clients]]
    id = "b"
    redact = []
    """
    clients = parse(text, {}).clients_by_id
    assert [clients[each].redact for each in ("a", "b")] == [(EMAIL,), ()]


WRONG = {"no expression": ("(", "regular expression"), "matching nothing": ("a*", "matches where there is none")}


@pytest.mark.parametrize(("pattern", "problem"), WRONG.values(), ids=WRONG.keys())
def test_a_pattern_that_cannot_be_used_is_told(pattern: str, problem: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=f"line 1: .*{problem}"):
        parse(f'[[defaults.redact]]\nname = "x"\npattern = "{pattern}"\n', {})
