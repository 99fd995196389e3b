"""Webhooks on the dashboard: made, tried, followed, and switched off and on."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import expect

from tests.browser.desk import Desk
from tests.contract.api.house import DEADLINE

pytestmark = pytest.mark.slow

ADDRESS = "https://crm.example.com/hooks/dialer"


async def delivered(desk: Desk, webhook_id: str) -> None:
    """Wait until an event is delivered; nothing tells a client of it."""
    path = f"/webhooks/{webhook_id}/deliveries"
    async with asyncio.timeout(DEADLINE):
        while not (await desk.house.ask("GET", path, params={"status": "delivered"})).json["data"]:
            await desk.house.clock.sleep(0.05)


async def test_a_webhook_is_made_tried_switched_off_and_on_and_removed(desk: Desk) -> None:
    await desk.sign_in()
    await desk.open("/webhooks", "Webhooks")
    page = desk.page
    await page.get_by_label("Address").fill(ADDRESS)
    await page.get_by_label("Told of").fill("completed, campaign")
    await page.get_by_role("button", name="Make the webhook").click()
    secret = page.get_by_label("The secret")
    await expect(secret).to_be_focused()
    assert (await secret.input_value()).startswith("whsec_")
    [made] = await desk.rows("Webhooks")
    assert (made["Address"], made["Told of"], made["State"]) == (ADDRESS, "campaign, completed", "enabled")
    await page.get_by_role("link", name=ADDRESS).click()
    await desk.heading(ADDRESS).wait_for()
    await page.get_by_role("button", name="Send a test").click()
    await expect(page.get_by_text("Delivered, in")).to_be_visible()

    campaign_id = await desk.house.campaign("+12025550100", name="Spring")
    await desk.house.ask("POST", f"/campaigns/{campaign_id}/start")
    [webhook] = (await desk.house.ask("GET", "/webhooks")).json["data"]
    await delivered(desk, webhook["id"])
    await desk.show(f"/webhooks/{webhook['id']}")
    [delivery] = await desk.rows("Deliveries")
    assert (delivery["Event"].split()[0], delivery["State"], delivery["Answer"]) == ("campaign", "delivered", "204")
    await desk.picture("webhook")
    await page.get_by_role("button", name="again").click()
    await expect(page.get_by_text(": delivered.")).to_be_visible()

    await page.get_by_role("button", name="Switch off").click()
    await expect(page.locator("dl .state")).to_have_text("disabled")
    await page.get_by_role("button", name="Switch on").click()
    await expect(page.locator("dl .state")).to_have_text("enabled")
    await page.get_by_role("button", name="Remove").click()
    await desk.confirm("Remove")
    await desk.heading("Webhooks").wait_for()
    await expect(page.get_by_text("There is no webhook.")).to_be_visible()
    assert desk.complaints == []


async def test_an_address_that_may_not_be_told_is_refused_beside_the_field(desk: Desk) -> None:
    await desk.sign_in()
    await desk.open("/webhooks", "Webhooks")
    await desk.page.get_by_label("Address").fill("http://crm.example.com/")
    await desk.page.get_by_role("button", name="Make the webhook").click()
    await expect(desk.page.get_by_label("Address")).to_have_attribute("aria-invalid", "true")
    assert (await desk.house.ask("GET", "/webhooks")).json["total"] == 0


async def test_a_viewer_sees_webhooks_without_buttons(desk: Desk) -> None:
    made = await desk.house.ask("POST", "/webhooks", key="admin", json={"url": ADDRESS})
    await desk.sign_in("viewer")
    await desk.open("/webhooks", "Webhooks")
    await expect(desk.page.get_by_role("button", name="Make the webhook")).to_have_count(0)
    await desk.open(f"/webhooks/{made.json['id']}", ADDRESS)
    for name in ("Switch off", "Send a test", "Remove"):
        await expect(desk.page.get_by_role("button", name=name)).to_have_count(0)
