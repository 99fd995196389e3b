"""The dashboard of a daemon that waits for its turn: it says so, shows what is stored, and offers to change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.desk import Desk, Visit
from tests.contract.api.house import open_house
from tests.contract.api.house_on_postgres import PostgresTemplate, open_standby, postgres_keys, postgres_template

__all__ = ["postgres_keys", "postgres_template"]

pytestmark = [pytest.mark.slow, pytest.mark.postgres]


async def test_a_standby_is_read_only(postgres_template: PostgresTemplate, tmp_path: Path, visit: Visit) -> None:
    async with open_house(postgres_template, tmp_path) as house, open_standby(postgres_template, tmp_path) as standby:
        campaign_id = await house.campaign("+12025550140", name="Spring")
        assert (await house.ask("POST", f"/campaigns/{campaign_id}/start")).status == 200
        desk = Desk(standby, visit)
        await desk.sign_in()
        banner = desk.page.locator("header").get_by_text("This is a standby: another daemon dials.")
        await expect(banner).to_be_visible()
        [trunk] = await desk.rows("Trunks")
        assert (trunk["State"].split()[0], trunk["Calls at once"], trunk["Answered of seized"]) == (
            "unknown",
            "– of 100",
            "–",
        )
        [campaign] = await desk.rows("Active campaigns")
        assert campaign["Campaign"] == "Spring"
        await desk.open(f"/campaigns/{campaign_id}", "Spring")
        await expect(desk.page.get_by_text("Not known here:")).to_be_visible()
        await expect(desk.page.get_by_role("button", name="Pause")).to_have_count(0)
        await desk.open("/campaigns", "Campaigns")
        await expect(desk.page.get_by_role("link", name="Spring")).to_be_visible()
        await expect(desk.page.get_by_role("link", name="New campaign")).to_have_count(0)
        assert desk.complaints == []
        # The one that dials has no such banner, and all its buttons.
        desk = Desk(house, visit)
        await desk.sign_in("operator")
        await expect(banner).to_have_count(0)
        await desk.open("/campaigns", "Campaigns")
        await expect(desk.page.get_by_role("link", name="New campaign")).to_be_visible()
