"""A whole campaign from the browser on the simulated PBX, and its live stream of events."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Route, expect

from tests.browser.desk import Desk

pytestmark = pytest.mark.slow


async def test_a_whole_campaign_from_creation_to_completed(dialing_desk: Desk) -> None:
    desk = dialing_desk
    agent = await desk.house.agent(name="Reception")
    rows = "".join(f"+1202555{number:04},Ann {number}\n" for number in range(124, 150))
    await desk.sign_in("operator")
    await desk.follow("Campaigns")
    await desk.follow("New campaign")
    await desk.page.get_by_label("Name").fill("Spring renewals")
    await desk.page.get_by_label("Agent").select_option(agent)
    for label in ("From", "Until"):
        await desk.page.get_by_label(label, exact=True).fill("00:00")
    await desk.page.get_by_label("Time zone").fill("Europe/London")
    await desk.page.get_by_label("Calls at once").fill("5")
    await desk.page.get_by_label("Retries of a contact").fill("0")
    body = f"phone_number,first_name\n{rows}".encode()
    await desk.page.get_by_label("Contacts").set_input_files({"name": "l.csv", "mimeType": "text/csv", "buffer": body})
    await desk.table("Columns").wait_for()
    await desk.page.get_by_role("button", name="Create the campaign").click()
    await desk.heading("Spring renewals").wait_for()
    await expect(desk.page.get_by_text("26 contacts added.")).to_be_visible()
    await desk.page.get_by_text("Connected: events show here").wait_for()
    await desk.page.get_by_role("button", name="Start Spring renewals").click()
    await desk.confirm("Start")
    await expect(desk.page.locator(".campaign-head .state")).to_have_text("completed")
    await desk.picture("campaign-completed")

    [campaign] = (await desk.house.ask("GET", "/campaigns")).json["data"]
    settings, stats = campaign["settings"], campaign["stats"]
    assert (settings["timezone"], settings["concurrent_calls"], settings["max_retries"]) == ("Europe/London", 5, 0)
    assert (campaign["status"], stats["total"], stats["pending"]) == ("completed", 26, 0)
    by_state = {each["State"]: each["Contacts"] for each in await desk.rows("Contacts by state")}
    assert by_state == {name: str(stats[name]) for name in by_state}
    by_outcome = {each["Outcome"]: each["Calls"] for each in await desk.rows("Calls by outcome")}
    assert by_outcome == {name.replace("_", " "): str(many) for name, many in stats["outcomes"].items() if many}
    told = [each["Event"] for each in await desk.rows("Events")]
    assert told.count("originated") == stats["calls_placed"]
    assert told.count("completed") == stats["completed"]
    assert told[0] == "campaign"

    await desk.follow("Calls")
    listed = (await desk.house.ask("GET", f"/campaigns/{campaign['id']}/calls")).json["data"]
    shown = await desk.rows("Calls")
    assert [(each["Number"], each["Outcome"]) for each in shown] == [
        (each["phone_number"], each["outcome"].replace("_", " ")) for each in listed
    ]
    await desk.table("Calls").get_by_role("link").first.click()
    number = listed[0]["phone_number"]
    await desk.heading(f"Ann {int(number[-4:])}, {number}").wait_for()
    await desk.page.get_by_text("Attempt 1,").click()
    await expect(desk.page.locator("details ol li").first).to_contain_text("originated")
    assert [each["Outcome"] for each in await desk.rows("Calls")] == [shown[0]["Outcome"]]
    assert [each for each in desk.complaints if "403" not in each and "404" not in each] == []


async def test_the_results_are_downloaded(desk: Desk) -> None:
    campaign_id = await desk.house.campaign("+12025550100", name="Spring")
    await desk.sign_in()
    await desk.open(f"/campaigns/{campaign_id}", "Spring")
    async with desk.page.expect_download() as coming:
        await desk.page.get_by_role("button", name="Download the results").click()
    download = await coming.value
    assert download.suggested_filename == f"results-{campaign_id}.csv"
    served = await desk.house.ask("GET", f"/campaigns/{campaign_id}/results.csv")
    assert (await download.path()).read_bytes() == served.body


def told(number: int, phone: str) -> str:
    """One event, as the daemon sends it."""
    data = f'{{"campaign_id":"c","contact_id":"k{number}","status":"originated","phone_number":"{phone}"'
    return f'event: originated\nid: {number}\ndata: {data},"at":"2026-01-01T12:00:00Z","outcome":null}}\n\n'


async def test_a_lost_stream_goes_on_after_the_last_event(desk: Desk) -> None:
    campaign_id = await desk.house.campaign("+12025550100", name="Spring")
    asked: list[str | None] = []

    async def answer(route: Route) -> None:
        asked.append(route.request.headers.get("last-event-id"))
        parts = {None: told(7, "+1202555070") + told(8, "+1202555080"), "8": ": \n\n" + told(9, "+1202555090")}
        if asked[-1] in parts:
            body = parts.pop(asked[-1])
            # The end of the answer is a lost stream; what stands after the last empty line is half an event.
            await route.fulfill(status=200, content_type="text/event-stream", body=body + "event: completed\nid: 99\n")
        else:
            await route.abort()

    await desk.page.route("**/events", answer)
    await desk.sign_in()
    await desk.open(f"/campaigns/{campaign_id}", "Spring")
    await expect(desk.page.get_by_role("link", name="+1202555090")).to_be_visible()
    assert asked[:2] == [None, "8"]
    numbers: list[Any] = [each["Number"] for each in await desk.rows("Events")]
    assert numbers == ["+1202555090", "+1202555080", "+1202555070"]


async def test_a_lost_stream_is_said(desk: Desk) -> None:
    campaign_id = await desk.house.campaign("+12025550100", name="Spring")
    await desk.page.route("**/events", lambda route: route.abort())
    await desk.sign_in()
    await desk.open(f"/campaigns/{campaign_id}", "Spring")
    await desk.page.get_by_text("The connection was lost; trying again.").wait_for()


async def test_a_system_key_sees_how_much_each_tenant_uses(dialing_desk: Desk) -> None:
    desk = dialing_desk
    # The numbers of callees who stay on the line until somebody ends the call.
    settings = {"calling_hours_start": "00:00", "calling_hours_end": "00:00"}
    campaign_id = await desk.house.campaign("+12025550100", "+12025550200", name="Spring", settings=settings)
    await desk.house.ask("POST", f"/campaigns/{campaign_id}/start")
    await desk.sign_in("system")
    row = desk.table("Tenants").get_by_role("row").filter(has=desk.page.get_by_role("cell", name="one", exact=True))
    await expect(row).to_contain_text("2 of 100")
    await expect(desk.table("Tenants").get_by_role("row").nth(2)).to_contain_text("0 of 100")
    await desk.page.get_by_role("heading", name="Calls at once, by tenant").wait_for()
    await desk.picture("overview-system")
    assert (await desk.house.ask("POST", f"/campaigns/{campaign_id}/stop", json={"hangup": True})).status == 200
    # Its role is learnt from what it is refused, and the browser writes each refusal down.
    assert [each for each in desk.complaints if "403" not in each] == []
