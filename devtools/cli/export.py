"""`export`: tables for other programs, into a file or into a blob of the gateway's Storage account."""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from devtools.cli.api import Api, api
from devtools.cli.grammar import Commands, command, group
from devtools.cli.output import CommandError, show
from shared.core.reports.call_query import FIELDS

_FILE_NAME = re.compile(r'filename="([^"/\\]+)"')


def add(commands: Commands) -> None:
    """The group."""
    exports = group(commands, "export", "tables for other programs: FOCUS, the ledger, evaluation datasets")
    focus = _export(exports, "focus", "a month of usage and money, as a FOCUS 1.2 file")
    focus.add_argument("--month", metavar="YYYY-MM", help="default: this one, so far")
    ledger = _export(exports, "ledger", "the calls of the ledger, as CSV")
    evaluation = _export(exports, "evaluation", "a dataset for evaluations in Azure AI Foundry")
    for calls in (ledger, evaluation):
        _with_calls(calls)
    evaluation.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="default: jsonl")


def _export(exports: Commands, name: str, help_: str) -> argparse.ArgumentParser:
    parser = command(exports, name, _run, help_)
    parser.set_defaults(kind=name)
    parser.add_argument(
        "--output", "-o", metavar="FILE", help="where to write it; - for stdout; default: a name of its own here"
    )
    parser.add_argument("--to-blob", action="store_true", help="write it to the gateway's Storage account instead")
    return parser


def _with_calls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--start", metavar="TIME", help="calls opened from then on; default: 31 days before the end")
    parser.add_argument("--end", metavar="TIME", help="calls opened before then; default: now")
    for field in FIELDS:
        parser.add_argument(f"--{field.replace('_', '-')}", metavar="VALUE", help="only calls that have it")


_NOT_ASKED = {"run", "kind", "output", "to_blob", "json", "url", "admin_key"}


def _run(options: argparse.Namespace) -> None:
    parameters = {name: value for name, value in vars(options).items() if name not in _NOT_ASKED and value is not None}
    gateway, path = api(options), f"/exports/{options.kind}"
    if options.to_blob:
        _to_blob(gateway, path, parameters, options)
    else:
        _download(gateway, path, parameters, options)


def _to_blob(gateway: Api, path: str, parameters: dict[str, str], options: argparse.Namespace) -> None:
    last = {}
    with gateway.stream("POST", path, parameters) as answer:
        for line in answer.iter_lines():
            last = json.loads(line)
            _progress(f"{last['lines']:,} lines, {last['bytes']:,} bytes")
    _progress_done()
    if "blob" not in last:
        raise CommandError(last.get("error", "the export broke off"))
    show(options, last, [last])


def _download(gateway: Api, path: str, parameters: dict[str, str], options: argparse.Namespace) -> None:
    with gateway.stream("GET", path, parameters) as answer:
        if options.output == "-":
            for chunk in answer.iter_bytes():
                sys.stdout.buffer.write(chunk)
            return
        named = _FILE_NAME.search(answer.headers.get("content-disposition", ""))
        target = Path(options.output or (named[1] if named else options.kind))
        # A file that is there is a whole one.
        part = target.with_name(f"{target.name}.part")
        with part.open("wb") as file:
            size = _written(answer.iter_bytes(), file)
    part.replace(target)
    _progress_done()
    show(options, {"file": str(target), "bytes": size}, [{"file": target, "bytes": size}])


def _written(chunks: Iterator[bytes], file: BinaryIO) -> int:
    size = 0
    for chunk in chunks:
        file.write(chunk)
        size += len(chunk)
        _progress(f"{size:,} bytes")
    return size


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text}", end="", file=sys.stderr)


def _progress_done() -> None:
    if sys.stderr.isatty():
        print(file=sys.stderr)
