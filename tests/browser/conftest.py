"""One app with a made-up month and one browser for all tests of this folder; each test has a tab of its own.

Rule: whatever a test does, the page may report no breach of its policy, no error, and ask no other host. A test that provokes
errors says which.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from devtools import demo
from devtools.azurite import Azurite
from devtools.simulator import Simulator
from shared.core.call_record import Outcome
from tests.browser.given import BUDGETS, chromium, document, hostile
from tests.emulator import storage_at
from tests.stack import ADMIN_KEY, APP, Stack, running

PREFIX = "browser"
ADMIN_ROLE = "Tollgate.Admin"
SCREENSHOTS = APP / ".local" / "screenshots"
BREACHES = "window.breaches = []; addEventListener('securitypolicyviolation', (event) => breaches.push(event.violatedDirective));"


@dataclass
class Tab:
    """A tab of the browser, and what it was told and asked."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def noted(self, message: ConsoleMessage) -> None:
        """The browser notes every refusal; that nobody is signed in yet is no error."""
        if message.type == "error" and not message.location["url"].endswith("/dashboard/session"):
            self.errors.append(message.text)

    async def open(self, view: str = "", key: str | None = ADMIN_KEY) -> None:
        """Opens the dashboard with this view, signed in with this key; without one, as whoever the browser is, if anybody."""
        await self.page.goto(f"{self.url}/dashboard#{view}")
        await self.until("document.querySelectorAll('#sign-in[hidden], #board[hidden]').length == 1")
        if key is not None:
            await self.page.get_by_label("Key or token").fill(key)
            await self.page.get_by_role("button", name="Sign in", exact=True).click()
            await self.shown()

    async def shown(self) -> None:
        """Waits until what was asked for stands there."""
        await self.until("!document.querySelector('[aria-busy=true]')")

    async def until(self, condition: str, argument: object = None) -> None:
        """Waits until a JavaScript expression holds. The driver's own way evaluates text in the page, whose policy forbids it."""
        for _ in range(400):
            if await self.page.evaluate(condition, argument):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never: {condition}")

    async def rows(self, table: str) -> list[list[str]]:
        """The cells of a table by the id of what it is in, without its head."""
        cells = "rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))"
        found: list[list[str]] = await self.page.locator(f"#{table} tbody tr").evaluate_all(cells)
        return found

    async def figure(self, name: str) -> str:
        """One of the figures at the top."""
        return (
            await self.page.locator("#figures div", has=self.page.get_by_text(name, exact=True))
            .locator(".value")
            .inner_text()
        )

    async def screenshot(self, name: str) -> None:
        """Keeps what is to be seen, for people to look at."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=Path(SCREENSHOTS, f"{name}.png"), full_page=True)


@pytest.fixture(scope="session")
async def app(anyio_backend: str, azurite: Azurite) -> AsyncIterator[Stack]:
    """The app, with all of the month counted."""
    now = datetime.now(UTC)
    events = [*demo.month(now, days=8, calls_per_day=30, hours=(9, 22)), *hostile(now)]
    async with storage_at(azurite.connection_string, PREFIX) as storage:
        for part in (storage.archive, storage.ledger):
            await part.prepare()
        await demo.write(events, storage.ledger, storage.archive, archived=30)
    forwarded = sum(event.record.outcome is not Outcome.REJECTED for event in events)
    with Simulator.start() as simulator:
        settings = {"TOLLGATE_EASY_AUTH": "on", "TOLLGATE_ADMIN_ROLE": ADMIN_ROLE}
        async with running(azurite, simulator, PREFIX, document(simulator), **settings) as stack:
            await set_budgets(stack)
            await stack.usage_when(lambda report: report["total"]["calls"] == forwarded, start=f"{now.year - 1}-01-01")
            yield stack


async def set_budgets(stack: Stack) -> None:
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx.AsyncClient(base_url=stack.host.base_url, headers=headers) as http:
        for client_id, limits in BUDGETS.items():
            known = await http.get(f"/manage/clients/{client_id}")
            client = known.json()["client"] if known.is_success else {}
            put = await http.put(f"/manage/clients/{client_id}", json=client | {"limits": limits})
            put.raise_for_status()


@pytest.fixture(scope="session")
async def browser(anyio_backend: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # The sandbox needs rights that root in a container has not; the pages are ours.
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def tab(app: Stack, browser: Browser) -> AsyncIterator[Tab]:
    """A tab that knows no key yet."""
    context = await browser.new_context(viewport={"width": 1360, "height": 900}, locale="en-US", timezone_id="UTC")
    page = await context.new_page()
    page.set_default_timeout(20_000)
    await page.add_init_script(BREACHES)
    tab = Tab(page=page, url=app.host.base_url)
    page.on("request", lambda request: tab.requests.append(request.url))
    page.on("pageerror", lambda error: tab.errors.append(str(error)))
    page.on("console", tab.noted)
    yield tab
    assert await page.evaluate("window.breaches") == []
    assert tab.errors == []
    assert [url for url in tab.requests if not re.match(re.escape(tab.url) + "|blob:", url)] == []
    await context.close()
