"""The settings are named in three places, and the three say the same."""

import json
import re
from pathlib import Path

from shared.settings import SETTINGS

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| `(\w+)` \| (?:`([^`]*)` )?\| (.+?) \|$", re.MULTILINE)


def rows_of(markdown: str) -> list[tuple[str, str, str]]:
    """Name, default and help in the rows of a table of settings."""
    table = markdown.partition("| setting |")[2].partition("\n\n")[0]
    return [(name, default, help_) for name, default, help_ in ROW.findall(table)]


def test_the_page_names_every_setting_with_its_default_and_what_it_is_for() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert rows_of(page) == [(setting.name, setting.default, setting.help) for setting in SETTINGS]


def test_the_sample_names_every_setting() -> None:
    values = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    assert list(values) == ["FUNCTIONS_WORKER_RUNTIME", *(setting.name for setting in SETTINGS)]


def test_the_sample_shows_the_defaults() -> None:
    values = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    assert {name: values[name] for name in values if any(name == each.name and each.default for each in SETTINGS)} == {
        setting.name: setting.default for setting in SETTINGS if setting.default
    }


def test_a_table_that_lacks_a_setting_or_says_something_else_of_it_is_noticed() -> None:
    table = "| setting | default | what |\n|---|---|---|\n| `A` | `1` | Help. |\n| `B` | | Other. |\n\n| `C` | | No. |"
    assert rows_of(table) == [("A", "1", "Help."), ("B", "", "Other.")]
