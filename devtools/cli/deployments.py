"""`deployments`: where models run."""

import argparse

from devtools.cli.api import api
from devtools.cli.grammar import Commands, command, group
from devtools.cli.output import show


def add(commands: Commands) -> None:
    """The group."""
    command(
        group(commands, "deployments", "where models run"), "list", _list, "every deployment, by model and priority"
    )


def _list(options: argparse.Namespace) -> None:
    deployments = api(options).call("GET", "deployments")["deployments"]
    show(options, deployments, deployments)
