"""/docs in a real browser: it shows the whole document, by itself, with nothing from outside."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.desk import Visit
from tests.contract.api.house import House

pytestmark = pytest.mark.slow


async def document(house: House) -> dict[str, Any]:
    """The OpenAPI document, as the daemon serves it."""
    served: dict[str, Any] = (await house.ask("GET", "/openapi.json", key=None)).json
    return served


def operations(api: dict[str, Any]) -> dict[str, str]:
    """Each operation's id, and how the page names it."""
    return {
        operation["operationId"]: f"{method.upper()} {path}"
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    }


async def test_every_operation_and_model_is_shown(house: House, visit: Visit) -> None:
    api = await document(house)
    await visit.page.goto(f"{house.base}/docs")
    await visit.page.wait_for_selector("nav a")
    for name, shown in operations(api).items():
        link = visit.page.locator(f'nav a[href="#{name}"]')
        assert await link.inner_text() == shown
        heading = visit.page.locator(f"section#{name} h2")
        assert "".join((await heading.inner_text()).split()) == shown.replace(" ", "")
    await expect(visit.page.locator('section[id^="model-"]')).to_have_count(len(api["components"]["schemas"]))
    assert visit.complaints == []


async def test_nothing_comes_from_outside(house: House, visit: Visit) -> None:
    await visit.page.goto(f"{house.base}/docs")
    await visit.page.wait_for_selector("nav a")
    assert visit.asked
    assert [url for url in visit.asked if not url.startswith(f"{house.base}/")] == []


async def test_a_link_to_an_operation_opens_there(house: House, visit: Visit) -> None:
    last = list(operations(await document(house)))[-1]
    await visit.page.goto(f"{house.base}/docs#{last}")
    section = visit.page.locator(f"section#{last} h2")
    await section.wait_for()
    await visit.page.wait_for_function(
        "id => { const at = document.getElementById(id).getBoundingClientRect();"
        " return at.top < innerHeight && at.bottom > 0 }",
        arg=last,
    )


async def test_a_command_of_the_page_works_as_it_stands(house: House, visit: Visit) -> None:
    """The curl line of an operation names the address that the page came from."""
    await visit.page.goto(f"{house.base}/docs")
    name = (await document(house))["paths"]["/campaigns"]["get"]["operationId"]
    shown = await visit.page.locator(f"section#{name} pre").first.inner_text()
    assert shown == f"curl -H \"Authorization: Bearer $KEY\" '{house.base}/api/v1/campaigns'"


async def test_it_says_when_the_document_cannot_be_had(house: House, visit: Visit) -> None:
    await visit.page.route("**/openapi.json", lambda route: route.fulfill(status=503, body="{}"))
    await visit.page.goto(f"{house.base}/docs")
    alert = visit.page.locator("main p[role=alert]")
    await expect(alert).to_have_text("The document cannot be shown: the daemon answered 503")
