"""Lines of CSV (RFC 4180) that a spreadsheet may open.

Rule: what others wrote never becomes a formula. A text that begins like one gets an apostrophe before it, which spreadsheets take
for "this is text" (https://owasp.org/www-community/attacks/CSV_Injection). Numbers are ours, and are written as they are.
"""

import re
from collections.abc import Iterable

_FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""What a formula may begin with, also in its wide form."""
_QUOTED = re.compile(r'[",\r\n]')


def csv_line(cells: Iterable[object]) -> bytes:
    """One line, with its end. None is empty."""
    return (",".join(map(_cell, cells)) + "\r\n").encode()


def _cell(value: object) -> str:
    if not isinstance(value, str):
        return "" if value is None else str(value)
    text = f"'{value}" if _FORMULA.match(value) else value
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
