"""`config`: the configuration document. `check` and `schema` need no running gateway."""

import argparse
import os
from pathlib import Path

from devtools import configuration_schema, launch
from devtools.cli.api import api
from devtools.cli.grammar import Commands, command, group
from devtools.cli.output import CommandError, show, show_json
from shared.core.configuration import parse
from shared.core.document_problems import ConfigurationInvalid


def add(commands: Commands) -> None:
    """The group."""
    config = group(commands, "config", "the configuration document")
    command(config, "show", _show, "the configuration in force, keys masked, as JSON")
    check = command(config, "check", _check, "say what is wrong with a configuration file, by line")
    check.add_argument("file", metavar="FILE", help="TOML or JSON")
    check.add_argument(
        "--settings", default="local.settings.json", metavar="FILE",
        help="where the settings it refers to stand, beside the environment; default: local.settings.json",
    )  # fmt: skip
    command(
        config, "schema", _schema,
        "print the JSON Schema of the document. Editors take it from a first line `#:schema ./tollgate.schema.json`",
    )  # fmt: skip


def _show(options: argparse.Namespace) -> None:
    show_json(api(options).call("GET", "configuration"))


def _check(options: argparse.Namespace) -> None:
    try:
        settings = launch.read_settings(Path(options.settings), os.environ)
        configuration = parse(Path(options.file).read_text(encoding="utf-8"), settings)
    except (OSError, UnicodeDecodeError, launch.LaunchError) as error:
        raise CommandError(str(error)) from error
    except ConfigurationInvalid as error:
        if options.json:
            show_json({"valid": False, "problems": error.problems})
        else:
            for problem in error.problems:
                print(f"{options.file}: {problem}")
        count = len(error.problems)
        raise CommandError(f"{options.file} has {count} problem{'s' * (count > 1)}") from error
    document = configuration.document
    counts = {name: len(getattr(document, name)) for name in ("upstreams", "deployments", "clients")}
    show(options, {"valid": True, "problems": [], **counts}, [{"file": options.file, "valid": "yes", **counts}])


def _schema(options: argparse.Namespace) -> None:  # noqa: ARG001 - commands are alike
    print(configuration_schema.text(), end="")
