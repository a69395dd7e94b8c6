"""One field of a form, found where it stands, replaced, or added."""

import pytest

from shared.core.api import multipart
from shared.core.api.multipart import Field

TYPE = "multipart/form-data; boundary=b"
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\nContent-Type: x/y\r\n\r\n\x00\xff\r\n'
OTHER = b'--b\r\nContent-Disposition: form-data; name="n"\r\n\r\n2\r\n'
END = b"--b--\r\n"


def part(head: bytes, value: bytes = b"gpt-4o") -> bytes:
    return b"--b\r\n" + head + b"\r\n\r\n" + value + b"\r\n"


MODEL = part(b'Content-Disposition: form-data; name="model"')

FOUND = {
    "alone": MODEL + END,
    "before another": MODEL + OTHER + END,
    "behind another": OTHER + MODEL + END,
    "before a file": MODEL + FILE + END,
    "behind a file": FILE + MODEL + END,
    "with other headers": FILE
    + part(b'Content-Type: text/plain\r\nContent-Disposition: form-data; name="model"\r\nX-Y: z')
    + OTHER
    + END,
    "no quotes, odd case": part(b"CONTENT-DISPOSITION: form-data;name=model") + OTHER + END,
    "a charset behind it": part(b'Content-Disposition: form-data; name="model"; charset=utf-8') + OTHER + END,
    "a file of a name in other letters": FILE.replace(b"a.bin", rb"C:\\tmp\\caf\xc3\xa9; x.bin") + MODEL + END,
    "two spellings of a file's name": FILE.replace(b'"a.bin"', b"\"a.bin\"; filename*=UTF-8''a%20b.bin") + MODEL + END,
    "what some clients say besides": FILE
    + part(
        b'Content-Disposition: form-data; name="model"\r\nContent-Type: text/plain; charset=ISO-8859-1\r\n'
        b"Content-Transfer-Encoding: 8bit\r\nContent-Length: 6"
    )
    + END,
    "a mail": FILE.replace(b"x/y", b"message/rfc822") + MODEL + END,
    "a list of files": FILE.replace(b'"file"', b'"files[]"') + MODEL + END,
    "a padded delimiter": FILE + MODEL.replace(b"--b", b"--b \t") + END,
    "the first of two": MODEL + part(b'Content-Disposition: form-data; name="model"', b"gpt-5") + END,
}


@pytest.mark.parametrize("body", FOUND.values(), ids=FOUND.keys())
def test_a_field_is_found_wherever_it_stands(body: bytes) -> None:
    found = multipart.find(body, TYPE, "model")
    assert found is not None
    assert (found.value, body[found.start : found.end]) == ("gpt-4o", b"gpt-4o")
    assert multipart.replaced(body, found, "o4-mini") == body.replace(b"gpt-4o", b"o4-mini", 1)


HOSTILE = {
    "endless headers of one part": b"--b\r\n" + b'content-disposition: form-data; name="model"\r\n' * 200_000,
    "endless parts": b"--b\r\n" * 1_000_000,
    "an endless header": b"--b\r\ncontent-disposition: " + b"; name=model" * 500_000 + b"\r\n\r\nv\r\n",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.timeout(10)
def test_a_form_that_was_made_to_take_long_takes_no_time(body: bytes) -> None:
    """Megabytes, for which time grows with their square where a parser goes back."""
    assert multipart.find(body, TYPE, "model") is None


MISSING = {
    "no such field": (FILE + OTHER + END, TYPE),
    "the name of another's value": (part(b'Content-Disposition: form-data; name="n"', b'name="model"') + END, TYPE),
    "a longer name": (part(b'Content-Disposition: form-data; name="model_name"') + END, TYPE),
    "another boundary": (MODEL + END, "multipart/form-data; boundary=c"),
    "no boundary": (MODEL + END, "multipart/form-data"),
    "no form": (b'{"model": "gpt-4o"}', "application/json"),
}


@pytest.mark.parametrize(("body", "content_type"), MISSING.values(), ids=MISSING.keys())
def test_what_is_not_there_is_not_found(body: bytes, content_type: str) -> None:
    assert multipart.find(body, content_type, "model") is None


HIDDEN = {
    "headers that are too long": part(b"X-Y: " + b"z" * 5000 + b'\r\nContent-Disposition: form-data; name="model"'),
    "a part too many": OTHER * 1000 + MODEL,
    "a delimiter that LF ends": MODEL.replace(b"--b\r\n", b"--b\n"),
    "a name in escapes": part(rb'Content-Disposition: form-data; name="mode\l"'),
    "a name in percents": part(b'Content-Disposition: form-data; name="mode%6c"'),
    "an extended name": part(b"Content-Disposition: form-data; name*=UTF-8''model"),
    "a name in parts": part(b'Content-Disposition: form-data; name*0="mo"; name*1="del"'),
    "two names": part(b'Content-Disposition: form-data; name="n"; Name="model"'),
    "an encoded name": part(b'Content-Disposition: form-data; name="=?utf-8?q?model?="'),
    "other quotes": part(b"Content-Disposition: form-data; name='model'"),
    "a quote in a file's name": part(rb'Content-Disposition: form-data; filename="a\"; name="model"; x="'),
    "no name": part(b"Content-Disposition: form-data"),
    "no headers": b"--b\r\n\r\ngpt-4o\r\n",
    "another disposition": part(b'Content-Disposition: attachment; name="model"'),
    "two dispositions": part(
        b'Content-Disposition: form-data; name="n"\r\nContent-Disposition: form-data; name="model"'
    ),
    "a header in two lines": part(b'Content-Disposition: form-data;\r\n name="model"'),
    "headers that LF ends": part(b'X-Y: z\nContent-Disposition: form-data; name="model"'),
    "headers that LF ends, all of them": b'--b\r\nContent-Disposition: form-data; name="model"\n\ngpt-4o\r\n',
    "a space before the colon": part(b'Content-Disposition : form-data; name="model"'),
    "an encoded value": part(
        b'Content-Disposition: form-data; name="file_id"\r\nContent-Transfer-Encoding: base64', b"ZmlsZS1hYmM="
    ),
    "a value in another charset": part(
        b'Content-Disposition: form-data; name="file_id"\r\nContent-Type: text/plain; charset=utf-16'
    ),
    "a charset for all": part(b'Content-Disposition: form-data; name="_charset_"', b"utf-16"),
    "parts in a part": part(b'Content-Disposition: form-data; name="n"\r\nContent-Type: multipart/mixed; boundary=c'),
    "a part in a message": part(b'Content-Disposition: form-data; name="n"\r\nContent-Type: message/rfc822'),
    "one that something else ends": MODEL.replace(b"--b\r\n", b"--b\x0b\r\n"),
}


@pytest.mark.parametrize("body", HIDDEN.values(), ids=HIDDEN.keys())
def test_a_part_that_others_may_see_is_noticed(body: bytes) -> None:
    assert multipart.hides_part(MODEL + body + END, TYPE)
    assert multipart.hides_part(body, TYPE)


@pytest.mark.parametrize("body", [*FOUND.values(), FILE.replace(b"\xff", b"x--b\n--B\n") + OTHER * 900 + END, b""])
def test_a_form_that_is_read_in_full_hides_nothing(body: bytes) -> None:
    assert not multipart.hides_part(body, TYPE)


def test_an_added_field_is_found_and_nothing_else_changes() -> None:
    body = FILE + OTHER + END
    added = multipart.with_field(body, TYPE, "model", "whisper-1")
    assert added.endswith(body)
    found = multipart.find(added, TYPE, "model")
    assert isinstance(found, Field)
    assert found.value == "whisper-1"


def test_a_value_is_read_to_its_end() -> None:
    """Guards that a line end behind a model, which some strip, does not make it none."""
    for value in (b"gpt-4o\r\n", b"gpt-4o\r\nmore", b"\r\ngpt-4o"):
        found = multipart.find(part(b'Content-Disposition: form-data; name="model"', value) + END, TYPE, "model")
        assert found is not None
        assert found.value.encode() == value
