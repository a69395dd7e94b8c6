"""The documents are held to the code: what they tell to type, show as configuration, and link to."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from shared.core.configuration import parse
from tests.documents import IS_SAID, NEEDS_AZURE, PAGES, ROOT, RUN_BY, RUN_HERE, Command, blocks, commands

COMMANDS = [command for page in PAGES for command in commands(page)]
ALL_PAGES = [pytest.param(page, id=page.name) for page in PAGES]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.text[:60])
def test_how_each_command_is_known_to_work_is_said_once(command: Command) -> None:
    assert len(command.ways) == 1, f"{command.page.name}: {command.text}"


def test_nothing_is_said_that_no_document_has() -> None:
    used = {words for command in COMMANDS for words in command.ways}
    assert used == {*RUN_HERE, *RUN_BY, *NEEDS_AZURE, *IS_SAID}


def test_a_command_that_nobody_runs_is_noticed() -> None:
    assert Command(PAGES[0], "make coffee").ways == []
    assert Command(PAGES[0], "azdo up").ways == []


@pytest.mark.parametrize("page", ALL_PAGES)
def test_no_command_stands_where_it_is_not_seen(page: Path) -> None:
    """What is to be typed stands in a `sh` block."""
    programs = {words.split()[0] for words in (*RUN_HERE, *RUN_BY, *NEEDS_AZURE)}
    lines = [line for block in blocks(page, "") for line in block.splitlines()]
    assert [line for line in lines if line.split()[:1] and line.split()[0] in programs] == []


def test_what_another_test_runs_is_what_make_starts() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for words, test in RUN_BY.items():
        if not words.startswith("make "):
            assert f'"{words.split()[-1]}"' in (ROOT / "tests" / test).read_text(), words
            continue
        target = words.removeprefix("make ")
        recipe = re.search(rf"^{target}: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        assert recipe, words
        if test:
            [module] = re.findall(r"-m devtools\.(\w+)", recipe[1])
            path = ROOT / "tests" / test
            sources = [each.read_text() for each in (path, path.with_name("conftest.py")) if each.exists()]
            assert any(re.search(rf"\bdevtools(\.| import .*\b){module}\b", source) for source in sources), words


@pytest.mark.parametrize("page", [*ALL_PAGES, pytest.param(ROOT / "ARCHITECTURE.md", id="ARCHITECTURE.md")])
def test_what_is_named_in_passing_exists(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make (\w+)", text)) <= targets
    for module in re.findall(r"python -m ((?:devtools|bench)[\w.]*)", text):
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("page", ALL_PAGES)
def test_what_is_shown_as_configuration_is_one(page: Path) -> None:
    for text in blocks(page, "toml"):
        parse(text, dict.fromkeys(re.findall(r"\$(\w+)", text), "https://example.com/a-secret"))


@pytest.mark.parametrize("page", ALL_PAGES)
def test_what_is_shown_as_json_is_some(page: Path) -> None:
    for text in blocks(page, "json"):
        json.loads(text)


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*ALL_PAGES, pytest.param(ROOT / "ARCHITECTURE.md", id="ARCHITECTURE.md")])
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not link.startswith(("https://", "http://")):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_every_page_can_be_found_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme] == []


def test_tests_that_are_named_exist() -> None:
    for page in (*PAGES, ROOT / "ARCHITECTURE.md"):
        for name in re.findall(r"`(?:tests/)?((?:\w+/)?test_\w+\.py)`", page.read_text()):
            assert (ROOT / "tests" / name).exists(), f"{page.name}: {name}"
