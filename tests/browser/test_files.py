"""The dashboard's files: what is deployed, where they come from, and how they are served."""

import gzip
import json
import re

import httpx
import pytest

from devtools import package
from tests.browser.given import BUDGETS
from tests.stack import ADMIN_KEY, APP, Stack

FOLDER = APP / "functions" / "dashboard_page"
FILES = sorted(path.relative_to(APP).as_posix() for path in FOLDER.rglob("*") if path.is_file())


def test_the_package_that_is_deployed_has_every_file() -> None:
    assert len(FILES) > 10
    assert set(FILES) <= set(package.files())


def test_the_chart_library_is_its_packages_own_in_the_version_that_is_pinned() -> None:
    published = APP / "node_modules" / "chart.js"
    vendored = (FOLDER / "vendor" / "chart.umd.min.js").read_bytes()
    assert vendored == (published / "dist" / "chart.umd.min.js").read_bytes()
    pinned = json.loads((APP / "package.json").read_text(encoding="utf-8"))["dependencies"]["chart.js"]
    assert f"Chart.js v{pinned}".encode() in vendored[:100]
    licence = (published / "LICENSE.md").read_text(encoding="utf-8").strip()
    assert licence in (FOLDER / "vendor" / "chart.umd.min.js.LICENSE.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "pattern", ["innerHTML *=", "outerHTML", "insertAdjacentHTML", "eval\\(", "https?://(?!www.w3.org|jfly|owasp)"]
)
def test_no_script_of_ours_makes_markup_of_text_or_asks_another_host(pattern: str) -> None:
    """What the browser's policy forbids, seen before a browser is asked. Comments may cite their sources."""
    for path in [*FOLDER.glob("*.js"), FOLDER / "index.html", FOLDER / "style.css", FOLDER / "icon.svg"]:
        assert not re.search(pattern, path.read_text(encoding="utf-8")), path.name


async def test_files_are_kept_for_ever_by_their_version_and_the_page_asks_again(app: Stack) -> None:
    async with httpx.AsyncClient(base_url=app.host.base_url, headers={"accept-encoding": "gzip"}) as http:
        page = await http.get("/dashboard")
        [script] = re.findall(r'<script src="(dashboard/\w+/main\.js)"', page.text)
        file = await http.get(f"/{script}")
        same = await http.get("/dashboard", headers={"if-none-match": page.headers["etag"]})
        others = await http.get("/dashboard/0123456789abcdef/main.js")
        plain = await http.get(f"/{script}", headers={"accept-encoding": "identity"})
        slash = await http.get("/dashboard/")
        missing = await http.get("/dashboard/0123456789abcdef/../../host.json")
        wrong = await http.post("/dashboard")
    assert (page.headers["cache-control"], file.headers["cache-control"]) == (
        "no-cache",
        "public, max-age=31536000, immutable",
    )
    assert (same.status_code, same.content) == (304, b"")
    assert (others.content, others.headers["cache-control"]) == (file.content, "no-cache")  # while versions change
    assert (file.headers["content-encoding"], plain.headers.get("content-encoding")) == ("gzip", None)
    assert plain.content == file.content == (FOLDER / "main.js").read_bytes()
    assert int(file.headers["content-length"]) < len(gzip.compress(plain.content)) + 100
    assert str(slash.next_request.url if slash.next_request else "").endswith("/dashboard")
    assert (missing.status_code, wrong.status_code) == (404, 405)
    for answer in (page, file):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


async def test_an_overview_takes_a_time_and_a_field_and_is_for_those_who_may_see_it(app: Stack) -> None:
    async with httpx.AsyncClient(base_url=app.host.base_url) as http:
        nobodys = await http.get("/dashboard/overview")
        mine = {"authorization": f"Bearer {app.key('team-b')}"}
        wrong = await http.get("/dashboard/overview?group_by=day,hour", headers=mine)
        none = await http.get("/dashboard/overview?group_by=day,model&client_id=support-copilot", headers=mine)
    assert (nobodys.status_code, wrong.status_code, none.status_code) == (401, 400, 200)
    assert none.json()["total"]["calls"] == 0
    assert set(none.json()["names"]["client_id"]) <= {"team-b"}


async def test_budgets_are_told_to_those_who_have_them(app: Stack) -> None:
    async with httpx.AsyncClient(base_url=app.host.base_url) as http:
        everyones, mine, others, one = [
            await http.get(f"/usage/budgets{query}", headers={"api-key": key})
            for query, key in (
                ("", ADMIN_KEY),
                ("", app.key("team-a")),
                ("?client_id=team-a", app.key("team-b")),
                ("?client_id=contract-review", ADMIN_KEY),
            )
        ]
    assert {budget["client_id"] for budget in everyones.json()["data"]} == set(BUDGETS)
    assert [budget["limit"] for budget in mine.json()["data"]] == ["500"]
    assert others.json()["data"] == []
    assert [budget["measure"] for budget in one.json()["data"]] == ["tokens_per_month"]
