"""`init`: a first configuration. `import`: one made of another gateway's."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from devtools.cli.grammar import Commands, command, group
from devtools.cli.output import CommandError, show_json
from devtools.local_config import write_private
from devtools.moving import azure, litellm, powerproxy
from devtools.moving.draft import Draft, checked, host_of, setting_name, slug, toml
from shared.core.configuration import Client, Deployment, Upstream, UpstreamAuth, UpstreamKind
from shared.core.document_problems import ConfigurationInvalid

_DEFAULT_OUTPUT = "tollgate.toml"


def add(commands: Commands) -> None:
    """The command, and the group beside it."""
    init = command(
        commands, "init", _init,
        "write a first configuration: by asking, from options, or from Azure's lists of accounts and deployments",
    )  # fmt: skip
    init.add_argument("--accounts", metavar="FILE", help="what `az cognitiveservices account list` prints")
    init.add_argument(
        "--deployments", metavar="FILE", nargs="+", default=[],
        help="what `az cognitiveservices account deployment list -n NAME -g GROUP` prints of each",
    )  # fmt: skip
    init.add_argument("--keys", action="store_true", help="upstreams are shown keys; default: the app's identity")
    init.add_argument("--kind", choices=list(UpstreamKind), help="how the upstream is spoken to")
    init.add_argument("--upstream-url", metavar="URL", help="its address")
    init.add_argument("--models", metavar="A,B", help="the models that it serves")
    init.add_argument("--client", metavar="ID", action="append", default=[], help="a client; may stand more than once")
    _with_output(init)
    others = group(commands, "import", "a configuration made of another gateway's")
    of_powerproxy = _with_output(command(others, "powerproxy", _powerproxy, "of PowerProxy's config.yaml"))
    of_powerproxy.add_argument("--models", metavar="A,B", default="", help="deployments that it lets pass unnamed")
    of_powerproxy.add_argument("file", metavar="FILE")
    of_litellm = _with_output(command(others, "litellm", _litellm, "of LiteLLM's config.yaml"))
    of_litellm.add_argument("--key-list", metavar="FILE", help="what its /key/list?return_full_object=true answers")
    of_litellm.add_argument("file", metavar="FILE")


def _with_output(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--output", default=_DEFAULT_OUTPUT, metavar="FILE", help=f"default: {_DEFAULT_OUTPUT}")
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    return parser


def _powerproxy(options: argparse.Namespace) -> None:
    models = tuple(_listed(options.models))
    _write(options, _made(lambda: powerproxy.from_config(_read(options.file), models)), "import powerproxy")


def _litellm(options: argparse.Namespace) -> None:
    listed = _read(options.key_list) if options.key_list else []
    keys = listed.get("keys", []) if isinstance(listed, dict) else listed
    _write(options, _made(lambda: litellm.from_config(_read(options.file), keys)), "import litellm")


def _init(options: argparse.Namespace) -> None:
    if options.accounts:
        lists = [each for file in options.deployments for each in _read(file)]
        accounts = _read(options.accounts)
        draft = _made(lambda: azure.from_lists(accounts, lists, by_key=options.keys))
    else:
        draft = _asked(options)
    for client in options.client or [_answer("A client's id", "team-a")]:
        draft.add_client(Client(id=slug(client), name=client))
    _write(options, draft, "init")


def _asked(options: argparse.Namespace) -> Draft:
    """One upstream, by options and, at a terminal, by asking for what they do not say."""
    kind = UpstreamKind(options.kind or _answer("Upstream: azure, azure-v1 or openai", "azure"))
    url = options.upstream_url or _answer(
        "Its address", "https://api.openai.com/v1" if kind is UpstreamKind.OPENAI else ""
    )
    models = _listed(options.models or _answer("Its models, as a,b", "gpt-4o"))
    uses_key = options.keys or kind is UpstreamKind.OPENAI
    name = "openai" if kind is UpstreamKind.OPENAI else slug(host_of(url))
    setting = setting_name(name, "key")
    upstream = Upstream(
        name=name,
        kind=kind,
        url=url.rstrip("/"),
        key=f"${setting}" if uses_key else None,
        auth=UpstreamAuth.KEY if uses_key else UpstreamAuth.IDENTITY,
    )
    deployments = [Deployment(name=f"{model}-{name}", model=model, upstream=name) for model in models]
    return Draft(upstreams=[upstream], deployments=deployments, settings={setting: ""} if uses_key else {})


def _answer(question: str, default: str) -> str:
    """What is typed at a terminal; elsewhere the default. Raises CommandError where there is neither."""
    if sys.stdin.isatty():
        return input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default
    if not default:
        raise CommandError("give --kind, --upstream-url and --models, or run this at a terminal")
    return default


def _made(make: Callable[[], Draft]) -> Draft:
    """What `make` makes. A file of another shape than it should have is the user's, and told."""
    try:
        return make()
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CommandError(f"the file has not the shape that it should have: {error!r}") from error


def _read(file: str) -> Any:
    """YAML, of which JSON is a part. Raises CommandError."""
    try:
        return yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CommandError(f"{file}: {error}") from error


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _write(options: argparse.Namespace, draft: Draft, made_by: str) -> None:
    """Writes the document, and the secrets that were there to read beside it, for their owner alone. Tells the rest."""
    output, text = Path(options.output), toml(draft, made_by)
    secrets = output.with_suffix(".settings.json")
    for file in (output, *([secrets] if any(draft.settings.values()) else [])):
        if file.exists() and not options.force:
            raise CommandError(f"{file} is there already; --force writes over it")
    try:
        checked(draft, text)
    except ConfigurationInvalid as error:
        raise CommandError(f"what was read makes no valid configuration: {'; '.join(error.problems)}") from error
    output.write_text(text, encoding="utf-8")
    if any(draft.settings.values()):
        values = {"IsEncrypted": False, "Values": draft.settings}
        write_private(secrets, json.dumps(values, indent=2).encode())
    counts = {name: len(getattr(draft, name)) for name in ("upstreams", "deployments", "models", "clients", "prices")}
    told = {
        "file": str(output), **counts, "settings": sorted(draft.settings), "secrets": str(secrets),
        "new_keys": draft.new_keys, "not_carried_over": draft.notes,
    }  # fmt: skip
    if not any(draft.settings.values()):
        told.pop("secrets")
    if options.json:
        show_json(msgspec.to_builtins(told))
    else:
        _tell(told, draft)


def _tell(told: dict[str, Any], draft: Draft) -> None:
    counted = (
        f"{told[f'{name}s']} {name}{'' if told[f'{name}s'] == 1 else 's'}"
        for name in ("upstream", "deployment", "client")
    )
    print(f"{told['file']}: {', '.join(counted)}")
    if draft.settings:
        print(f"\nApp settings that it refers to: {', '.join(sorted(draft.settings))}")
    if "secrets" in told:
        print(f"Those that were there to read are in {told['secrets']}: put them where secrets belong, and delete it.")
    if draft.new_keys:
        print("\nNew keys, which are not shown again:")
        for client, key in draft.new_keys.items():
            print(f"  {client}: {key}")
    if draft.notes:
        print("\nNot carried over:")
        for note in draft.notes:
            print(f"  {note}")
    print(f"\nNext: TOLLGATE_CONFIG={told['file']} python -m devtools.cli doctor")
