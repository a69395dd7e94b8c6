"""Tollgate's command line: clients, keys and the configuration.

Rule: it knows nothing that `/manage` does not tell; `config check` and `config schema` need no running gateway.
Exit codes: 0 done, 1 refused or failed (one line on stderr says why), 2 not understood.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from devtools import configuration_schema, launch
from devtools.run import RUN_INFO
from shared.core.configuration import parse
from shared.core.document_problems import ConfigurationInvalid

_TIMEOUT_S = 60.0  # an app that scaled to zero has to start first

type Row = Mapping[str, Any]


class CommandError(Exception):
    """What stands in the way, in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head`
        sys.stderr.close()
    return 0


class Api:
    """`/manage` of a running gateway."""

    def __init__(self, url: str, admin_key: str) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.Client(headers={"authorization": f"Bearer {admin_key}"}, timeout=_TIMEOUT_S)

    def call(
        self, method: str, *path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The answer's JSON; empty where it has none. Raises CommandError."""
        url = "/".join((self._url, "manage", *(quote(part, safe="") for part in path)))
        try:
            answer = self._http.request(method, url, json=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CommandError(f"{self._url} cannot be reached: {error}") from error
        try:
            answered: dict[str, Any] = answer.json() if answer.content else {}
        except ValueError as error:
            raise CommandError(f"{url} is no Tollgate: it answered {answer.status_code} without JSON") from error
        if answer.is_error:
            raise CommandError(f"{_message(answered)} ({answer.status_code})")
        return answered


def _message(answered: dict[str, Any]) -> str:
    error = answered.get("error")
    text = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(text or answered).split())


def _api(options: argparse.Namespace) -> Api:
    """The gateway that the options or the environment name; else the one that `make run` has started."""
    url = options.url or os.environ.get("TOLLGATE_URL")
    key = options.admin_key or os.environ.get("TOLLGATE_ADMIN_KEY")
    if not url and not key and RUN_INFO.exists():
        info = json.loads(RUN_INFO.read_bytes())
        return Api(info["base_url"], info["admin_key"])
    if not url or not key:
        missing = "--url (or TOLLGATE_URL)" if not url else "--admin-key (or TOLLGATE_ADMIN_KEY)"
        raise CommandError(f"give {missing}; without either, the gateway of `make run` is asked, if it is running")
    return Api(url, key)


# What is printed.


def _print(options: argparse.Namespace, value: object, rows: Iterable[Row]) -> None:
    """`value` for machines, `rows` for people."""
    if options.json:
        print(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        print(table(rows))


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


def _client_row(view: dict[str, Any]) -> Row:
    client = view["client"]
    return {
        "id": client["id"],
        "name": client["name"],
        "cost_center": client["cost_center"],
        "models": "all" if client["models"] is None else client["models"],
        "limits": client["limits"],
        "keys": sum(key["state"] == "active" for key in view["keys"]),
        "source": view["source"],
    }


def _key_row(key: dict[str, Any]) -> Row:
    return {name: key[name] for name in ("id", "state", "created_at", "expires_at", "revoked_at", "note", "source")}


# The commands.


def _clients_list(options: argparse.Namespace) -> None:
    clients = _api(options).call("GET", "clients")["clients"]
    _print(options, clients, map(_client_row, clients))


def _clients_show(options: argparse.Namespace) -> None:
    view = _api(options).call("GET", "clients", options.client)
    fields = {**view["client"], "source": view["source"], "etag": view["etag"]}
    _print(options, view, ({"field": name, "value": value} for name, value in fields.items()))
    if not options.json:
        print(f"\n{table(map(_key_row, view['keys']))}")


def _clients_create(options: argparse.Namespace) -> None:
    body = _changed({}, options)
    view = _api(options).call("PUT", "clients", options.client, body=body, headers={"if-none-match": "*"})
    _print(options, view, [_client_row(view)])


def _clients_update(options: argparse.Namespace) -> None:
    api = _api(options)
    view = api.call("GET", "clients", options.client)
    headers = {"if-match": view["etag"]} if view["etag"] else {}
    view = api.call("PUT", "clients", options.client, body=_changed(view["client"], options), headers=headers)
    _print(options, view, [_client_row(view)])


def _clients_delete(options: argparse.Namespace) -> None:
    _api(options).call("DELETE", "clients", options.client)
    _print(options, {"id": options.client, "deleted": True}, [{"id": options.client, "deleted": "yes"}])


def _keys_create(options: argparse.Namespace) -> None:
    expires = options.expires_at
    if options.expires_in_days is not None:
        expires = (datetime.now(UTC) + timedelta(days=options.expires_in_days)).isoformat()
    body = {"note": options.note, "expires_at": expires}
    key = _api(options).call("POST", "clients", options.client, "keys", body=body)
    _print(options, key, [{name: key[name] for name in ("id", "key", "expires_at", "note")}])
    if not options.json:
        print("\nKeep the key: it is not shown again.")


def _keys_list(options: argparse.Namespace) -> None:
    keys = _api(options).call("GET", "clients", options.client, "keys")["keys"]
    _print(options, keys, map(_key_row, keys))


def _keys_revoke(options: argparse.Namespace) -> None:
    key = _api(options).call("DELETE", "clients", options.client, "keys", options.key)
    _print(options, key, [_key_row(key)])


def _deployments_list(options: argparse.Namespace) -> None:
    deployments = _api(options).call("GET", "deployments")["deployments"]
    _print(options, deployments, deployments)


def _config_show(options: argparse.Namespace) -> None:
    print(json.dumps(_api(options).call("GET", "configuration"), indent=2, ensure_ascii=False))


def _config_check(options: argparse.Namespace) -> None:
    try:
        settings = launch.read_settings(Path(options.settings), os.environ)
        configuration = parse(Path(options.file).read_text(encoding="utf-8"), settings)
    except (OSError, UnicodeDecodeError, launch.LaunchError) as error:
        raise CommandError(str(error)) from error
    except ConfigurationInvalid as error:
        if options.json:
            print(json.dumps({"valid": False, "problems": error.problems}, indent=2))
        else:
            for problem in error.problems:
                print(f"{options.file}: {problem}")
        count = len(error.problems)
        raise CommandError(f"{options.file} has {count} problem{'s' * (count > 1)}") from error
    document = configuration.document
    counts = {name: len(getattr(document, name)) for name in ("upstreams", "deployments", "clients")}
    _print(options, {"valid": True, "problems": [], **counts}, [{"file": options.file, "valid": "yes", **counts}])


def _config_schema(options: argparse.Namespace) -> None:  # noqa: ARG001 - commands are alike
    print(configuration_schema.text(), end="")


def _changed(client: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The client with what the options say of it. Raises CommandError."""
    named = {"name": options.name, "cost_center": options.cost_center, "models": _listed(options.models)}
    changed = {**client, **{field: value for field, value in named.items() if value is not None}}
    if options.models == "all":
        changed["models"] = None
    for assignment in options.set:
        path, sign, text = assignment.partition("=")
        if not sign:
            raise CommandError(f"--set {assignment} has no '=': write field=value, as in limits.tokens_per_minute=1000")
        *way, last = path.split(".")
        inner = changed
        for step in way:
            inside = inner.get(step)
            inner[step] = dict(inside) if isinstance(inside, dict) else {}
            inner = inner[step]
        inner[last] = _value(text)
    return changed


def _listed(text: str | None) -> list[str] | None:
    return None if text in {None, "all"} else [each.strip() for each in str(text).split(",") if each.strip()]


def _value(text: str) -> Any:
    """JSON where it is some, else the text itself."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


# The grammar.


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devtools.cli",
        description="Manage a Tollgate gateway: its clients, their keys and its configuration.",
        epilog="Without --url and --admin-key, and without the settings, the gateway of `make run` is asked.",
    )
    parser.add_argument("--url", help="the gateway's address; default: $TOLLGATE_URL")
    parser.add_argument("--admin-key", help="its admin key; default: $TOLLGATE_ADMIN_KEY, which keeps it out of `ps`")
    groups = parser.add_subparsers(metavar="GROUP", required=True)
    _clients_grammar(_group(groups, "clients", "who may call"))
    _keys_grammar(_group(groups, "keys", "the keys of a client"))
    deployments = _group(groups, "deployments", "where models run")
    _command(deployments, "list", _deployments_list, "every deployment, by model and priority")
    _config_grammar(_group(groups, "config", "the configuration document"))
    return parser


def _clients_grammar(group: Any) -> None:
    _command(group, "list", _clients_list, "every client")
    _with_client(_command(group, "show", _clients_show, "one client and its keys"))
    create = _with_client(_command(group, "create", _clients_create, "make a client; fails where there is one"))
    update = _with_client(_command(group, "update", _clients_update, "change some fields of a client"))
    for command in (create, update):
        command.add_argument("--name", help="for people")
        command.add_argument("--cost-center", help="who pays")
        command.add_argument("--models", metavar="A,B", help="the models that it may use; all: no restriction")
        command.add_argument(
            "--set", action="append", default=[], metavar="FIELD=VALUE",
            help="any field; VALUE is JSON or text, null for none: limits.tokens_per_minute=1000, on_disconnect=cancel",
        )  # fmt: skip
    _with_client(_command(group, "delete", _clients_delete, "delete a client and its keys"))


def _keys_grammar(group: Any) -> None:
    create = _with_client(_command(group, "create", _keys_create, "make a key; its text is shown this once"))
    create.add_argument("--note", default="", help="what it is for")
    expiry = create.add_mutually_exclusive_group()
    expiry.add_argument("--expires-in-days", type=float, metavar="N", help="refused after N days")
    expiry.add_argument("--expires-at", metavar="TIME", help="refused from then on: 2027-01-31T00:00:00Z")
    _with_client(_command(group, "list", _keys_list, "ids, states and dates; never the keys"))
    revoke = _with_client(_command(group, "revoke", _keys_revoke, "refuse a key from now on, within 30 s everywhere"))
    revoke.add_argument("key", metavar="KEY_ID", help="the key's id: the 8 digits after tg-")


def _config_grammar(group: Any) -> None:
    _command(group, "show", _config_show, "the configuration in force, keys masked, as JSON")
    check = _command(group, "check", _config_check, "say what is wrong with a configuration file, by line")
    check.add_argument("file", metavar="FILE", help="TOML or JSON")
    check.add_argument(
        "--settings", default="local.settings.json", metavar="FILE",
        help="where the settings it refers to stand, beside the environment; default: local.settings.json",
    )  # fmt: skip
    _command(
        group, "schema", _config_schema,
        "print the JSON Schema of the document. Editors take it from a first line `#:schema ./tollgate.schema.json`",
    )  # fmt: skip


def _group(groups: Any, name: str, help_: str) -> Any:
    parser = groups.add_parser(name, help=help_, description=help_)
    return parser.add_subparsers(metavar="COMMAND", required=True)


def _command(group: Any, name: str, run: Callable[[argparse.Namespace], None], help_: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = group.add_parser(name, help=help_, description=help_)
    command.add_argument("--json", action="store_true", help="print JSON, for machines")
    for name in ("--url", "--admin-key"):  # they may stand here too
        command.add_argument(name, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    command.set_defaults(run=run)
    return command


def _with_client(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("client", metavar="CLIENT_ID", help="the client's id")
    return command


if __name__ == "__main__":
    sys.exit(main())
