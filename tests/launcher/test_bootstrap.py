"""devtools/bootstrap.sh: which steps run, and when. The tools it calls are stand-ins that note each call."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What the script and the stand-ins may use of this machine; all else is missing for them.
REAL = ("sh", "cat", "dirname", "git", "ln", "make", "mkdir", "rm")
NOTE = 'echo "$(basename "$0") $*" >>"$CALLS"'
TOOLS = {
    "basename": 'echo "${1##*/}"',
    "id": "echo 1000",
    "node": "exit 0",
    "npm": f"case $1 in ci) {NOTE}; mkdir -p node_modules ;; esac",
    "uv": f"""case $1 in
        venv) {NOTE}; mkdir -p .venv/bin; for last; do :; done; ln -s {sys.executable} .venv/bin/python ;;
        pip) {NOTE} ;;
        python) case $2 in install) {NOTE} ;; find) echo {sys.executable} ;; esac ;;
        esac""",
    # A pyenv shim: there by name, but it does not run.
    "python3": "exit 127",
    "python3.13": "exit 127",
}
SYSTEM_BINS = ("/usr/local/bin", "/usr/bin", "/opt/homebrew/bin")
DEBIAN = Path("/etc/debian_version").exists()


class Machine:
    """A clone on a machine with these tools only."""

    def __init__(self, folder: Path) -> None:
        self.clone, self.bin, self.home = folder / "clone", folder / "bin", folder / "home"
        self._calls = folder / "calls"
        for one in (self.clone / "devtools", self.bin, self.home / ".pyenv/versions/3.13.1/bin"):
            one.mkdir(parents=True)
        shutil.copy(ROOT / "devtools/bootstrap.sh", self.clone / "devtools")
        for name in ("requirements.txt", "requirements-dev.txt", "package.json", "package-lock.json", ".npmrc"):
            shutil.copy(ROOT / name, self.clone)
        for name in REAL:
            (self.bin / name).symlink_to(str(shutil.which(name)))
        for name, body in TOOLS.items():
            self.has(name, body)
        self.python = self.home / ".pyenv/versions/3.13.1/bin/python3"
        self.python.symlink_to(sys.executable)

    def has(self, name: str, body: str) -> None:
        """Put a stand-in on PATH."""
        file = self.bin / name
        file.unlink(missing_ok=True)
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)

    def lacks(self, name: str) -> None:
        """Take a tool off PATH."""
        (self.bin / name).unlink()

    def bootstrap(self) -> tuple[int, str, list[str]]:
        """Run the script: exit code, what it said, and the tools' calls by their first two words."""
        self._calls.write_text("")
        environment = {"PATH": str(self.bin), "HOME": str(self.home), "CALLS": str(self._calls)}
        done = subprocess.run(
            [self.clone / "devtools/bootstrap.sh"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.stdout == ""
        return (
            done.returncode,
            done.stderr,
            [" ".join(line.split()[:2]) for line in self._calls.read_text().splitlines()],
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_second_time_nothing_is_installed(machine: Machine) -> None:
    code, said, calls = machine.bootstrap()
    assert (code, sorted(calls)) == (0, ["npm ci", "uv pip", "uv venv"]), said
    assert "installing Python packages" in said
    assert machine.bootstrap() == (0, "", [])


def test_the_python_is_one_that_runs_whatever_is_named_python313(machine: Machine) -> None:
    assert f"creating .venv with {machine.python}" in machine.bootstrap()[1]


@pytest.mark.skipif(any(Path(place, "python3.13").exists() for place in SYSTEM_BINS), reason="has a Python 3.13")
def test_without_a_python_that_runs_uv_fetches_one(machine: Machine) -> None:
    machine.python.unlink()
    code, said, calls = machine.bootstrap()
    assert code == 0, said
    assert f"creating .venv with {sys.executable}" in said
    assert "uv python" in calls


CHANGES = {
    "requirements.txt": ["uv pip"],
    "requirements-dev.txt": ["uv pip"],
    "package-lock.json": ["npm ci"],
}


@pytest.mark.parametrize(("file", "expected"), CHANGES.items(), ids=CHANGES.keys())
def test_a_changed_input_repeats_its_own_step_only(file: str, expected: list[str], machine: Machine) -> None:
    machine.bootstrap()
    with (machine.clone / file).open("a") as changed:
        changed.write("\n")
    assert machine.bootstrap()[::2] == (0, expected)


@pytest.mark.parametrize("tool", ["uv", "npm"])
def test_a_step_that_failed_is_repeated(tool: str, machine: Machine) -> None:
    machine.has(tool, TOOLS[tool].replace("pip)", "pip) exit 7;").replace("ci)", "ci) exit 7;"))
    assert machine.bootstrap()[0] != 0
    machine.has(tool, TOOLS[tool])
    code, _, calls = machine.bootstrap()
    assert code == 0
    assert {"uv": "uv pip", "npm": "npm ci"}[tool] in calls


def test_a_venv_whose_python_is_gone_is_made_anew(machine: Machine) -> None:
    machine.bootstrap()
    python = machine.clone / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/gone/python3")
    assert machine.bootstrap()[::2] == (0, ["uv venv", "uv pip"])


@pytest.mark.parametrize("tool", ["git", "make", "node", "npm"])
@pytest.mark.skipif(not DEBIAN, reason="names Debian's command")
def test_what_is_missing_is_named_with_the_command_that_installs_it(tool: str, machine: Machine) -> None:
    machine.lacks(tool)
    machine.has("apt-get", "exit 1")
    code, said, calls = machine.bootstrap()
    assert code == 1
    assert f"sudo apt-get install {'nodejs' if tool == 'node' else tool}" in said
    assert calls == []


@pytest.mark.skipif(not DEBIAN, reason="apt-get is Debian's")
def test_root_on_debian_gets_it_installed(machine: Machine) -> None:
    machine.lacks("node")
    machine.has("id", "echo 0")
    make_node = f"ln -s {shutil.which('true')} {machine.bin}/node"
    machine.has("apt-get", f'{NOTE}; case "$*" in *nodejs) {make_node} ;; esac')
    code, said, calls = machine.bootstrap()
    assert code == 0, said
    assert calls[:2] == ["apt-get update", "apt-get install"]


def test_a_node_that_is_too_old_counts_as_missing(machine: Machine) -> None:
    machine.has("node", "exit 1")
    code, said, _ = machine.bootstrap()
    assert code == 1
    assert "Node.js 20 or newer is missing" in said


def test_no_registry_is_named() -> None:
    for name in ("Makefile", "devtools/bootstrap.sh", "requirements.txt", "requirements-dev.txt", "package-lock.json"):
        text = (ROOT / name).read_text()
        assert not [host for host in ("registry.", "pypi.org", "pythonhosted", "index-url") if host in text]
