"""Tollgate's command line: `python -m devtools.cli`.

Rule: one module per group of commands, named in COMMANDS and nowhere else; a command says what it takes and prints what it is
told. What it does lives in `shared/` or behind `/manage`.
Exit codes: 0 done, 1 refused or failed (one line on stderr says why), 2 not understood.
"""

import argparse
import importlib
import sys
from collections.abc import Iterable, Sequence

from devtools.cli.output import CommandError

COMMANDS = {
    "clients": "clients",
    "keys": "keys",
    "deployments": "deployments",
    "config": "config",
    "init": "init",
    "import": "init",
    "prices": "prices",
    "rerate": "prices",
    "doctor": "doctor",
    "verify": "verify",
    "replay": "content",
    "purge": "content",
    "backup": "backups",
    "restore": "backups",
    "demo": "demo",
    "export": "export",
    "reconcile": "reconcile",
}
"""The first word of a command, and the module here with an `add(commands)` that adds it to the grammar. Only what is named is
loaded: the Azure SDKs, which half of them need, take a second."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command."""
    words = sys.argv[1:] if arguments is None else arguments
    named = [COMMANDS[word] for word in words if word in COMMANDS]
    parser = _parser(named or COMMANDS.values())
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


def _parser(modules: Iterable[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devtools.cli",
        description="Manage a Tollgate gateway: its clients, their keys and its configuration.",
        epilog="Without --url and --admin-key, and without the settings, the gateway of `make run` is asked.",
    )
    parser.add_argument("--url", help="the gateway's address; default: $TOLLGATE_URL")
    parser.add_argument("--admin-key", help="its admin key; default: $TOLLGATE_ADMIN_KEY, which keeps it out of `ps`")
    commands = parser.add_subparsers(metavar="COMMAND")
    for module in dict.fromkeys(modules):
        importlib.import_module(f"devtools.cli.{module}").add(commands)
    return parser
