"""What the documents tell people to type is typed here, page by page, against a running app."""

import asyncio
import io
import json
import runpy
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from devtools.azurite import Azurite
from devtools.simulator import Simulator
from tests.documents import PAGES, ROOT, blocks, commands
from tests.stack import ADMIN_KEY, UPSTREAM_KEY, Stack, configuration, running

pytestmark = [  # a command leaves it to the end of its process to close what it has opened, and here that goes on
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TYPED = [page for page in PAGES if any(command.is_run_here for command in commands(page))]


@pytest.fixture(scope="module")
async def documented(anyio_backend: str, azurite: Azurite, simulator: Simulator) -> AsyncIterator[Stack]:
    """With a client that was made over HTTP, as readers have some."""
    async with running(azurite, simulator, "documented") as stack:
        url, headers = f"{stack.host.base_url}/manage/clients/team-c", {"authorization": f"Bearer {ADMIN_KEY}"}
        async with httpx.AsyncClient() as http:
            (await http.put(url, headers=headers, json={})).raise_for_status()
        yield stack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody types: the checkout, as far as commands look at it."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "queries").symlink_to(ROOT / "queries")
    return folder


@pytest.fixture
def at_the_prompt(documented: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that one is in, and what one has set there."""
    monkeypatch.chdir(folder)
    for name, value in {
        "TOLLGATE_URL": documented.host.base_url,
        "TOLLGATE_KEY": documented.key(),
        "TOLLGATE_ADMIN_KEY": ADMIN_KEY,
        "TOLLGATE_PREFIX": documented.prefix,
        "TOLLGATE_CONFIG": json.dumps(configuration(documented.simulator, documented.keys)),
        "UPSTREAM_KEY": UPSTREAM_KEY,
        "AzureWebJobsStorage": documented.azurite.connection_string,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a-key-that-another-gateway-made\n"))  # the answer to whoever asks
    return folder


def type_in(text: str) -> None:
    """Runs a line as the shell would. `python -m` runs in this process, for starting one takes seconds."""
    words = shlex.split(text)
    if words[:2] == ["python", "-m"]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words[2:])
            patch.delitem(sys.modules, words[2], raising=False)  # another test may have it: runpy warns of that
            with pytest.raises(SystemExit) as ended:
                runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        assert not ended.value.code, text
        return
    line = text.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
    subprocess.run(["bash", "-c", line], check=True, timeout=90)


def key_of(client: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The id of a client's newest key: what a reader copies from the list."""
    capsys.readouterr()
    type_in(f"python -m devtools.cli keys list {client} --json")
    [key, *_] = json.loads(capsys.readouterr().out)
    return str(key["id"])


@pytest.fixture(scope="module")
def typed() -> set[str]:
    """What has worked already: pages repeat each other, and once is enough."""
    return set()


@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.name)
def test_what_a_page_tells_to_type_works(
    page: Path, at_the_prompt: Path, typed: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (at_the_prompt / "tollgate.toml").unlink(missing_ok=True)
    for text in blocks(page, "toml")[:1]:
        (at_the_prompt / "tollgate.toml").write_text(text)
    for command in commands(page):
        if command.is_run_here and command.text not in typed:
            words = command.text.split()
            key = key_of(words[-2], capsys) if "KEY_ID" in words else ""
            type_in(command.text.replace("KEY_ID", key))
            typed.add(command.text)


@pytest.mark.parametrize("line", ["python -m devtools.cli clients show nobody", "curl $TOLLGATE_URL/nothing", "false"])
def test_a_line_that_does_not_work_is_noticed(line: str, at_the_prompt: Path) -> None:
    with pytest.raises((AssertionError, subprocess.CalledProcessError)):
        type_in(line)


async def test_the_call_in_the_readme_leaves_the_row_that_is_shown(documented: Stack) -> None:
    [code] = blocks(ROOT / "README.md", "python")
    code = code.replace("http://127.0.0.1:7071", documented.host.base_url).replace("tg-...", documented.key())
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=True, timeout=90)
    [shown] = blocks(ROOT / "README.md", "json")
    expected = {name: value for name, value in json.loads(shown).items() if name != "..."}
    report = await documented.usage_when(lambda report: report["total"]["completed"] == 1, documented.key())
    [row] = report["data"]
    assert {name: row[name] for name in expected} == expected
