"""Each page of the dashboard shows what the API says, and does what its buttons say."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.desk import Desk
from tests.contract.api.house import House

pytestmark = pytest.mark.slow

ALL_DAY = {"calling_hours_start": "00:00", "calling_hours_end": "00:00"}


async def contacts(house: House, campaign_id: str, *given: dict[str, Any]) -> list[dict[str, Any]]:
    """Add contacts, and return all of the campaign as the API lists them."""
    path = f"/campaigns/{campaign_id}/contacts"
    assert (await house.ask("POST", path, json={"contacts": list(given)})).json["added"] == len(given)
    listed: list[dict[str, Any]] = (await house.ask("GET", f"{path}?limit=1000")).json["data"]
    return listed


async def test_the_overview_shows_trunks_and_active_campaigns(desk: Desk) -> None:
    campaign_id = await desk.house.campaign("+12025550100", name="Spring", settings=ALL_DAY)
    await desk.house.ask("POST", f"/campaigns/{campaign_id}/start")
    await desk.sign_in()
    trunk = (await desk.house.ask("GET", "/trunks")).json["data"][0]
    [shown] = await desk.rows("Trunks")
    assert shown["Trunk"] == trunk["id"]
    assert shown["State"].split(" ", 1) == [trunk["state"], trunk["reason"]]
    assert shown["Calls at once"] == f"{trunk['channels_in_use']} of {trunk['max_channels']}"
    [campaign] = await desk.rows("Active campaigns")
    assert (campaign["Campaign"], campaign["Progress"], campaign["In flight"]) == ("Spring", "0 of 1", "0")
    charts = desk.page.get_by_role("img")
    await expect(charts).to_have_count(3)
    await expect(charts.first).to_have_attribute("aria-label", re.compile(r"Calls per second, now: a 0, this tenant"))
    await expect(desk.page.locator("canvas")).to_have_count(3)
    await desk.follow("Spring")
    await desk.heading("Spring").wait_for()
    assert desk.complaints == []


async def test_rates_over_time_are_the_differences_of_counts(desk: Desk) -> None:
    """With calls of a campaign that began meanwhile, and the last ones of a campaign that ended meanwhile."""
    await desk.page.goto(f"{desk.house.base}/")
    found = await desk.page.evaluate(
        """async () => {
          const { Sampler, rates } = await import("/dashboard/samples.js");
          const campaign = (id, status, started_at, calls_placed, outcomes) =>
            ({ id, status, started_at, stats: { calls_placed, calls_in_flight: 1, outcomes } });
          const long_ago = "2020-01-01T00:00:00Z";
          const soon = "2100-01-01T00:00:00Z";
          const rounds = [
            [campaign("old", "active", long_ago, 100, { answered: 60, busy: 40 })],
            [campaign("old", "active", long_ago, 110, { answered: 62, abandoned: 2, busy: 44 }),
             campaign("new", "active", soon, 4, { answered: 1, no_answer: 1 })],
            [campaign("new", "active", soon, 6, { answered: 2, machine: 1, no_answer: 1 })],
          ];
          const ended = campaign("old", "completed", long_ago, 111, { answered: 65, abandoned: 2, busy: 44 });
          let round = -1;
          const answers = {
            "/trunks": () => ({ data: [] }),
            "/campaigns": () => ({ data: rounds[round += 1], pagination: { total_pages: 1 } }),
            "/campaigns/old": () => ended,
          };
          const sampler = new Sampler({ get: async (path) => answers[path]() }, "viewer");
          for (const _ of rounds) await sampler.take();
          sampler.stop();
          sampler.samples.forEach((each, index) => { each.at = 1000 + 40 * index; });
          return [sampler.samples.map(({ placed, ended, answered, people, abandoned }) =>
            [placed, ended, answered, people, abandoned]), rates(sampler.samples)];
        }"""
    )
    assert found[0] == [[0, 0, 0, 0, 0], [14, 10, 5, 5, 2], [17, 15, 10, 9, 2]]
    assert found[1][0] == {"calls": None, "answer": None, "abandon": None}
    assert found[1][1] == {"calls": 14 / 40, "answer": 5 / 10, "abandon": 2 / 5}
    assert found[1][2] == {"calls": 3 / 40, "answer": 5 / 5, "abandon": 0}  # the first is over a minute ago


async def test_campaigns_are_listed_filtered_and_paged(desk: Desk) -> None:
    for number in range(21):
        await desk.house.campaign(name=f"Campaign {number:02}", agent_id=await desk.house.agent())
    await desk.sign_in()
    await desk.open("/campaigns", "Campaigns")
    assert len(await desk.rows("Campaigns")) == 20
    await desk.page.get_by_role("link", name="Next").click()
    await expect(desk.page.get_by_text("page 2 of 2, 21 in all")).to_be_visible()
    assert [each["Campaign"] for each in await desk.rows("Campaigns")] == ["Campaign 00"]
    await desk.page.get_by_label("Name or description holds").fill("17")
    await desk.page.get_by_role("button", name="Show").click()
    await expect(desk.page.get_by_text("page 1 of 1, 1 in all")).to_be_visible()
    [found] = await desk.rows("Campaigns")
    assert (found["Campaign"], found["State"], found["Progress"]) == ("Campaign 17", "draft", "0 of 0")
    await desk.page.get_by_label("State").select_option("active")
    await desk.page.get_by_role("button", name="Show").click()
    await desk.page.get_by_text("No campaign fits.").wait_for()
    assert desk.complaints == []


async def test_a_campaign_is_paused_resumed_and_stopped(desk: Desk) -> None:
    campaign_id = await desk.house.campaign("+12025550100", name="Spring", settings=ALL_DAY)
    await desk.house.ask("POST", f"/campaigns/{campaign_id}/start")
    await desk.sign_in("operator")
    await desk.open(f"/campaigns/{campaign_id}", "Spring")
    for action, state in (("Pause", "paused"), ("Resume", "active"), ("Stop", "cancelled")):
        await desk.page.get_by_role("button", name=f"{action} Spring").click()
        await desk.confirm(action)
        await expect(desk.page.locator(".campaign-head .state")).to_have_text(state)
        assert (await desk.house.ask("GET", f"/campaigns/{campaign_id}")).json["status"] == state
    await expect(desk.page.locator(".campaign-head").get_by_role("button")).to_have_count(0)


async def test_what_was_not_confirmed_is_not_done(desk: Desk) -> None:
    campaign_id = await desk.house.campaign("+12025550100", name="Spring")
    await desk.sign_in()
    await desk.open(f"/campaigns/{campaign_id}", "Spring")
    await desk.page.get_by_role("button", name="Stop Spring").click()
    await desk.confirm("Cancel")
    await desk.page.get_by_role("button", name="Stop Spring").click()
    await desk.page.keyboard.press("Escape")
    await expect(desk.page.get_by_role("dialog")).to_have_count(0)
    assert (await desk.house.ask("GET", f"/campaigns/{campaign_id}")).json["status"] == "draft"


async def test_a_refusal_is_told_in_the_problems_own_words(desk: Desk) -> None:
    campaign_id = await desk.house.campaign(name="Spring")
    await desk.sign_in()
    await desk.open(f"/campaigns/{campaign_id}", "Spring")
    await desk.page.get_by_role("button", name="Start Spring").click()
    await desk.confirm("Start")
    await expect(desk.page.locator(".actions").get_by_role("alert")).to_have_text(
        "the campaign has no contacts to call"
    )
    await desk.open("/campaigns/nobody", "This did not work")
    await expect(desk.page.get_by_role("alert")).to_have_text("there is no such campaign")


async def test_explain_is_told_in_words_and_counted_down(desk: Desk) -> None:
    soon = {"calling_hours_start": "00:00", "calling_hours_end": "00:00", "start_at": "2090-01-01T00:00:00Z"}
    campaign_id = await desk.house.campaign("+12025550100", name="Spring", settings=soon)
    await desk.house.ask("POST", f"/campaigns/{campaign_id}/start")
    await desk.sign_in()
    await desk.open(f"/campaigns/{campaign_id}", "Spring")
    told = (await desk.house.ask("GET", f"/campaigns/{campaign_id}/explain")).json
    assert told["dialing"] is False
    await expect(desk.page.locator(".silent")).to_have_text(f"Nothing is dialled: {told['summary']}")
    if told["next_moment"] is not None:
        await expect(desk.page.locator(".countdown")).to_have_text(re.compile(r" in \d+ d( \d+ h)?"))
    await desk.page.get_by_text("Every rule").click()
    rules = await desk.rows("Rules")
    assert [each["Why"] for each in rules] == [each["detail"] for each in told["rules"]]
    assert [each["Lets calls through"] for each in rules] == [
        "yes" if each["holds"] else "no" for each in told["rules"]
    ]


async def test_the_countdown_asks_again_when_its_moment_has_come(desk: Desk) -> None:
    house = desk.house
    start_at = (house.clock.wall() + timedelta(seconds=8)).isoformat()
    campaign_id = await house.campaign(name="Spring", settings={**ALL_DAY, "start_at": start_at})
    [contact] = await contacts(house, campaign_id, {"phone": "+12025550100"})
    await house.ask("POST", f"/campaigns/{campaign_id}/start")
    await desk.sign_in()
    await desk.open(f"/campaigns/{campaign_id}/contacts/{contact['id']}", "+12025550100")
    first = await desk.page.locator(".explain p").first.inner_text()
    await expect(desk.page.locator(".countdown")).to_have_text(re.compile(r" in [1-8] s"))
    await expect(desk.page.locator(".explain p").first).not_to_have_text(first)
    told = (await house.ask("GET", f"/campaigns/{campaign_id}/contacts/{contact['id']}")).json["explain"]
    await expect(desk.page.locator(".explain p").first).to_contain_text(told["summary"])


async def test_contacts_are_paged_both_ways_and_filtered(desk: Desk) -> None:
    house = desk.house
    campaign_id = await house.campaign(name="Spring")
    listed = await contacts(
        house, campaign_id, *({"phone": f"+1202555{number:04}", "first_name": f"N{number}"} for number in range(120))
    )
    numbers = [each["phone_number"] for each in listed]
    await desk.sign_in()
    await desk.open(f"/campaigns/{campaign_id}/contacts", "Spring")
    status = desk.page.get_by_label("Parts of the list").first.get_by_role("status")

    async def shows(words: str, part: list[str]) -> None:
        await expect(status).to_have_text(words)
        assert [each["Number"] for each in await desk.rows("Contacts")] == part

    await shows("1–50 of 120", numbers[:50])
    await desk.page.get_by_role("link", name="Next").first.click()
    await shows("51–100 of 120", numbers[50:100])
    await desk.page.get_by_role("link", name="Next").first.click()
    await shows("101–120 of 120", numbers[100:])
    await desk.page.get_by_role("link", name="Previous").first.click()
    await shows("51–100 of 120", numbers[50:100])
    await desk.page.reload()
    await shows("51–100 of 120", numbers[50:100])
    await desk.page.get_by_label("Number, name").fill("N77")
    await desk.page.get_by_role("button", name="Show").click()
    await shows("1–1 of 1", [numbers[77]])
    await desk.page.get_by_label("State").select_option("failed")
    await desk.page.get_by_role("button", name="Show").click()
    await desk.page.get_by_text("No contact fits.").wait_for()
    assert desk.complaints == []


async def test_a_contacts_history_and_the_calls(desk: Desk) -> None:
    house = desk.house
    campaign_id = await house.campaign(name="Spring", settings=ALL_DAY)
    [contact] = await contacts(
        house, campaign_id, {"phone": "+12025550100", "first_name": "Ann", "company": "Acme", "plan": "gold"}
    )
    await house.ask("POST", f"/campaigns/{campaign_id}/start")
    await desk.sign_in()
    await desk.open(f"/campaigns/{campaign_id}/contacts/{contact['id']}", "Ann, +12025550100")
    assert (await desk.fact("Company"), await desk.fact("Attempts")) == ("Acme", "0")
    assert await desk.rows("Attributes") == [{"Attribute": "plan", "Value": "gold"}]
    await desk.page.get_by_text("No call was placed yet.").wait_for()
    told = (await house.ask("GET", f"/campaigns/{campaign_id}/contacts/{contact['id']}")).json["explain"]
    await expect(desk.page.locator(".explain p").first).to_contain_text(told["summary"])
    await desk.page.get_by_role("button", name="Cancel the contact").click()
    await desk.confirm("Cancel the contact")
    await expect(desk.page.locator(".contact-head .state")).to_have_text("cancelled")
    assert desk.complaints == []


async def test_callbacks_are_promised_and_withdrawn(desk: Desk) -> None:
    house = desk.house
    campaign_id = await house.campaign("+12025550100", name="Spring")
    await desk.sign_in("operator")
    await desk.open("/callbacks", "Callbacks")
    await desk.page.get_by_role("button", name="Show its callbacks").click()
    await desk.page.get_by_text("No callback is promised.").wait_for()
    await desk.page.get_by_role("textbox", name="Number").fill("12")
    await desk.page.get_by_role("button", name="Promise the callback").click()
    await expect(desk.page.get_by_role("textbox", name="Number")).to_have_attribute("aria-invalid", "true")
    await desk.page.get_by_role("textbox", name="Number").fill("+12025550177")
    due = (house.clock.wall() + timedelta(days=7)).replace(hour=9, minute=30, second=0, microsecond=0)
    await desk.page.get_by_label("Due").fill(due.strftime("%Y-%m-%dT%H:%M"))
    await desk.page.get_by_label("Note").fill("asked for Bob")
    await desk.page.get_by_role("button", name="Promise the callback").click()
    [shown] = await desk.rows("Callbacks")
    assert (shown["Number"], shown["Note"]) == ("+12025550177", "asked for Bob")
    [promised] = (await house.ask("GET", f"/campaigns/{campaign_id}/callbacks")).json["data"]
    assert promised["due_at"] == due.strftime("%Y-%m-%dT%H:%M:%SZ")  # the browser's zone is UTC (conftest.py)
    await desk.page.get_by_role("button", name="Withdraw the callback to +12025550177").click()
    await desk.confirm("Withdraw")
    await desk.page.get_by_text("No callback is promised.").wait_for()
    assert (await house.ask("GET", f"/campaigns/{campaign_id}/callbacks")).json["total"] == 0


async def test_a_contacts_callback_is_promised_to_that_contact(desk: Desk) -> None:
    house = desk.house
    campaign_id = await house.campaign(name="Spring")
    [contact] = await contacts(house, campaign_id, {"phone": "+12025550100"})
    await desk.sign_in()
    await desk.open(f"/campaigns/{campaign_id}/contacts/{contact['id']}", "+12025550100")
    await desk.follow("Promise a callback")
    await expect(desk.page.get_by_role("textbox", name="Number")).to_have_value("+12025550100")
    await desk.page.get_by_role("button", name="Promise the callback").click()
    assert [each["Number"] for each in await desk.rows("Callbacks")] == ["+12025550100"]
    [promised] = (await house.ask("GET", f"/campaigns/{campaign_id}/callbacks")).json["data"]
    assert promised["contact_id"] == contact["id"]


async def test_the_do_not_call_list(desk: Desk) -> None:
    await desk.sign_in()
    await desk.open("/dnc", "Do not call")
    await desk.page.get_by_text("No number is on the list.").wait_for()
    await desk.page.get_by_role("textbox", name="Number").fill("+12025550143")
    await desk.page.get_by_label("Note").fill("by letter")
    await desk.page.get_by_role("button", name="Add").click()
    [shown] = await desk.rows("Numbers")
    assert (shown["Number"], shown["Note"]) == ("+12025550143", "by letter")
    body = b"phone_number,note\n+12025550144,one\nnonsense,two\n+12025550143,three\n"
    await desk.page.get_by_label("File").set_input_files({"name": "l.csv", "mimeType": "text/csv", "buffer": body})
    await desk.page.get_by_role("button", name="Upload").click()
    await desk.page.get_by_text("1 number added, 1 on the list already, 1 rejected.").wait_for()
    [rejected] = await desk.rows("Rejected rows")
    assert rejected["Value"] == "nonsense"
    await desk.page.get_by_role("button", name="Show the list").click()
    await desk.page.get_by_role("button", name="Take +12025550144 off the list").click()
    await desk.confirm("Take off")
    await expect(desk.table("Numbers").locator("tbody tr")).to_have_count(1)
    assert [each["phone_number"] for each in (await desk.house.ask("GET", "/dnc")).json["data"]] == ["+12025550143"]
    assert desk.complaints == []


async def test_a_number_that_is_none_is_told_where_it_was_typed(desk: Desk) -> None:
    await desk.sign_in()
    await desk.open("/dnc", "Do not call")
    await desk.page.get_by_role("textbox", name="Number").fill("nonsense")
    await desk.page.get_by_role("button", name="Add").click()
    alert = desk.page.locator("form").filter(has=desk.page.get_by_role("button", name="Add")).get_by_role("alert")
    await expect(alert).not_to_be_empty()
    assert (await desk.house.ask("GET", "/dnc")).json["total"] == 0


async def test_a_system_key_pauses_and_resumes_a_trunk(desk: Desk) -> None:
    await desk.sign_in("system")
    await desk.follow("Trunks")
    await desk.page.get_by_role("button", name="Pause trunk spare").click()
    await desk.page.get_by_label("Reason").fill("the carrier works on it")
    await desk.confirm("Pause")
    await expect(desk.table("Trunks").get_by_role("row").nth(2)).to_contain_text("paused the carrier works on it")
    await desk.page.get_by_role("button", name="Resume trunk spare").click()
    await desk.page.get_by_role("button", name="Pause trunk spare").wait_for()
    trunks = (await desk.house.ask("GET", "/trunks", key="system")).json["data"]
    assert "paused" not in {each["state"] for each in trunks}
    assert [each["Trunk"] for each in await desk.rows("Trunks")] == [each["id"] for each in trunks]
