"""What the tests of pages do with a browser: visit, sign in, find their way, and keep a picture."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlencode

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Locator, Page

from tests.contract.api.house import House

ARTEFACTS = Path(__file__).parent / "artefacts"
"""Pictures of the pages, as the last run saw them."""

LAST_WORDS_SECONDS = 10.0
"""How long a page is waited for that is asked why a test failed."""

READ = "table => [...table.rows].map((row) => [...row.cells].map((each) => each.innerText.trim()))"
"""The headings of a table, then each row's cells."""


class Visit:
    """An open page, with what the browser complained of and what it asked of whom."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(f"{request.url}: {request.failure}"))
        page.on("request", lambda request: self.asked.append(request.url))

    async def told(self) -> str:
        """What the page shows and said, in words; of a page that does not answer, what it did."""
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                shown = await self.page.evaluate("() => document.body.innerText")
        except (TimeoutError, PlaywrightError) as error:
            shown = f"(it does not answer: {error!r})"
        return f"{self.page.url} shows:\n{shown}\ncomplaints: {self.complaints}\nlast asked for: {self.asked[-20:]}"


class Desk:
    """The dashboard, and a person in front of it."""

    def __init__(self, house: House, visit: Visit) -> None:
        self.house = house
        self.visit = visit
        self.page = visit.page

    @property
    def complaints(self) -> list[str]:
        """What the browser complained of. That a request ended with the page that had sent it is no complaint."""
        return [each for each in self.visit.complaints if not each.endswith("net::ERR_ABORTED")]

    async def sign_in(self, key: str = "admin") -> None:
        """Sign in with one of the house's keys; the overview is then shown."""
        await self.page.goto(f"{self.house.base}/")
        await self.page.get_by_label("Key").fill(self.house.keys[key])
        await self.page.get_by_role("button", name="Sign in").click()
        await self.heading("Overview").wait_for()

    async def open(self, path: str, heading: str | re.Pattern[str], **query: str) -> None:
        """Go to a page, and wait for its heading."""
        await self.show(f"{path}{f'?{urlencode(query)}' if query else ''}")
        await self.heading(heading).wait_for()

    async def show(self, path: str) -> None:
        """Go to a page, whatever its heading is, and wait until it is shown: its heading then has the focus."""
        url = f"{self.house.base}/#{path}"
        if self.page.url == url:
            await self.page.reload()
            await self.page.wait_for_function("() => document.activeElement?.tagName === 'H1'")
            return
        async with self._another_page():
            await self.page.goto(url)

    async def follow(self, link: str) -> None:
        """Click a link by its name, and wait until the page that it leads to is shown.

        The click is over before the page that it was on is gone: what is done next would be done there.
        """
        async with self._another_page():
            await self.page.get_by_role("link", name=link).click()

    @contextlib.asynccontextmanager
    async def _another_page(self) -> AsyncIterator[None]:
        before = await self.page.evaluate_handle("() => document.querySelector('h1')")
        yield
        await self.page.wait_for_function(
            "before => !before?.isConnected && document.activeElement?.tagName === 'H1'", arg=before
        )

    def heading(self, name: str | re.Pattern[str]) -> Locator:
        """The page's heading."""
        return self.page.get_by_role("heading", level=1, name=name, exact=isinstance(name, str))

    def table(self, caption: str) -> Locator:
        """A table, by its caption."""
        return self.page.get_by_role("table", name=caption, exact=True)

    async def rows(self, caption: str) -> list[Mapping[str, str]]:
        """What a table shows: a row's cells by their headings."""
        # In one go: a table that is drawn anew between two questions would answer with halves of two tables.
        headings, *rows = await self.table(caption).evaluate(READ)
        return [dict(zip(headings, row, strict=True)) for row in rows]

    async def fact(self, term: str) -> str:
        """The value that stands beside a term."""
        found = self.page.locator("dl > div").filter(has=self.page.get_by_text(term, exact=True)).locator("dd")
        return await found.inner_text()

    async def confirm(self, action: str) -> None:
        """Press the button of the open question."""
        await self.page.get_by_role("dialog").get_by_role("button", name=action, exact=True).click()

    async def picture(self, name: str, *, whole: bool = True) -> None:
        """Keep a picture of the page, or of what the window shows of it."""
        ARTEFACTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=whole)
