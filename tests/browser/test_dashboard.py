"""The dashboard in a real browser: what stands there is what the API says, to whom it may be said, and for everyone to use."""

import base64
import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser.conftest import ADMIN_ROLE, Tab
from tests.browser.given import ATTACK, BUDGETS, FORMULA
from tests.stack import ADMIN_KEY, APP, Stack

AXE = APP / "node_modules" / "axe-core" / "axe.min.js"
VIOLATIONS = """
rules => axe.run(document, { runOnly: rules, resultTypes: ["violations"] }).then(({ violations }) => violations.flatMap(
  ({ id, nodes }) => nodes.map(({ html, any, all }) => `${id}: ${html.slice(0, 160)} ${(any[0] ?? all[0])?.message}`)
))
"""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def thirty_days() -> dict[str, str]:
    """What the page asks for by itself."""
    today = datetime.now(UTC).date()
    return {"start": f"{today - timedelta(days=29)}", "end": f"{today + timedelta(days=1)}"}


def money(cost: str) -> str:
    """As the page writes it: to the cent, or what is less with two digits."""
    amount = Decimal(cost)
    return f"${amount:,.2f}" if not 0 < amount < Decimal("0.01") else f"${round(amount, 1 - amount.adjusted()):f}"


async def usage(app: Stack, key: str = ADMIN_KEY, **parameters: str) -> dict[str, Any]:
    return await app.usage(key, **thirty_days(), **parameters)


async def test_the_figures_are_the_apis(tab: Tab, app: Stack) -> None:
    await tab.open()
    total = (await usage(app))["total"]
    assert total["calls"] > 100
    assert await tab.figure("Calls") == f"{total['calls']:,}"
    assert await tab.figure("Spend") == money(total["cost"])
    assert await tab.figure("First byte, p95") == f"{total['first_byte_ms']['p95']:,} ms"
    failed = total["upstream_error"] + total["incomplete"]
    assert await tab.figure("Errors") == f"{failed / total['calls']:.1%}"
    assert await tab.figure("Failovers") == f"{total['failovers'] / total['calls']:.1%}"
    accounted = dict(await ledger(tab, "complete"))
    assert accounted == {
        name: f"{total[field]:,}"
        for name, field in {
            "Opened": "calls", "Closed": "closed", "Open": "open", "Incomplete": "incomplete",
            "Usage unknown": "usage_unknown", "Unpriced": "unpriced_calls",
        }.items()
    }  # fmt: skip
    assert dict(await ledger(tab, "source"))["Drained"].startswith(f"{total['drained']:,}")
    await tab.screenshot("light")


async def ledger(tab: Tab, panel: str) -> list[tuple[str, str]]:
    """What a panel counts: names and numbers."""
    pairs = "rows => rows.map(row => [...row.children].map(each => each.innerText.split('\\n')[0].trim()))"
    found: list[list[str]] = await tab.page.locator(f"#{panel} dl > div").evaluate_all(pairs)
    notes = await tab.page.locator(f"#{panel} dt .note").all_inner_texts()
    return [(name.removesuffix(note).strip(), number) for (name, number), note in zip(found, notes, strict=True)]


async def test_each_client_ranks_with_its_own_figures(tab: Tab, app: Stack) -> None:
    await tab.open()
    expected = {
        line["client_id"]: (money(line["cost"]), f"{line['calls']:,}")
        for line in (await usage(app, group_by="client_id"))["data"]
    }
    rows = await tab.rows("top-table")
    assert {row[0]: (row[1], row[4]) for row in rows} == expected
    spent = [Decimal(row[1].removeprefix("$").replace(",", "")) for row in rows]
    assert spent == sorted(spent, reverse=True)


async def test_the_table_beside_the_chart_has_each_days_numbers(tab: Tab, app: Stack) -> None:
    """Guards also that a day without calls is there, and is nothing."""
    await tab.open("measure=calls&by=client_id")
    by_day = {line["day"]: line for line in (await usage(app, group_by="day"))["data"]}
    await tab.page.locator("#time-table").evaluate("table => table.closest('details').open = true")
    rows = await tab.rows("time-table")
    first = datetime.fromisoformat(thirty_days()["start"])
    days = [f"{first + timedelta(days=number):%Y-%m-%d}" for number in range(30)]
    assert [row[-1] for row in rows] == [f"{by_day[day]['calls'] if day in by_day else 0:,}" for day in days]
    for row in rows:
        assert sum(int(cell.replace(",", "")) for cell in row[1:-1]) == int(row[-1].replace(",", ""))


async def test_filters_narrow_every_figure_and_the_address_keeps_them(tab: Tab, app: Stack) -> None:
    await tab.open()
    await tab.page.locator("#model").select_option("gpt-4o")
    await tab.shown()
    await tab.page.locator("#client_id").select_option("support-copilot")
    await tab.until("location.hash.includes('client_id=support-copilot')")
    await tab.shown()
    narrowed = await usage(app, model="gpt-4o", client_id="support-copilot")
    assert await tab.figure("Calls") == f"{narrowed['total']['calls']:,}"
    assert [row[0] for row in await tab.rows("top-table")] == ["support-copilot"]
    await tab.page.reload()
    await tab.shown()
    assert await tab.figure("Calls") == f"{narrowed['total']['calls']:,}"
    await tab.page.get_by_role("button", name="Clear filters").click()
    await tab.shown()
    assert await tab.figure("Calls") == f"{(await usage(app))['total']['calls']:,}"


async def test_days_are_those_of_the_time_zone(tab: Tab, app: Stack) -> None:
    await tab.open("measure=calls&range=custom&from=2026-01-01&to=2026-01-02")
    assert await tab.page.get_by_role("heading", name="No calls in this period").is_visible()
    today = datetime.now(UTC).date()
    days = {"start": f"{today - timedelta(days=5)}", "end": f"{today - timedelta(days=2)}"}
    there = await app.usage(group_by="day", time_zone="Pacific/Auckland", **days)
    here = await app.usage(group_by="day", **days)
    assert [line["calls"] for line in there["data"]] != [line["calls"] for line in here["data"]]
    view = f"range=custom&from={days['start']}&to={today - timedelta(days=3)}"
    await tab.page.goto(f"{tab.url}/dashboard#{view}&measure=calls&zone=Pacific/Auckland")
    await tab.shown()
    await tab.page.locator("#time-table").evaluate("table => table.closest('details').open = true")
    assert [row[-1] for row in await tab.rows("time-table")] == [f"{line['calls']:,}" for line in there["data"]]


async def test_one_drills_down_from_a_client_to_what_was_said(tab: Tab) -> None:
    await tab.open()
    await tab.page.locator("#top-table").get_by_role("button", name="support-copilot").click()
    await tab.shown()
    await tab.until("[...document.querySelectorAll('#calls tbody tr')].length > 0")
    await tab.until(
        "[...document.querySelectorAll('#calls tbody tr')].every(row => row.cells[1].innerText === 'support-copilot')"
    )
    person = (await tab.rows("calls"))[0][2]
    await tab.page.get_by_label("Person").fill(person)
    await tab.page.get_by_role("button", name="Search").click()
    await tab.until(
        "name => [...document.querySelectorAll('#calls tbody tr')].every(row => row.cells[2].innerText === name)",
        person,
    )
    await tab.page.locator("#calls tbody th button").first.click()
    said = tab.page.locator("#call .message")
    await said.first.wait_for()
    assert await said.locator(".role").all_inner_texts() == ["system", "user", "assistant"]
    assert "careful assistant" in await said.first.inner_text()
    assert person in await tab.page.locator("#call .facts").inner_text()
    await tab.screenshot("call")
    await tab.page.keyboard.press("Escape")
    await tab.page.locator("#call").wait_for(state="hidden")
    assert "call=" not in tab.page.url


async def test_budgets_show_what_is_used_and_what_will_not_last(tab: Tab, app: Stack) -> None:
    async with httpx.AsyncClient(base_url=app.host.base_url, headers={"api-key": ADMIN_KEY}) as http:
        told = {budget["client_id"]: budget for budget in (await http.get("/usage/budgets")).json()["data"]}
    assert set(told) == set(BUDGETS)
    await tab.open()
    await tab.until("document.querySelectorAll('.budget').length > 0")
    shown = {text.split("\n")[0]: text for text in await tab.page.locator(".budget").all_inner_texts()}
    assert set(shown) == set(BUDGETS)
    assert f"{money(told['team-a']['used'])} of $500.00" in shown["team-a"]
    assert f"{told['support-copilot']['used_share']:.1%}" in shown["support-copilot"].replace(",", "")
    assert "Used up" in shown["support-copilot"]
    assert "The month comes to" in shown["contract-review"]


async def test_more_calls_follow_page_by_page_without_repetition(tab: Tab, app: Stack) -> None:
    await tab.open()
    more = tab.page.get_by_role("button", name="More", exact=True)
    await more.click()
    await tab.until("document.querySelectorAll('#calls tbody tr').length === 50")
    async with tab.page.expect_download() as saved:
        await tab.page.get_by_role("button", name="CSV of the calls listed").click()
    ids = [row["call_id"] for row in table_of(await (await saved.value).path())]
    assert len(set(ids)) == 50


def table_of(path: Path) -> list[Mapping[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


async def test_the_csv_is_the_apis(tab: Tab, app: Stack) -> None:
    await tab.open("by=model")
    async with tab.page.expect_download() as saved:
        await tab.page.get_by_role("button", name="CSV of usage over time").click()
    rows = table_of(await (await saved.value).path())
    expected = (await usage(app, group_by="day,model", limit="10000"))["data"]
    told = [(line["day"], str(line["calls"]), line["cost"]) for line in expected]
    assert [(row["day"], row["calls"], row["cost"]) for row in rows] == told
    async with tab.page.expect_download() as saved:
        await tab.page.get_by_role("button", name="CSV of the calls listed").click()
    people = {row["end_user"] for row in table_of(await (await saved.value).path())}
    assert f"'{FORMULA}" in people  # a spreadsheet takes it for text
    assert FORMULA not in people


async def test_a_wrong_key_is_told_and_a_right_one_is_forgotten_on_signing_out(tab: Tab) -> None:
    await tab.open(key=None)
    await tab.page.get_by_label("Key or token").fill("wrong")
    await tab.page.keyboard.press("Enter")
    await tab.page.locator("#sign-in-error:not(:empty)").wait_for()
    assert "Incorrect API key" in await tab.page.locator("#sign-in-error").inner_text()
    await tab.page.get_by_label("Key or token").fill(ADMIN_KEY)
    await tab.page.keyboard.press("Enter")
    await tab.shown()
    assert await tab.page.locator("#who").inner_text() == "Administrator"
    kept = "JSON.stringify([localStorage, document.cookie, location.href])"
    assert ADMIN_KEY not in await tab.page.evaluate(kept)
    assert not any(ADMIN_KEY in url for url in tab.requests)
    await tab.page.get_by_role("button", name="Sign out").click()
    await tab.page.get_by_label("Key or token").wait_for()
    assert await tab.page.evaluate("JSON.stringify(sessionStorage)") == "{}"


async def test_whom_app_service_has_signed_in_needs_no_key(tab: Tab) -> None:
    said = {"auth_typ": "aad", "claims": [{"typ": "roles", "val": ADMIN_ROLE}]}
    principal = base64.b64encode(json.dumps(said).encode()).decode()
    await tab.open(key=None)
    await tab.page.get_by_role("link", name="Sign in with Microsoft Entra").wait_for()
    await tab.page.set_extra_http_headers({"x-ms-client-principal": principal})
    await tab.page.reload()
    await tab.page.locator("#board").wait_for()
    await tab.shown()
    assert await tab.page.locator("#who").inner_text() == "Administrator"
    assert await tab.page.evaluate("JSON.stringify(sessionStorage)") == "{}"


async def test_a_clients_key_shows_its_own_usage_and_nothing_of_others(tab: Tab, app: Stack) -> None:
    await tab.open(key=app.key("team-a"))
    mine = (await usage(app, app.key("team-a")))["total"]
    assert mine["calls"] == 1
    assert await tab.figure("Calls") == "1"
    assert await tab.page.locator("#who").inner_text() == "team-a"
    await tab.until("document.querySelectorAll('#calls tbody tr').length > 0")
    assert {row[1] for row in await tab.rows("calls")} == {"team-a"}
    content = await tab.page.content()
    assert not [name for name in ("support-copilot", "contract-review", "search-index") if name in content]
    assert not await tab.page.locator("#client_id").is_visible()
    assert not await tab.page.get_by_role("heading", name="Deployments now").is_visible()
    assert not [url for url in tab.requests if "/manage/" in url]
    await tab.screenshot("client")


async def test_whatever_is_said_stays_text(tab: Tab, app: Stack) -> None:
    """Prompts, client names, people, user agents and models that try to be markup."""
    await tab.open()
    ranking = await tab.page.locator("#top-table").inner_text()
    assert ATTACK in ranking
    view = await tab.page.evaluate("name => new URLSearchParams({ client_id: name, by: 'model' }).toString()", ATTACK)
    await tab.page.goto(f"{tab.url}/dashboard#{view}")
    await tab.shown()
    await tab.until("document.querySelectorAll('#calls tbody tr').length === 1")
    assert ATTACK in await tab.page.locator("#time-legend").inner_text()
    await tab.page.locator("#calls tbody th button").first.click()
    await tab.page.locator("#call .message").first.wait_for()
    shown = await tab.page.locator("#call-content").inner_text()
    assert f"asks {ATTACK}" in shown
    assert f"User agent\n{ATTACK}" in shown
    assert "gpt-4o" + ATTACK in shown
    assert await tab.page.title() == "Usage and spend · Tollgate"
    assert await tab.page.locator("main img, dialog img, main script").count() == 0


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("light", 1360, "light"), ("dark", 1360, "dark"), ("phone", 390, "light")]
)
async def test_axe_finds_nothing_wrong(tab: Tab, name: str, width: int, scheme: Any) -> None:
    page = tab.page
    await page.set_viewport_size({"width": width, "height": 900})
    await page.emulate_media(color_scheme=scheme)
    await page.add_init_script(path=AXE)
    await tab.open(key=None)
    assert await violations(tab) == []
    await tab.screenshot(f"{name}-sign-in")
    await tab.open()
    await tab.until("document.querySelectorAll('#calls tbody tr').length > 0")
    await page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert await violations(tab) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = false; })")
    await tab.screenshot(name)
    await page.locator("#calls tbody th button").nth(2).click()
    await page.locator("#call .facts").wait_for()
    assert await violations(tab) == []


async def violations(tab: Tab) -> list[str]:
    """What axe-core has against the page, as `rule: element`."""
    found = await tab.page.evaluate(VIOLATIONS, RULES)
    return list(found)


async def test_the_keyboard_is_enough(tab: Tab) -> None:
    await tab.open(key=None)
    await tab.page.keyboard.type(ADMIN_KEY)  # the field has the focus
    await tab.page.keyboard.press("Enter")
    await tab.shown()
    await tab.page.locator("input[name=range]:checked").focus()
    await tab.page.keyboard.press("ArrowRight")
    await tab.until("location.hash === '#range=month'")
    await tab.shown()
    assert await tab.page.evaluate("document.activeElement.value") == "month"
    await tab.page.wait_for_load_state("networkidle")  # the list is the new period's
    await tab.page.locator("#calls tbody th button").first.press("Enter")
    await tab.page.locator("#call .facts").wait_for()
    assert await tab.page.evaluate("document.getElementById('call').contains(document.activeElement)")


async def test_colours_are_as_chosen_also_after_coming_back(tab: Tab) -> None:
    await tab.page.emulate_media(color_scheme="light")
    await tab.open(key=None)
    await tab.page.get_by_role("button", name="Colours: Auto").click()
    await tab.page.get_by_role("button", name="Colours: Light").click()
    background = "getComputedStyle(document.body).backgroundColor"
    dark = await tab.page.evaluate(background)
    assert await tab.page.evaluate("document.documentElement.dataset.theme") == "dark"
    await tab.page.reload()
    assert await tab.page.evaluate(background) == dark
    await tab.page.get_by_role("button", name="Colours: Dark").click()
    assert await tab.page.evaluate(background) != dark


async def test_trouble_is_told_and_can_be_tried_again(tab: Tab) -> None:
    await tab.open()
    await tab.page.route("**/dashboard/overview*", lambda route: route.abort())
    await tab.page.get_by_role("button", name="Refresh").click()
    await tab.page.get_by_text("The gateway cannot be reached.").wait_for()
    tab.errors.clear()  # the browser notes it too
    await tab.page.unroute("**/dashboard/overview*")
    await tab.page.get_by_role("button", name="Try again").click()
    await tab.page.get_by_text("The gateway cannot be reached.").wait_for(state="hidden")
    await tab.shown()


async def test_the_policy_is_kept_by_the_browser(tab: Tab) -> None:
    """Guards the tests above: a page that tried to run markup would be stopped, and would be noticed."""
    await tab.open(key=None)
    await tab.page.evaluate("try { document.body.innerHTML = '<b>no</b>' } catch { }")
    assert await tab.page.evaluate("breaches.splice(0)") == ["require-trusted-types-for"]
    tab.errors.clear()


async def test_deployments_show_how_they_are(tab: Tab, app: Stack) -> None:
    """The last one here: its call is counted."""
    said = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    async with httpx.AsyncClient(base_url=app.host.base_url, headers={"api-key": app.key("team-b")}) as http:
        (await http.post("/v1/chat/completions", json=said)).raise_for_status()
    await tab.open()
    await tab.until("document.querySelectorAll('#health tbody tr').length > 0")
    states = {row[0]: row[3] for row in await tab.rows("health")}
    assert (states["gpt-4o-eastus2"], states["gpt-5-sweden"]) == ("In use", "Not asked yet")
