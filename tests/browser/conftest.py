"""A real headless Chromium, Debian's own, in front of a served daemon."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import ConsoleMessage, Page, async_playwright

from tests.contract.api.house import House, Template, make_template, open_house
from tests.lab.packages import require_tools


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program; installed where it is missing and we may."""
    require_tools({"chromium": "chromium"})
    found = shutil.which("chromium")
    assert found is not None
    return found


@pytest.fixture(scope="package")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The store that each test's is a copy of."""
    return asyncio.run(make_template(tmp_path_factory.mktemp("browser")))


@pytest.fixture
async def house(template: Template, tmp_path: Path) -> AsyncIterator[House]:
    """A daemon without calls, with its API and pages on a socket of the loopback."""
    async with open_house(template, tmp_path) as opened:
        yield opened


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

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture
async def visit(chromium: str) -> AsyncIterator[Visit]:
    """A fresh browser with one page."""
    # Its sandbox needs namespaces of its own, which root in a container does not get; it loads our own pages only.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        try:
            yield Visit(await browser.new_page())
        finally:
            await browser.close()
