""".funcignore: what is deployed is the app and nothing else."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOYED = {"function_app.py", "functions", "host.json", "requirements.txt", "shared"}


def _files(*options: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", *options], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.splitlines())


def test_only_the_app_reaches_the_package() -> None:
    kept = _files("--cached") - _files("--cached", "--ignored", "--exclude-from=.funcignore")
    assert {name.split("/")[0] for name in kept} == DEPLOYED


def test_what_git_does_not_know_stays_at_home() -> None:
    lines = (ROOT / ".funcignore").read_text().splitlines()
    assert {".*", "node_modules", "local.settings*.json", "__pycache__"} <= set(lines)
