"""Contacts by upload: the columns are shown and chosen before, and what was rejected is shown and can be had after."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Route, expect

from dialerd.intake import rows as intake
from tests.browser.desk import Desk

pytestmark = pytest.mark.slow


async def choose(desk: Desk, body: bytes, name: str = "list.csv") -> None:
    """Choose a file in the form that is open, and wait until its columns are shown."""
    await desk.page.get_by_label("Contacts", exact=True).set_input_files(
        {"name": name, "mimeType": "text/csv", "buffer": body}
    )
    await desk.table("Columns").wait_for()


async def new_campaign(desk: Desk) -> None:
    """Open the form of a new campaign, and give it a name and an agent."""
    agent = await desk.house.agent()
    await desk.open("/campaigns/new", "New campaign")
    await desk.page.get_by_label("Name").fill("Spring")
    await desk.page.get_by_label("Agent").select_option(agent)


async def added(desk: Desk) -> list[dict[str, Any]]:
    """The contacts of the one campaign."""
    [campaign] = (await desk.house.ask("GET", "/campaigns")).json["data"]
    listed: list[dict[str, Any]] = (await desk.house.ask("GET", f"/campaigns/{campaign['id']}/contacts")).json["data"]
    return listed


async def test_columns_are_mapped_and_rejected_rows_shown(desk: Desk) -> None:
    await desk.sign_in()
    await new_campaign(desk)
    await choose(desk, b'Kunde;"Ruf;nummer";Surname\r\nAnn;+12025550100;"Lee; Jr"\r\nBob;nonsense;Ray\r\nCy;;Poe\r\n')
    preview = await desk.rows("Columns")
    assert [each["Column"] for each in preview] == ["Kunde", "Ruf;nummer", "Surname"]
    assert preview[1]["First values"] == "+12025550100 · nonsense"
    await desk.page.get_by_role("button", name="Create the campaign").click()
    await expect(desk.page.locator("main form").get_by_role("alert")).to_contain_text(
        "Choose the column of the telephone"
    )
    await desk.page.get_by_label("Column Ruf;nummer becomes").select_option("phone_number")
    await desk.page.get_by_label("Column Kunde becomes").select_option("first_name")
    await desk.page.get_by_label("Column Surname becomes").select_option("")
    await desk.picture("mapping")
    await desk.page.get_by_role("button", name="Create the campaign").click()
    await desk.heading("“Spring” is made").wait_for()
    assert (await desk.fact("Added"), await desk.fact("Rejected")) == ("1", "2")
    rejected = await desk.rows("Rejected rows")
    assert [(each["Row"], each["Value"]) for each in rejected] == [("3", "nonsense"), ("4", "–")]
    await desk.picture("rejected")
    async with desk.page.expect_download() as coming:
        await desk.page.get_by_role("button", name="Download the rejected rows").click()
    lines = (await (await coming.value).path()).read_text().splitlines()
    assert len(lines) == 3
    assert "nonsense" in lines[1]
    [contact] = await added(desk)
    assert (contact["phone_number"], contact["first_name"], contact["last_name"]) == ("+12025550100", "Ann", None)
    assert contact["attributes"] == {"Surname (as given)": "Lee; Jr"}
    await desk.follow("Open the campaign")
    await desk.heading("Spring").wait_for()
    assert desk.complaints == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
async def test_a_renamed_header_leaves_the_rows_as_they_are(desk: Desk, encoding: str) -> None:
    text = '\n"Wer,\nda",Nr\nZoë 🦉,+12025550100\nПётр,+12025550101\n'
    bom = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    await desk.sign_in()
    await new_campaign(desk)
    await choose(desk, bom + text.encode(encoding))
    await desk.page.get_by_label("Column Nr becomes").select_option("phone_number")
    await desk.page.locator("select[name=column-0]").select_option("last_name")
    await desk.page.get_by_role("button", name="Create the campaign").click()
    await desk.heading("Spring").wait_for()
    assert [(each["last_name"], each["phone_number"]) for each in await added(desk)] == [
        ("Zoë 🦉", "+12025550100"),
        ("Пётр", "+12025550101"),
    ]


async def test_a_file_that_fits_is_sent_as_it_is(desk: Desk) -> None:
    await desk.sign_in()
    await new_campaign(desk)
    await choose(desk, b"Mobile,Phone,Plan\n1,+12025550100,gold\n")
    assert [await each.input_value() for each in await desk.page.locator("select[name^=column]").all()] == [
        "",
        "phone_number",
        "",
    ]
    await desk.page.get_by_role("button", name="Create the campaign").click()
    await desk.heading("Spring").wait_for()
    [contact] = await added(desk)
    assert contact["attributes"] == {"Mobile": "1", "Plan": "gold"}


async def test_two_columns_of_one_meaning_are_refused_before_sending(desk: Desk) -> None:
    await desk.sign_in()
    await new_campaign(desk)
    await choose(desk, b"phone,a,b\n+12025550100,1,2\n")
    for name in "ab":
        await desk.page.get_by_label(f"Column {name} becomes").select_option("company")
    await desk.page.get_by_role("button", name="Create the campaign").click()
    await expect(desk.page.locator("main form").get_by_role("alert")).to_contain_text("Two columns become company")
    assert (await desk.house.ask("GET", "/campaigns")).json["data"] == []


async def test_a_whole_file_is_kept_out_where_that_is_asked(desk: Desk) -> None:
    await desk.sign_in()
    await new_campaign(desk)
    await choose(desk, b"phone\n+12025550100\nnonsense\n")
    await desk.page.get_by_label("A row that is rejected").select_option("reject")
    await desk.page.get_by_role("button", name="Create the campaign").click()
    await expect(desk.page.locator("main form").get_by_role("alert")).to_contain_text("row 3, phone")
    assert (await desk.house.ask("GET", "/campaigns")).json["data"] == []


async def test_what_is_left_empty_is_the_tenants_default(desk: Desk) -> None:
    await desk.sign_in()
    await new_campaign(desk)
    for day in ("Tue", "Sat"):
        await desk.page.get_by_label(day).check()
    await desk.page.get_by_label("Stay open").check()
    await desk.page.get_by_label("From", exact=True).fill("10:30")
    await desk.page.get_by_role("button", name="Create the campaign").click()
    await desk.heading("Spring").wait_for()
    [campaign] = (await desk.house.ask("GET", "/campaigns")).json["data"]
    settings = campaign["settings"]
    assert settings["calling_days"] == ["tue", "sat"]
    assert (settings["keep_open"], settings["calling_hours_start"]) == (True, "10:30")
    assert (settings["concurrent_calls"], settings["timezone"]) == (7, "America/New_York")


async def test_a_field_that_does_not_fit_is_told_beside_it(desk: Desk) -> None:
    await desk.sign_in()
    await new_campaign(desk)
    zone = desk.page.get_by_label("Time zone")
    await zone.fill("Mars/Olympus")
    await desk.page.get_by_role("button", name="Create the campaign").click()
    await expect(zone).to_have_attribute("aria-invalid", "true")
    await expect(zone).to_be_focused()
    await expect(desk.page.locator(".field-error")).to_contain_text("is not an IANA time zone")
    await zone.fill("Europe/Rome")
    await desk.page.get_by_role("button", name="Create the campaign").click()
    await desk.heading("Spring").wait_for()


async def test_an_upload_tells_how_far_it_is(desk: Desk) -> None:
    campaign_id = await desk.house.campaign(name="Spring")
    await desk.sign_in()
    await desk.open(f"/campaigns/{campaign_id}/contacts/new", "Spring")
    # The loopback is too fast for anybody to see anything: it is slowed, and every text that was there is written down.
    network = await desk.page.context.new_cdp_session(desk.page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 4 * 2**20}
    await network.send("Network.enable")
    await network.send("Network.emulateNetworkConditions", slow)
    await desk.page.evaluate(
        """() => {
          window.shown = [];
          const told = () => document.querySelector("main form progress + [role=status]")?.textContent;
          const note = () => window.shown.push(told());
          new MutationObserver(note).observe(document.querySelector("main"), { childList: true, subtree: true });
        }"""
    )
    wide = ",".join(["x" * 800] * 5)
    rows = "".join(f"+1202555{number:04},{wide}\n" for number in range(2000))
    await choose(desk, f"phone,a,b,c,d,e\n{rows}".encode())
    await desk.page.get_by_role("button", name="Add the contacts").click()
    await desk.page.get_by_text("2,000 contacts added.").wait_for()
    shown = await desk.page.evaluate("window.shown.filter(Boolean)")
    assert shown[-1] == "Sent. The daemon checks the rows …"
    shares = [float(each.removesuffix("% sent")) for each in shown if each.endswith("% sent")]
    assert shares
    assert shares == sorted(shares)


async def test_a_lost_answer_makes_no_second_campaign(desk: Desk) -> None:
    await desk.sign_in()
    await new_campaign(desk)
    kept: list[str | None] = []

    async def lose_the_first(route: Route) -> None:
        kept.append(route.request.headers.get("idempotency-key"))
        if len(kept) > 1:
            await route.continue_()
            return
        await route.fetch()
        await route.abort("connectionreset")

    await desk.page.route("**/api/v1/campaigns", lose_the_first)
    await desk.page.get_by_role("button", name="Create the campaign").click()
    await desk.page.get_by_text("The daemon cannot be reached.").wait_for()
    await desk.page.get_by_role("button", name="Create the campaign").click()
    await desk.heading("Spring").wait_for()
    assert kept[0] is not None
    assert kept[0] == kept[1]
    assert (await desk.house.ask("GET", "/campaigns")).json["pagination"]["total"] == 1


async def test_contacts_are_added_to_a_campaign(desk: Desk) -> None:
    campaign_id = await desk.house.campaign("+12025550100", name="Spring")
    await desk.sign_in("operator")
    await desk.open(f"/campaigns/{campaign_id}/contacts", "Spring")
    await desk.follow("Add contacts")
    await choose(desk, b"tel\n+12025550100\n+12025550101\n")
    await desk.page.get_by_role("button", name="Add the contacts").click()
    await desk.page.get_by_text("On the list already").wait_for()
    assert (await desk.fact("Added"), await desk.fact("On the list already")) == ("1", "1")
    await choose(desk, b"tel\n+12025550102\n")
    await desk.page.get_by_role("button", name="Add the contacts").click()
    await desk.page.get_by_text("1 contact added.").wait_for()
    assert len(await desk.rows("Contacts")) == 3


async def test_columns_are_understood_as_the_daemon_understands_them(desk: Desk) -> None:
    await desk.page.goto(f"{desk.house.base}/")
    plain = {**intake._OWN_NAMES, **intake._OTHER_NAMES}
    names = [*plain, *(name.title() for name in intake.FIELDS), "First-Name", "e.mail", "plan", "attributes", ""]
    script = "async names => { const csv = await import('/dashboard/csv.js'); return names.map(csv.fieldOf) }"
    assert await desk.page.evaluate(script, names) == [intake.field_of(name) for name in names]
    for header in (
        ["Mobile", "phone"],
        ["tel", "cell"],
        ["Surname", "last name", "x"],
        ["mail", "e-mail", "Telephone"],
    ):
        read = "async names => (await import('/dashboard/csv.js')).assigned(names)"
        try:
            fields = intake.assign(tuple(header), intake.IntakeOptions()).fields
        except intake.BadNames:
            continue
        meant = {name: field for field, name in fields.items()}
        assert await desk.page.evaluate(read, header) == [meant.get(name) for name in header]
