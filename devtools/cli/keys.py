"""`keys`: the keys of a client."""

import argparse
import sys
from datetime import UTC, datetime, timedelta
from getpass import getpass
from typing import Any

from devtools.cli.api import api
from devtools.cli.grammar import Commands, command, group, with_client
from devtools.cli.output import Row, show


def add(commands: Commands) -> None:
    """The group."""
    keys = group(commands, "keys", "the keys of a client")
    create = with_client(command(keys, "create", _create, "make a key; its text is shown this once"))
    create.add_argument(
        "--adopt",
        action="store_true",
        help="not a new one: keep one of another gateway, which is asked for, or read from a pipe",
    )
    create.add_argument("--note", default="", help="what it is for")
    expiry = create.add_mutually_exclusive_group()
    expiry.add_argument("--expires-in-days", type=float, metavar="N", help="refused after N days")
    expiry.add_argument("--expires-at", metavar="TIME", help="refused from then on: 2027-01-31T00:00:00Z")
    with_client(command(keys, "list", _list, "ids, states and dates; never the keys"))
    revoke = with_client(command(keys, "revoke", _revoke, "refuse a key from now on, within 30 s everywhere"))
    revoke.add_argument("key", metavar="KEY_ID", help="the key's id: the 8 digits after tg-")


def key_row(key: dict[str, Any]) -> Row:
    """A key as a row of a table."""
    return {name: key[name] for name in ("id", "state", "created_at", "expires_at", "revoked_at", "note", "source")}


def _create(options: argparse.Namespace) -> None:
    expires = options.expires_at
    if options.expires_in_days is not None:
        expires = (datetime.now(UTC) + timedelta(days=options.expires_in_days)).isoformat()
    body = {"note": options.note, "expires_at": expires}
    if options.adopt:
        body["key"] = (getpass("Key: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    key = api(options).call("POST", "clients", options.client, "keys", body=body)
    show(options, key, [{name: key[name] for name in ("id", "key", "expires_at", "note")}])
    if not options.json and not options.adopt:
        print("\nKeep the key: it is not shown again.")


def _list(options: argparse.Namespace) -> None:
    keys = api(options).call("GET", "clients", options.client, "keys")["keys"]
    show(options, keys, map(key_row, keys))


def _revoke(options: argparse.Namespace) -> None:
    key = api(options).call("DELETE", "clients", options.client, "keys", options.key)
    show(options, key, [key_row(key)])
