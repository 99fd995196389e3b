"""Agents and keys on the dashboard: made, refused in words, used, and taken away."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.desk import Desk

pytestmark = pytest.mark.slow


async def test_an_agent_of_each_kind_is_made_and_removed(desk: Desk) -> None:
    await desk.sign_in()
    await desk.open("/agents", "Agents")
    page = desk.page
    for kind, fields in {
        "dialplan": {"Context": "dialerd", "Extension": "answered"},
        "queue": {"Queue": "sales"},
        "application": {"Application": "Playback", "Data": "hello-world"},
    }.items():
        await page.get_by_label("Kind").select_option(kind)
        await page.get_by_label("Name").fill(f"the {kind}")
        for label, value in fields.items():
            await page.get_by_label(label, exact=True).fill(value)
        await page.get_by_label("Calls at once").fill("3")
        await page.get_by_role("button", name="Make the agent").click()
        await page.get_by_role("cell", name=f"the {kind}", exact=True).wait_for()
    shown = {each["Name"]: (each["Place"], each["Calls at once"]) for each in await desk.rows("Agents")}
    assert shown == {
        "the dialplan": ("dialerd,answered,1", "3"),
        "the queue": ("sales", "3"),
        "the application": ("Playback(hello-world)", "3"),
    }
    await desk.picture("agents")
    await page.get_by_role("button", name="Remove agent the queue").click()
    await desk.confirm("Remove")
    await expect(page.get_by_role("cell", name="the queue", exact=True)).to_have_count(0)
    assert (await desk.house.ask("GET", "/agents")).json["total"] == 2
    assert desk.complaints == []


async def test_what_an_agent_lacks_is_told_beside_the_field_and_one_in_use_stays(desk: Desk) -> None:
    await desk.house.campaign("+12025550100", name="Spring")
    await desk.sign_in()
    await desk.open("/agents", "Agents")
    [agent] = await desk.rows("Agents")
    await desk.page.get_by_label("Name").fill("desk")
    await desk.page.get_by_role("button", name="Make the agent").click()
    await expect(desk.page.get_by_label("Context")).to_have_attribute("aria-invalid", "true")
    await desk.page.get_by_role("button", name=f"Remove agent {agent['Name']}").click()
    await desk.confirm("Remove")
    await expect(desk.page.get_by_role("alert").first).to_contain_text("campaign")
    assert (await desk.house.ask("GET", "/agents")).json["total"] == 1


async def test_a_key_is_shown_once_opens_the_door_and_is_deleted(desk: Desk) -> None:
    await desk.sign_in()
    await desk.open("/keys", "Keys")
    page = desk.page
    await page.get_by_label("Name").fill("wallboard")
    await page.get_by_label("Role").select_option("viewer")
    await page.get_by_role("button", name="Make the key").click()
    shown = page.get_by_label("The key")
    await expect(shown).to_be_focused()
    key = await shown.input_value()
    await page.get_by_role("cell", name="wallboard", exact=True).wait_for()
    await desk.picture("keys")
    made = next(each for each in await desk.rows("Keys") if each["Name"] == "wallboard")
    assert made["Role"] == "viewer"
    headers = {"Authorization": f"Bearer {key}"}
    assert (await desk.house.ask("GET", "/campaigns", key=None, headers=headers)).status == 200
    await page.get_by_role("button", name="Delete key wallboard").click()
    await desk.confirm("Delete")
    await expect(page.get_by_role("cell", name="wallboard", exact=True)).to_have_count(0)
    assert key not in await page.content()
    assert (await desk.house.ask("GET", "/campaigns", key=None, headers=headers)).status == 401


async def test_a_system_key_makes_a_key_for_a_tenant_and_sees_no_agents(desk: Desk) -> None:
    await desk.sign_in("system")
    links = desk.page.get_by_role("navigation", name="Pages").get_by_role("link")
    await expect(links).to_have_text(["Overview", "Trunks", "Keys"])
    await desk.open("/keys", "Keys")
    await desk.page.get_by_label("Name").fill("first of two")
    await desk.page.get_by_label("Tenant").fill("two")
    await desk.page.get_by_label("Role").select_option("admin")
    await desk.page.get_by_role("button", name="Make the key").click()
    await desk.page.get_by_label("The key").wait_for()
    await desk.page.get_by_role("cell", name="first of two", exact=True).wait_for()
    made = next(each for each in await desk.rows("Keys") if each["Name"] == "first of two")
    assert made["Tenant"] == "two"


async def test_a_viewer_sees_agents_without_buttons_and_no_keys(desk: Desk) -> None:
    await desk.house.agent(name="desk")
    await desk.sign_in("viewer")
    await desk.open("/agents", "Agents")
    assert list((await desk.rows("Agents"))[0]) == ["Name", "Kind", "Place", "Calls at once"]
    await expect(desk.page.get_by_role("button", name="Make the agent")).to_have_count(0)
    await expect(desk.page.get_by_role("link", name="Keys")).to_have_count(0)
    await desk.open("/keys", "This did not work")
