"""The command line: what it prints, and how it ends."""

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest

from devtools import cli, configuration_schema
from devtools.cli import api
from shared.core.configuration import Document

ROOT = Path(__file__).resolve().parents[2]
VIEW = {
    "client": {"id": "a", "name": "A", "cost_center": "", "models": ["m"], "limits": {"tokens_per_minute": 5}},
    "source": "table",
    "etag": 'W/"1"',
    "keys": [
        {"id": "00000001", "state": "active", "created_at": None, "expires_at": None, "revoked_at": None, "note": "n"}
        | {"source": "table"}
    ],
}


class Server(ThreadingHTTPServer):
    """A gateway that answers what it is told and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, method: str, path: str, value: object, status: int = 200) -> None:
        self.answers[f"{method} {path}"] = (status, json.dumps(value).encode())


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, headers, json.loads(body) if body else None))
        status, answer = self.server.answers.get(f"{self.command} {self.path}", (404, b"no JSON"))
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST = do_DELETE = _do  # noqa: N815 - the base class looks for these names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No gateway of this machine is asked by accident."""
    monkeypatch.delenv("TOLLGATE_URL", raising=False)
    monkeypatch.delenv("TOLLGATE_ADMIN_KEY", raising=False)
    monkeypatch.setattr(api, "RUN_INFO", tmp_path / "run.json")


def run(server: Server, *arguments: str) -> int:
    return cli.main(["--url", server.url, "--admin-key", "k", *arguments])


def test_every_module_with_commands_is_registered() -> None:
    modules = {each.stem for each in (ROOT / "devtools" / "cli").glob("*.py") if "\ndef add(" in each.read_text()}
    assert set(cli.COMMANDS.values()) == modules


def test_every_command_is_found_by_its_first_word(capsys: pytest.CaptureFixture[str]) -> None:
    for word in cli.COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            cli.main([word, "--help"])
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    told = capsys.readouterr().out.rpartition("COMMAND\n")[2]
    assert re.findall(r"^    (\S+)  ", told, re.MULTILINE) == [*cli.COMMANDS]


def test_a_table_is_for_people(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer("GET", "/manage/clients", {"clients": [VIEW]})
    assert run(server, "clients", "list") == 0
    assert capsys.readouterr().out.splitlines() == [
        "ID  NAME  COST CENTER  MODELS  LIMITS               KEYS  SOURCE",
        "a   A     -            m       tokens_per_minute=5  1     table",
    ]


def test_json_is_for_machines(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer("GET", "/manage/clients", {"clients": [VIEW]})
    assert run(server, "clients", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [VIEW]


def test_an_update_changes_what_it_names_and_nothing_else(server: Server) -> None:
    server.answer("GET", "/manage/clients/a", VIEW)
    server.answer("PUT", "/manage/clients/a", VIEW)
    changes = ("--set", "limits.requests_per_minute=7", "--set", "on_disconnect=cancel", "--models", "all")
    assert run(server, "clients", "update", "a", *changes) == 0
    _, _, headers, body = server.asked[-1]
    assert headers["if-match"] == 'W/"1"'
    limits = {"tokens_per_minute": 5, "requests_per_minute": 7}
    assert body == {**VIEW["client"], "limits": limits, "on_disconnect": "cancel", "models": None}  # type: ignore[dict-item]


def test_a_client_is_made_only_where_there_is_none(server: Server) -> None:
    server.answer("PUT", "/manage/clients/a%2Fb", VIEW, 201)
    assert run(server, "clients", "create", "a/b", "--name", "N", "--models", "x, y") == 0
    _, _, headers, body = server.asked[-1]
    assert (headers["if-none-match"], headers["authorization"]) == ("*", "Bearer k")
    assert body == {"name": "N", "models": ["x", "y"]}


def test_a_key_is_printed_once_with_a_warning(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    key = {"id": "00000001", "key": "tg-1", "client_id": "a", "created_at": "now", "expires_at": None, "note": ""}
    server.answer("POST", "/manage/clients/a/keys", key, 201)
    assert run(server, "keys", "create", "a", "--expires-in-days", "1") == 0
    assert "tg-1" in (out := capsys.readouterr().out)
    assert "not shown again" in out
    assert server.asked[-1][3]["expires_at"] > "2026"


REFUSALS: dict[str, tuple[object, int, str]] = {
    "in OpenAI's shape": ({"error": {"message": "There is\nno client 'a'."}}, 404, "There is no client 'a'. (404)"),
    "in another": ({"error": "nope"}, 500, "nope (500)"),
}


@pytest.mark.parametrize(("answer", "status", "told"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_is_one_line_and_exit_code_1(
    server: Server, capsys: pytest.CaptureFixture[str], answer: object, status: int, told: str
) -> None:
    server.answer("GET", "/manage/clients/a", answer, status)
    assert run(server, "clients", "show", "a") == 1
    assert capsys.readouterr() == ("", f"error: {told}\n")


def test_an_answer_of_something_else_is_told(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "deployments", "list") == 1
    assert "is no Tollgate: it answered 404 without JSON" in capsys.readouterr().err


def test_a_gateway_that_is_away_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--url", "http://127.0.0.1:1", "--admin-key", "k", "clients", "list"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: http://127.0.0.1:1 cannot be reached: ")
    assert err.count("\n") == 1


def test_without_an_address_it_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["clients", "list"]) == 1
    assert "--url (or TOLLGATE_URL)" in capsys.readouterr().err
    assert cli.main(["clients", "list", "--url", "http://x"]) == 1
    assert "--admin-key (or TOLLGATE_ADMIN_KEY)" in capsys.readouterr().err


def test_the_gateway_of_make_run_is_asked_where_none_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"base_url": server.url, "admin_key": "local"}))
    server.answer("GET", "/manage/deployments", {"deployments": []})
    assert cli.main(["deployments", "list"]) == 0
    assert server.asked[-1][2]["authorization"] == "Bearer local"


def test_the_environment_names_the_gateway(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_URL", server.url + "/")
    monkeypatch.setenv("TOLLGATE_ADMIN_KEY", "from-the-environment")
    server.answer("GET", "/manage/deployments", {"deployments": []})
    assert cli.main(["deployments", "list"]) == 0
    assert server.asked[-1][2]["authorization"] == "Bearer from-the-environment"


@pytest.mark.parametrize("arguments", [[], ["clients"], ["clients", "show"], ["keys", "create"], ["nothing"]])
def test_what_is_not_understood_ends_with_2_and_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_a_good_file_is_said_to_be_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "good.toml"
    file.write_text('[[upstreams]]\nname = "u"\nkind = "openai"\nurl = "$WHERE"\nkey = "$KEY"\n')
    settings = tmp_path / "local.settings.json"
    settings.write_text(json.dumps({"Values": {"WHERE": "https://u.example/v1", "KEY": "secret"}}))
    assert cli.main(["config", "check", str(file), "--settings", str(settings), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "valid": True, "problems": [], "upstreams": 1, "deployments": 0, "clients": 0,
    }  # fmt: skip


def test_problems_of_a_file_are_printed_with_their_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('[[deployments]]\nname = "d"\nmodel = "m"\nupstream = "u"\n\n[[clients]]\nid = "a"\nnmae = "x"\n')
    assert cli.main(["config", "check", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == (f"{file}: line 8: Object contains unknown field `nmae` - at `$.clients[0]`: did you mean `name`?\n")
    assert err == f"error: {file} has 1 problem\n"
    assert cli.main(["config", "check", str(file), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["valid"] is False


def test_a_file_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "check", "nowhere.toml"]) == 1
    assert "nowhere.toml" in capsys.readouterr().err


def test_the_committed_schema_is_that_of_the_structs(capsys: pytest.CaptureFixture[str]) -> None:
    """Mend with: python -m devtools.cli config schema > tollgate.schema.json"""
    assert cli.main(["config", "schema"]) == 0
    assert (ROOT / "tollgate.schema.json").read_text() == capsys.readouterr().out


def test_every_field_with_a_docstring_is_described_in_the_schema() -> None:
    schema = json.loads(configuration_schema.text())
    weight = schema["$defs"]["Deployment"]["properties"]["weight"]
    assert weight["description"].startswith("Its share of the calls")
    assert weight["minimum"] == 1
    assert "regoin" not in schema["$defs"]["Upstream"]["properties"]
    assert set(schema["$defs"]["Document"]["properties"]) == {
        field.encode_name for field in msgspec.structs.fields(Document)
    }
