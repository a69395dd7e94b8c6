"""What README.md and docs/ tell people to type, and how it is known to work.

Rule: every line of a `sh` block is run as it stands (tests/e2e/test_documents.py), is run by another test that is named here, or
needs what cannot be had where tests run; which of these it is, is said once, and what nobody types is not said.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

RUN_HERE = ("curl", "python -m devtools.cli", "python -m devtools.kql")

RUN_BY = {
    "make cost": "test_infra.py",
    "make kql": "devtools/test_kql.py",
    "make package": "launcher/test_package.py",
    "make run": "launcher/test_run.py",
    "make test": "",  # this is what runs
    "python -m devtools.cli init --accounts": "devtools/test_moving.py",
    "python -m devtools.cli reconcile": "e2e/test_reports.py",
}
"""Commands, and the test that runs what they start."""

NEEDS_AZURE = {"az", "azd", "func"}
"""Programs that no package registry has, and that need a subscription."""

IS_SAID = {"export"}
"""What a reader sets by hand, and the test in its environment."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One line of a `sh` block, without its comment."""

    page: Path
    text: str

    def starts_with(self, words: str) -> bool:
        return self.text == words or self.text.startswith(f"{words} ")

    @property
    def ways(self) -> list[str]:
        """The ways in which it is known to work: one, if all is well."""
        others = [words for words in (*RUN_BY, *NEEDS_AZURE, *IS_SAID) if self.starts_with(words)]
        return others or [words for words in RUN_HERE if self.starts_with(words)]

    @property
    def is_run_here(self) -> bool:
        return set(self.ways) <= set(RUN_HERE)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, as they stand."""
    return [text for named, text in _FENCE.findall(page.read_text(encoding="utf-8")) if named == language]


def commands(page: Path) -> Iterator[Command]:
    """Every command of a page, in order."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if text := re.sub(r"(^|\s)#.*", "", line).strip():
                yield Command(page, text)
