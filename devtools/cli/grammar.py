"""How commands are added to the command line, so that all of them take the same options in the same places."""

import argparse
from collections.abc import Callable
from typing import Any

type Commands = Any
"""What argparse's `add_subparsers` returns; its class has no public name."""


def group(commands: Commands, name: str, help_: str) -> Commands:
    """A group of commands, such as `clients`."""
    parser = commands.add_parser(name, help=help_, description=help_)
    return parser.add_subparsers(metavar="COMMAND", required=True)


def command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], None], help_: str
) -> argparse.ArgumentParser:
    """A command, alone or in a group, that calls `run` with the options; `run` may raise CommandError."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_, description=help_)
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    for name in ("--url", "--admin-key"):  # they may stand here too
        parser.add_argument(name, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)
    return parser


def with_client(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The command takes a client's id."""
    parser.add_argument("client", metavar="CLIENT_ID", help="the client's id")
    return parser
