"""Who sees what of the dashboard, and that it asks nobody but the API and believes no text."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.desk import Desk
from tests.contract.api.house import House

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
PAGES = ("/", "/campaigns", "/campaigns/new", "/callbacks", "/agents", "/dnc", "/trunks", "/webhooks", "/keys")


async def test_a_wrong_key_is_refused_in_words(desk: Desk) -> None:
    await desk.page.goto(f"{desk.house.base}/")
    await desk.page.get_by_label("Key").fill("nonsense")
    await desk.page.keyboard.press("Enter")
    alert = desk.page.get_by_role("alert").filter(has_text="the request needs a valid key")
    await alert.wait_for()
    await expect(desk.heading("Sign in")).to_be_visible()
    assert await desk.page.evaluate("sessionStorage.length") == 0


async def test_a_key_that_is_deleted_brings_the_form_back(desk: Desk) -> None:
    await desk.sign_in("operator")
    for each in (await desk.house.ask("GET", "/keys", key="admin")).json["data"]:
        if each["role"] == "operator":
            await desk.house.ask("DELETE", f"/keys/{each['id']}", key="admin")
    await desk.page.get_by_role("link", name="Campaigns").click()
    await desk.heading("Sign in").wait_for()
    await expect(desk.page.get_by_role("alert").first).to_have_text("The key is not valid any more.")
    assert await desk.page.evaluate("sessionStorage.length") == 0
    await expect(desk.page.get_by_role("navigation")).to_have_count(0)
    await desk.page.get_by_label("Key").fill(desk.house.keys["admin"])
    await desk.page.keyboard.press("Enter")
    await desk.heading("Campaigns").wait_for()


async def test_the_key_is_kept_for_the_tab_and_gone_after_signing_out(desk: Desk) -> None:
    await desk.sign_in()
    await desk.page.reload()
    await desk.heading("Overview").wait_for()
    other = await desk.page.context.new_page()
    await other.goto(f"{desk.house.base}/")
    await other.get_by_role("heading", name="Sign in").wait_for()
    assert await desk.page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    await desk.page.get_by_role("button", name="Sign out").click()
    await desk.heading("Sign in").wait_for()
    await desk.page.reload()
    await desk.heading("Sign in").wait_for()
    assert await desk.page.evaluate("sessionStorage.length") == 0


@pytest.mark.parametrize(
    ("key", "changes_campaigns", "changes_list"),
    [("viewer", False, False), ("operator", True, False), ("admin", True, True)],
)
async def test_only_what_the_role_may_do_is_offered(
    desk: Desk, key: str, changes_campaigns: bool, changes_list: bool
) -> None:
    house = desk.house
    campaign_id = await house.campaign("+12025550100", name="Spring")
    contact = (await house.ask("GET", f"/campaigns/{campaign_id}/contacts")).json["data"][0]["id"]
    due = (house.clock.wall().replace(year=house.clock.wall().year + 1, day=1)).isoformat()
    made = await house.ask("POST", f"/campaigns/{campaign_id}/callbacks", json={"contact_id": contact, "due_at": due})
    assert made.status == 201
    await house.ask("POST", "/dnc", key="admin", json={"phone_number": "+12025550199"})
    await desk.sign_in(key)
    below = f"/campaigns/{campaign_id}"
    offers = {
        "/campaigns": "link:New campaign,button:Start Spring,button:Stop Spring",
        below: "button:Start Spring,button:Stop Spring",
        f"{below}/contacts": "link:Add contacts",
        f"{below}/contacts/{contact}": "button:Cancel the contact,link:Promise a callback",
        f"{below}/callbacks": "button:Withdraw the callback to +12025550100,button:Promise the callback",
        "/dnc": "button:Add,button:Upload,button:Take +12025550199 off the list",
        "/trunks": "button:Pause trunk a",
    }
    for path, offered in offers.items():
        await desk.show(path)
        may = {"/dnc": changes_list, "/trunks": False}.get(path, changes_campaigns)
        for each in offered.split(","):
            role, name = each.split(":", 1)
            found = desk.page.get_by_role(role, name=name, exact=True)  # type: ignore[arg-type]
            await expect(found).to_have_count(1 if may else 0)
    await desk.open("/campaigns/new", "New campaign" if changes_campaigns else "This did not work")


async def test_a_system_key_sees_trunks_and_tenants_only(desk: Desk) -> None:
    await desk.sign_in("system")
    tenants = (await desk.house.ask("GET", "/tenants", key="system")).json["data"]
    assert [each["Tenant"] for each in await desk.rows("Tenants")] == [each["id"] for each in tenants]
    trunks = (await desk.house.ask("GET", "/trunks", key="system")).json["data"]
    assert [each["Trunk"] for each in await desk.rows("Trunks")] == [each["id"] for each in trunks]
    links = desk.page.get_by_role("navigation", name="Pages").get_by_role("link")
    await expect(links).to_have_text(["Overview", "Trunks", "Keys"])
    await desk.open("/campaigns", "This did not work")
    await expect(desk.page.get_by_role("alert")).to_have_text("A system key does not see this page.")


async def hostile_campaign(house: House) -> tuple[str, dict[str, Any]]:
    """A campaign whose every text is markup, with its one contact."""
    campaign_id = await house.campaign(name=HOSTILE, description=HOSTILE)
    values = dict.fromkeys(("first_name", "last_name", "email", "company", "external_id", HOSTILE[:90]), HOSTILE)
    path = f"/campaigns/{campaign_id}/contacts"
    answer = await house.ask("POST", path, json={"contacts": [{"phone": "+12025550100", **values}, {"phone": HOSTILE}]})
    assert (answer.json["added"], answer.json["invalid"]) == (1, 1)
    contact: dict[str, Any] = (await house.ask("GET", path)).json["data"][0]
    due = house.clock.wall().replace(year=house.clock.wall().year + 1, day=1).isoformat()
    body = {"contact_id": contact["id"], "due_at": due, "note": HOSTILE}
    assert (await house.ask("POST", f"/campaigns/{campaign_id}/callbacks", json=body)).status == 201
    await house.ask("POST", "/dnc", key="admin", json={"phone_number": "+12025550199", "note": HOSTILE})
    await house.ask("POST", "/trunks/a/pause", key="system", json={"reason": HOSTILE})
    await house.agent(name=HOSTILE, exten="s")
    await house.ask("POST", "/keys", key="admin", json={"name": HOSTILE, "role": "viewer"})
    return campaign_id, contact


async def test_hostile_text_stays_text(desk: Desk) -> None:
    campaign_id, contact = await hostile_campaign(desk.house)
    below = f"/campaigns/{campaign_id}"
    await desk.sign_in()
    paths = ("/campaigns", below, f"{below}/contacts", f"{below}/contacts/{contact['id']}", f"{below}/callbacks")
    for path in (*paths, "/agents", "/dnc", "/trunks", "/keys", "/"):
        await desk.show(path)
        await expect(desk.page.get_by_text(HOSTILE).first).to_be_visible()
        assert await desk.page.locator("main img, main script").count() == 0
        assert await desk.page.title() != "taken"
    await desk.open(below, HOSTILE)
    await desk.page.get_by_role("button", name="Stop").click()
    await expect(desk.page.get_by_role("dialog").get_by_role("heading")).to_have_text(f"Stop “{HOSTILE}”?")
    await desk.confirm("Cancel")
    await desk.open(f"{below}/contacts/new", HOSTILE)
    body = f'"{HOSTILE.replace(chr(34), chr(34) * 2)}",phone\n{HOSTILE.replace(chr(34), "")},{HOSTILE[:20]}\n'.encode()
    await desk.page.get_by_label("Contacts", exact=True).set_input_files(
        {"name": f"{HOSTILE}.csv", "mimeType": "text/csv", "buffer": body}
    )
    [first, _] = await desk.rows("Columns")
    assert first["Column"] == HOSTILE
    await desk.page.get_by_role("button", name="Add the contacts").click()
    [rejected] = await desk.rows("Rejected rows")
    assert rejected["Value"] == HOSTILE[:20]
    assert await desk.page.locator("main img, main script").count() == 0
    assert desk.complaints == []


async def test_nothing_comes_from_outside_and_nothing_is_complained_of(desk: Desk) -> None:
    await desk.sign_in()
    for path in PAGES:
        await desk.show(path)
    assert [url for url in desk.visit.asked if not url.startswith(f"{desk.house.base}/")] == []
    assert desk.complaints == []


async def test_every_file_is_served_with_its_policy_and_asked_for_once(desk: Desk) -> None:
    house = desk.house
    static = resources.files("dialerd.dashboard") / "static"
    names = [
        "",
        *(f"dashboard/{each.name}" for each in static.iterdir() if each.is_file() and each.name != "index.html"),
    ]
    for name in names:
        first = await house.ask("GET", f"/~/{name}", key=None)
        assert first.status == 200, name
        policy = first.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert first.headers["Cache-Control"] == "no-cache"
        again = await house.ask("GET", f"/~/{name}", key=None, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        other = await house.ask("GET", f"/~/{name}", key=None, headers={"If-None-Match": '"other"'})
        assert other.status == 200
    for missing in ("dashboard/index.html", "dashboard/vendor/uplot/LICENSE", "dashboard/../pages.py", "dashboard/"):
        assert (await house.ask("GET", f"/~/{missing}", key=None)).status == 404, missing


async def test_when_the_daemon_is_gone_the_page_says_so(desk: Desk) -> None:
    await desk.sign_in()
    await desk.page.route("**/api/v1/**", lambda route: route.abort())
    await desk.page.get_by_role("link", name="Campaigns").click()
    await desk.page.get_by_text("The daemon cannot be reached.").wait_for()
    await desk.page.unroute("**/api/v1/**")
    await desk.page.get_by_role("button", name="Try again").click()
    await desk.heading("Campaigns").wait_for()
