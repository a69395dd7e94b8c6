"""The package that is deployed, in an environment of its own: what it needs is in requirements.txt, and it does its job there."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import httpx
import openai
import pytest

from devtools import package
from devtools.azurite import Azurite
from devtools.devhost.client import Tools
from devtools.simulator import Simulator
from tests.stack import APP, Stack, running

OF_THE_HOST = ("croniter", "dateutil")
"""What the dev host needs for its timers, and the app does not; the host in Azure brings its own."""


WRITES_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""Only what is imported is compiled, and that once."""


def uv(*arguments: str) -> None:
    command = shutil.which("uv") or str(APP / ".local" / "tools" / "bin" / "uv")
    subprocess.run([command, *arguments], check=True, capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which nothing but requirements.txt is installed."""
    home = tmp_path_factory.mktemp("deployed") / "venv"
    uv("venv", "--quiet", "--no-project", "--python", sys.executable, str(home))
    uv("pip", "sync", "--quiet", "--require-hashes", "--python", str(home), str(APP / "requirements.txt"))
    return home / "bin" / "python"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    package.build(folder / "package.zip")
    with zipfile.ZipFile(folder / "package.zip") as built:
        built.extractall(folder / "app")
    return folder / "app"


@pytest.fixture(scope="module")
def tools(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """The dev host away from this checkout, so that the app cannot be found here."""
    folder = tmp_path_factory.mktemp("tools")
    shutil.copytree(APP / "devtools", folder / "devtools", ignore=shutil.ignore_patterns("__pycache__"))
    for name in OF_THE_HOST:
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        (folder / name).symlink_to(Path(spec.origin).parent)
    return Tools(python=str(python), folder=folder)


def test_the_package_imports_with_nothing_but_its_requirements(python: Path, unpacked: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | WRITES_BYTECODE
    done = subprocess.run(
        [
            python,
            "-c",
            "import function_app, sys; print(len(function_app.app.get_functions()), 'devtools' in sys.modules)",
        ],
        cwd=unpacked,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    count, knows_tools = done.stdout.split()
    assert int(count) > 5
    assert knows_tools == "False"


async def test_the_package_does_the_main_job(
    azurite: Azurite, simulator: Simulator, prefix: str, unpacked: Path, tools: Tools
) -> None:
    """A call is answered, recorded by the queue's trigger, and rolled up by the timer's, all by the package's own code."""
    assert not (tools.folder / "shared").exists()
    async with (
        running(azurite, simulator, prefix, app=unpacked, tools=tools, PYTHONPATH="", **WRITES_BYTECODE) as stack,
        openai.AsyncOpenAI(api_key=stack.key(), base_url=f"{stack.host.base_url}/v1", max_retries=0) as client,
    ):
        answer = await client.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hello"}]
        )
        report = await stack.usage_when(lambda report: report["total"]["completed"] == 1)
        told = answer.parse().usage
        assert told is not None
        assert (report["total"]["input_tokens"], report["total"]["output_tokens"]) == (
            told.prompt_tokens,
            told.completion_tokens,
        )
        await looks_right(stack, answer.headers["x-tollgate-call-id"])


async def looks_right(stack: Stack, call_id: str) -> None:
    async with httpx.AsyncClient(base_url=stack.host.base_url) as http:
        assert (await http.get("/health")).status_code == 200
        call = await http.get(f"/calls/{call_id}", headers={"authorization": f"Bearer {stack.key()}"})
    assert call.json()["record"]["outcome"] == "completed"
