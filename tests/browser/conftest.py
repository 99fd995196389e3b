"""A real headless Chromium, Debian's own, in front of a served daemon."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from tests.browser.desk import Desk, Visit
from tests.contract.api.house import DEADLINE, House, Template, make_template, open_house
from tests.lab.packages import require_tools

expect.set_options(timeout=DEADLINE * 1000)  # milliseconds; a browser beside two others on two cores takes its time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Its tests share a loop, for they share a browser."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


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


@pytest_asyncio.fixture(loop_scope="session")
async def house(template: Template, tmp_path: Path) -> AsyncIterator[House]:
    """A daemon without calls, with its API and pages on a socket of the loopback."""
    async with open_house(template, tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """One browser for all tests of a run: to start it takes longer than most of them."""
    # Its sandbox needs namespaces of its own, which root in a container does not get; it loads our own pages only.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        try:
            yield started
        finally:
            await started.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser) -> AsyncIterator[Visit]:
    """One page of somebody whom the browser knows nothing of."""
    context = await browser.new_context(timezone_id="UTC", locale="en-GB")
    try:
        yield Visit(await context.new_page())
    finally:
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def dialing_house(template: Template, tmp_path: Path) -> AsyncIterator[House]:
    """A daemon whose calls go through a simulated PBX, with callees in a hurry."""
    async with open_house(template, tmp_path, dials=True) as opened:
        yield opened


@pytest.fixture
def desk(house: House, visit: Visit) -> Desk:
    """The dashboard of the daemon without calls, in front of a person who may sign in."""
    return Desk(house, visit)


@pytest.fixture
def dialing_desk(dialing_house: House, visit: Visit) -> Desk:
    """The dashboard of the daemon that calls."""
    return Desk(dialing_house, visit)
