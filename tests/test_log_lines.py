"""Log lines: fields are written, as text and as JSON."""

import io
import json
import logging

import pytest

from shared.log_lines import write_fields


@pytest.fixture
def written() -> tuple[logging.Logger, logging.Handler, io.StringIO]:
    """A logger with a handler of the host's, and what that wrote."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    log = logging.Logger("of the test")  # noqa: LOG001 - one that no other test hears
    log.addHandler(handler)
    return log, handler, stream


def test_fields_follow_the_hosts_own_line(written: tuple[logging.Logger, logging.Handler, io.StringIO]) -> None:
    log, handler, stream = written
    write_fields([handler], as_json=False)
    log.warning("sink failed", extra={"sink": "ledger", "events": 3})
    assert stream.getvalue() == "WARNING sink failed sink=ledger events=3\n"


def test_a_line_is_an_object(written: tuple[logging.Logger, logging.Handler, io.StringIO]) -> None:
    log, handler, stream = written
    write_fields([handler], as_json=True)
    write_fields([handler], as_json=True)
    log.warning("sink %s", "failed", extra={"call_id": "1", "problems": ("a\nb", None), "odd": object})
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("time").endswith("Z")
    assert told == {
        "level": "WARNING", "logger": "of the test", "message": "sink failed", "call_id": "1",
        "problems": ["a\nb", None], "odd": "<class 'object'>",
    }  # fmt: skip


def test_what_was_raised_is_told(written: tuple[logging.Logger, logging.Handler, io.StringIO]) -> None:
    log, handler, stream = written
    for as_json in (False, True):
        handler.setFormatter(None)
        write_fields([handler], as_json=as_json)
        try:
            raise ValueError("why")  # noqa: TRY301 - what is logged is a raised one
        except ValueError:
            log.exception("call failed", extra={"call_id": "7"})
    text, last = stream.getvalue().rpartition("{")[0], "{" + stream.getvalue().rpartition("{")[2]
    assert text.startswith("call failed call_id=7\nTraceback")
    assert "ValueError: why" in json.loads(last)["exception"]
