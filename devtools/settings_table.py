"""`python -m devtools.settings_table`: writes the settings' names, defaults and help into docs/settings.md and the sample file.

Rule: shared/settings.py is where a setting is described; everything else that lists settings is written from it.
"""

import json
import re

from devtools.azurite import ROOT
from shared.settings import SETTINGS

_HEAD = "| setting | default | what for |\n|---|---|---|\n"


def main() -> None:
    """Writes both files."""
    rows = (f"| `{each.name}` |{f' `{each.default}` ' if each.default else ' '}| {each.help} |\n" for each in SETTINGS)
    page = ROOT / "docs" / "settings.md"
    text = page.read_text(encoding="utf-8")
    table = re.compile(re.escape(_HEAD) + r"(?:\|.*\n)*")
    page.write_text(table.sub(lambda _: _HEAD + "".join(rows), text), encoding="utf-8")
    sample = ROOT / "local.settings.sample.json"
    document = json.loads(sample.read_text(encoding="utf-8"))
    shown = document["Values"]
    document["Values"] = {"FUNCTIONS_WORKER_RUNTIME": "python"} | {
        each.name: each.default or shown.get(each.name, "") for each in SETTINGS
    }
    sample.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
