"""Tollgate's command line: `python -m devtools.cli`.

Rule: one module per group of commands, named in COMMANDS and nowhere else; a command says what it takes and prints what it is
told. What it does lives in `shared/` or behind `/manage`.
Exit codes: 0 done, 1 refused or failed (one line on stderr says why), 2 not understood.
"""

import argparse
import sys
from collections.abc import Sequence

from devtools.cli import (
    backups,
    clients,
    config,
    content,
    demo,
    deployments,
    doctor,
    export,
    init,
    keys,
    prices,
    reconcile,
    verify,
)
from devtools.cli.output import CommandError

COMMANDS = (
    clients,
    keys,
    deployments,
    config,
    init,
    prices,
    doctor,
    verify,
    content,
    backups,
    demo,
    export,
    reconcile,
)
"""Modules with an `add(commands)` that adds their group, or their one command, to the grammar."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "run"):
        parser.print_help(sys.stderr)
        parser.exit(2)
    try:
        options.run(options)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head`
        sys.stderr.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devtools.cli",
        description="Manage a Tollgate gateway: its clients, their keys and its configuration.",
        epilog="Without --url and --admin-key, and without the settings, the gateway of `make run` is asked.",
    )
    parser.add_argument("--url", help="the gateway's address; default: $TOLLGATE_URL")
    parser.add_argument("--admin-key", help="its admin key; default: $TOLLGATE_ADMIN_KEY, which keeps it out of `ps`")
    commands = parser.add_subparsers(metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    return parser
