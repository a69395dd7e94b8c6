"""What commands print: a table for people, JSON for machines, and one line where something stands in the way."""

import argparse
import json
from collections.abc import Iterable, Mapping
from typing import Any

type Row = Mapping[str, Any]


class CommandError(Exception):
    """What stands in the way, in one line."""


def show(options: argparse.Namespace, value: object, rows: Iterable[Row]) -> None:
    """`value` for machines, `rows` for people."""
    if options.json:
        show_json(value)
    else:
        print(table(rows))


def show_json(value: object) -> None:
    """For machines, and for what is JSON anyway."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def table(rows: Iterable[Row]) -> str:
    """Rows under the names of their columns, as wide as they need."""
    texts = [{name.upper().replace("_", " "): _cell(value) for name, value in row.items()} for row in rows]
    if not texts:
        return "(none)"
    widths = {name: max(len(name), *(len(row[name]) for row in texts)) for name in texts[0]}
    lines = [dict(zip(widths, widths, strict=True)), *texts]
    return "\n".join("  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip() for row in lines)


def _cell(value: object) -> str:
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{name}={each}" for name, each in value.items() if each is not None) or "-"
    return str(value)
