"""`clients`: who may call."""

import argparse
from typing import Any

import msgspec

from devtools.cli.api import api
from devtools.cli.grammar import Commands, command, group, with_client
from devtools.cli.keys import key_row
from devtools.cli.output import CommandError, Row, show, table


def add(commands: Commands) -> None:
    """The group."""
    clients = group(commands, "clients", "who may call")
    command(clients, "list", _list, "every client")
    with_client(command(clients, "show", _show, "one client and its keys"))
    create = with_client(command(clients, "create", _create, "make a client; fails where there is one"))
    update = with_client(command(clients, "update", _update, "change some fields of a client"))
    for each in (create, update):
        each.add_argument("--name", help="for people")
        each.add_argument("--cost-center", help="who pays")
        each.add_argument("--models", metavar="A,B", help="the models that it may use; all: no restriction")
        each.add_argument(
            "--set", action="append", default=[], metavar="FIELD=VALUE",
            help="any field; VALUE is JSON or text, null for none: limits.tokens_per_minute=1000, on_disconnect=cancel",
        )  # fmt: skip
    with_client(command(clients, "delete", _delete, "delete a client and its keys"))


def _list(options: argparse.Namespace) -> None:
    clients = api(options).call("GET", "clients")["clients"]
    show(options, clients, map(_row, clients))


def _show(options: argparse.Namespace) -> None:
    view = api(options).call("GET", "clients", options.client)
    fields = {**view["client"], "source": view["source"], "etag": view["etag"]}
    show(options, view, ({"field": name, "value": value} for name, value in fields.items()))
    if not options.json:
        print(f"\n{table(map(key_row, view['keys']))}")


def _create(options: argparse.Namespace) -> None:
    body = _changed({}, options)
    view = api(options).call("PUT", "clients", options.client, body=body, headers={"if-none-match": "*"})
    show(options, view, [_row(view)])


def _update(options: argparse.Namespace) -> None:
    gateway = api(options)
    view = gateway.call("GET", "clients", options.client)
    headers = {"if-match": view["etag"]} if view["etag"] else {}
    view = gateway.call("PUT", "clients", options.client, body=_changed(view["client"], options), headers=headers)
    show(options, view, [_row(view)])


def _delete(options: argparse.Namespace) -> None:
    api(options).call("DELETE", "clients", options.client)
    show(options, {"id": options.client, "deleted": True}, [{"id": options.client, "deleted": "yes"}])


def _row(view: dict[str, Any]) -> Row:
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
