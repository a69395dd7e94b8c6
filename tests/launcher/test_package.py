"""What is deployed is the app and nothing else, whoever builds the package."""

import re
import shutil
import zipfile
from pathlib import Path

import pytest

from devtools import package

ROOT = Path(__file__).resolve().parents[2]
DEPLOYED = {"function_app.py", "functions", "host.json", "requirements.txt", "shared"}

LEFT_BEHIND = (
    "local.settings.json",
    "tollgate.toml",
    ".env",
    ".venv/bin/python",
    "dist/tollgate.zip",
    "__pycache__/function_app.cpython-313.pyc",
    "shared/core/__pycache__/keys.cpython-313.pyc",
    "node_modules/azurite/package.json",
)
"""What lies in a folder that somebody works in, and must not be deployed from there."""


def core_tools_keep(patterns: list[str], name: str) -> bool:
    """Whether `func azure functionapp publish` takes a file. Its rules are not git's: it looks at files' paths only, a pattern
    begins at the top folder and ends at the end of a word, and * is one character or more. Ours has no pattern with !.
    (Azure/azure-functions-core-tools, Common/GitIgnoreParser.cs.)"""
    if Path(name).name in {".funcignore", ".gitignore", "local.settings.json"} or name.startswith(
        (".git/", ".vscode/")
    ):
        return False
    wild = {"**": ".+", "*": "[^/]+"}
    for pattern in patterns:
        parts = re.split(r"(\*\*|\*)", pattern.removeprefix("/"))
        if re.match("".join(wild.get(part) or re.escape(part) for part in parts) + r"\b", name):
            return False
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The app, and what else lies around where somebody works on it."""
    for name in (*package.files(), ".funcignore", *everything_else()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in LEFT_BEHIND:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("not to be deployed")
    return tmp_path


def everything_else() -> list[str]:
    """A file of each other folder here, and the files beside them."""
    folders = ("bench", "devtools", "docs", "infra", "queries", "tests")
    inside = [next(path for path in sorted((ROOT / each).rglob("*")) if path.is_file()) for each in folders]
    beside = [path for path in ROOT.iterdir() if path.is_file()]
    return [path.relative_to(ROOT).as_posix() for path in (*inside, *beside)]


def test_only_the_app_reaches_the_package(folder: Path) -> None:
    assert package.files(folder) == package.files(ROOT)
    assert {name.split("/")[0] for name in package.files(folder)} == DEPLOYED


def test_core_tools_would_take_the_same_files(folder: Path) -> None:
    lines = [line.strip() for line in (folder / ".funcignore").read_text().splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert sorted(name for name in names if core_tools_keep(patterns, name)) == package.files(folder)


@pytest.mark.parametrize("name", ["package.json", "shared/__pycache__/tables.pyc"])
def test_a_pattern_that_core_tools_read_otherwise_than_git_is_noticed(name: str) -> None:
    assert core_tools_keep(["package*.json", "__pycache__"], name)
    assert not core_tools_keep(["package.json", "**/__pycache__"], name)


def test_the_same_tree_gives_the_same_package(folder: Path, tmp_path: Path) -> None:
    first = package.build(folder / "dist" / "first.zip", folder)
    for path in folder.rglob("*.py"):
        path.chmod(0o755)
        path.touch()
    package.build(folder / "dist" / "second.zip", folder)
    assert (folder / "dist" / "first.zip").read_bytes() == (folder / "dist" / "second.zip").read_bytes()
    assert [entry.filename for entry in first] == package.files(folder)


def test_the_package_is_listed_with_its_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "tollgate.zip"
    assert package.main(["--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert f"{output.stat().st_size:,} bytes" in printed
    with zipfile.ZipFile(output) as built:
        assert f"{len(built.namelist())} files" in printed
        assert all(f"  {name}\n" in printed for name in built.namelist())


def test_every_package_that_is_deployed_is_hashed() -> None:
    """Azure's remote build installs this file; with hashes it takes nothing but what was tested."""
    lines = (ROOT / "requirements.txt").read_text().replace("\\\n", " ").splitlines()
    pinned = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert len(pinned) > 30
    assert [line for line in pinned if "==" not in line or "--hash=sha256:" not in line] == []
