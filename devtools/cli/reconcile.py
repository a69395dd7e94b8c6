"""`reconcile`: our tokens beside the provider's own account of them."""

import argparse
import json
from pathlib import Path

from devtools.cli.api import api
from devtools.cli.grammar import Commands, command
from devtools.cli.output import CommandError, show


def add(commands: Commands) -> None:
    """The command."""
    help_ = (
        "compare our tokens with Azure Monitor's metrics (JSON of `az monitor metrics list`) or a cost export (CSV); "
        "exits 1 where they differ by more than the tolerance"
    )
    parser = command(commands, "reconcile", _reconcile, help_)
    parser.add_argument("file", metavar="FILE", help="what the provider says")
    parser.add_argument("--tolerance", metavar="PERCENT", default="1", help="how much may differ; default: 1")


def _reconcile(options: argparse.Namespace) -> None:
    try:
        content = Path(options.file).read_bytes()
    except OSError as error:
        raise CommandError(str(error)) from error
    parameters = {"tolerance_percent": options.tolerance}
    with api(options).stream("POST", "/usage/reconciliation", parameters, content) as answer:
        found = json.loads(answer.read())
    show(options, found, found["data"])
    if found["beyond"]:
        raise CommandError(f"{found['beyond']} of {len(found['data'])} differ by more than {options.tolerance} %")
