"""A real headless Chromium, Debian's own, in front of a served daemon."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from tests.browser.desk import Desk, Visit
from tests.contract.api.house import DEADLINE, House, Template, make_template, open_house
from tests.lab.packages import require_tools

FAILED = pytest.StashKey[bool]()
"""Whether a test has failed so far."""

expect.set_options(timeout=DEADLINE * 1000)  # milliseconds; a browser beside two others on two cores takes its time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Its tests share a loop, for they share a browser."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what became of a test, for those of its fixtures that end after it."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


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
async def visit(browser: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Visit]:
    """One page of somebody whom the browser knows nothing of. A test that fails tells what the page showed."""
    context = await browser.new_context(timezone_id="UTC", locale="en-GB")
    context.set_default_timeout(DEADLINE * 1000)
    try:
        visit = Visit(await context.new_page())
        yield visit
        if request.node.stash.get(FAILED, False):
            print(await visit.told())
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
