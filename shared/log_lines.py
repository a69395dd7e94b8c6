"""Log lines: an event in few words, and fields that say which call, why, how much.

Rule: fields are given as `extra`, which the standard formatter drops; here they are written, as text or as a JSON object a line.
No field is a body or a key.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, override

import msgspec

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; what else it has are fields."""


class LogLines(logging.Formatter):
    """`call incomplete call_id=... client_id=...` in the host's own format, or an object with the same fields."""

    def __init__(self, before: logging.Formatter | None, *, as_json: bool) -> None:
        super().__init__()
        self._before = before or logging.Formatter()
        self._as_json = as_json

    @override
    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _KNOWN}
        if self._as_json:
            return self._object(record, fields)
        line, newline, trace = self._before.format(record).partition("\n")
        told = "".join(f" {name}={value}" for name, value in fields.items())
        return f"{line}{told}{newline}{trace}"

    def _object(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def write_fields(handlers: Iterable[logging.Handler], *, as_json: bool) -> None:
    """Makes the handlers, which are the host's, write fields. A second time changes nothing."""
    for handler in handlers:
        if not isinstance(handler.formatter, LogLines):
            handler.setFormatter(LogLines(handler.formatter, as_json=as_json))
