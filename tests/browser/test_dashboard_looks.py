"""The dashboard on a phone, in the dark, and by keyboard alone; and pictures of it."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.desk import Desk
from tests.contract.api.house import House

pytestmark = pytest.mark.slow

PHONE = {"width": 360, "height": 740}
LONG = "A campaign whose name is long, andholdsonewordthatdoesnotfitintoaline" * 2
PATHS = ("/", "/campaigns", "/campaigns/new", "/callbacks", "/agents", "/dnc", "/trunks", "/webhooks", "/keys")
ALL_DAY = {"calling_hours_start": "00:00", "calling_hours_end": "00:00"}

# WCAG 2.2, 1.4.3: every text against what is painted behind it.
CONTRAST = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((each) => each / 255)
    .map((each) => (each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4))
    .reduce((sum, each, index) => sum + each * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest("option, noscript")) continue;
    const [a, b] = [light(parts(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${node.outerHTML.slice(0, 120)}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""
# Whether the first chart has a pixel of a colour as the style sheet has it now.
PAINTED = """name => {
  const text = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim().slice(1);
  const wanted = [0, 2, 4].map((at) => parseInt(text.slice(at, at + 2), 16));
  const canvas = document.querySelector("canvas");
  // Of a copy: Chromium complains of a canvas that is not meant to be read and is, again and again.
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < data.length; at += 4) if (wanted.every((each, index) => data[at + index] === each)) return true;
  return false;
}"""
UNLABELLED = """() => [...document.querySelectorAll("input, select, textarea, button, progress, a, dialog")]
  .filter((each) => each.checkVisibility())
  .filter((each) => !each.labels?.length && !each.getAttribute("aria-label") && !each.textContent.trim())
  .map((each) => each.outerHTML)"""


async def fill(house: House) -> tuple[str, ...]:
    """Put something into every list; returns the pages of the campaign and its contact."""
    campaign_id = await house.campaign(name=LONG, description=LONG, settings=ALL_DAY)
    path = f"/campaigns/{campaign_id}"
    contact = {"phone": "+12025550100", "first_name": LONG, "company": LONG, "x" * 90: LONG * 5}
    assert (await house.ask("POST", f"{path}/contacts", json={"contacts": [contact]})).json["added"] == 1
    await house.ask("POST", f"{path}/start")
    contact_id = (await house.ask("GET", f"{path}/contacts")).json["data"][0]["id"]
    await house.ask("POST", "/dnc", key="admin", json={"phone_number": "+12025550199", "note": LONG})
    return (
        path,
        f"{path}/contacts",
        f"{path}/contacts/new",
        f"{path}/contacts/{contact_id}",
        f"{path}/calls",
        f"{path}/callbacks",
    )


async def open_page(desk: Desk, path: str) -> None:
    """Go to a page, which must work."""
    await desk.show(path)
    await expect(desk.page.get_by_role("heading", name="This did not work")).to_have_count(0)


@pytest.mark.parametrize("dark", [False, True])
async def test_a_phone_shows_every_page_without_scrolling_sideways(desk: Desk, dark: bool) -> None:
    own = await fill(desk.house)
    await desk.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    await desk.page.emulate_media(color_scheme="dark" if dark else "light")
    await desk.sign_in()
    for index, path in enumerate((*PATHS, *own)):
        await open_page(desk, path)
        assert await desk.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], path
        assert await desk.page.evaluate(CONTRAST) == [], path
        assert await desk.page.evaluate(UNLABELLED) == [], path
        assert await desk.page.locator("h1").count() == 1
        await desk.picture(f"phone-{'dark' if dark else 'light'}-{index:02}")
    await open_page(desk, own[0])
    await desk.page.get_by_role("button", name="Stop").click()
    assert await desk.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert desk.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_colours_follow_the_system(desk: Desk, scheme: str) -> None:
    await desk.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await desk.sign_in()
    for path in PATHS:
        await open_page(desk, path)
        assert await desk.page.evaluate(CONTRAST) == [], path
    red, green, blue = await desk.page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (red + green + blue > 600) is (scheme == "light")


async def test_charts_are_drawn_anew_when_the_colours_change(desk: Desk) -> None:
    await desk.page.emulate_media(color_scheme="light")
    await desk.sign_in()
    await desk.page.locator("canvas").first.wait_for()
    await desk.page.wait_for_function(PAINTED, arg="line")
    await desk.page.emulate_media(color_scheme="dark")
    await desk.page.wait_for_function(PAINTED, arg="line")
    assert desk.complaints == []


async def test_a_campaign_is_started_by_keyboard_alone(desk: Desk) -> None:
    campaign_id = await desk.house.campaign("+12025550100", name="Spring", settings=ALL_DAY)
    page = desk.page

    async def tab_to(name: str) -> None:
        """Press Tab until the focus is on what a reader would call so."""
        script = (
            "() => (document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent).trim()"
        )
        for _ in range(40):
            await page.keyboard.press("Tab")
            if await page.evaluate(script) == name:
                outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"nobody sees that {name} has the focus"
                return
        raise AssertionError(f"no Tab leads to {name}")

    await page.goto(f"{desk.house.base}/")
    await expect(page.get_by_label("Key")).to_be_focused()  # the form takes the focus by itself
    await page.keyboard.type(desk.house.keys["admin"])
    await page.keyboard.press("Enter")
    await expect(desk.heading("Overview")).to_be_focused()
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Shift+Tab")  # back over "Sign out" into the menu
    for _ in range(6):
        await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(desk.heading("Campaigns")).to_be_focused()
    await tab_to("Spring")
    await page.keyboard.press("Enter")
    await expect(desk.heading("Spring")).to_be_focused()
    await tab_to("Start Spring")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog").get_by_role("button", name="Start", exact=True)).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator(".campaign-head .state")).to_have_text("active")
    assert (await desk.house.ask("GET", f"/campaigns/{campaign_id}")).json["status"] == "active"
    await expect(page.get_by_role("button", name="Pause Spring")).to_be_focused()


async def test_the_skip_link_leads_past_the_menu(desk: Desk) -> None:
    await desk.sign_in()
    await desk.page.reload()
    await desk.heading("Overview").wait_for()
    await desk.page.locator(".skip").focus()
    await desk.page.keyboard.press("Enter")
    await expect(desk.page.locator("main")).to_be_focused()
    await expect(desk.heading("Overview")).to_be_visible()


async def test_the_focus_stays_where_it_is_when_a_list_is_brought_up_to_date(desk: Desk) -> None:
    await desk.sign_in("system")
    await desk.open("/trunks", "Trunks")
    button = desk.page.get_by_role("button", name="Pause trunk spare")
    await button.focus()
    before = await desk.page.locator("main table").element_handle()
    await desk.page.wait_for_function("table => !table.isConnected", arg=before)
    await expect(button).to_be_focused()


async def test_pictures_for_the_documentation(dialing_desk: Desk) -> None:
    """The overview and a campaign, light and dark, while calls go out: tests/browser/artefacts/ → docs/images/."""
    desk = dialing_desk
    # Without those whose carrier is congested or fails: the trunk is well.
    numbers = [f"+1202555{number:04}" for number in range(124, 1450) if number % 100 not in (12, 19)]
    settings = {**ALL_DAY, "concurrent_calls": 20, "max_calls_per_second": 12}
    campaign_id = await desk.house.campaign(*numbers, name="Spring renewals", settings=settings)
    await desk.page.set_viewport_size({"width": 1100, "height": 720})
    await desk.sign_in()
    await desk.house.ask("POST", f"/campaigns/{campaign_id}/start")
    label = "img => /this tenant [1-9]/.test(img.getAttribute('aria-label'))"
    first = await desk.page.get_by_role("img").first.element_handle()
    samples = 0
    while samples < 4:  # so that there are lines to see
        before = await first.get_attribute("aria-label")
        await desk.page.wait_for_function(
            "([img, text]) => img.getAttribute('aria-label') !== text", arg=[first, before]
        )
        samples += 1
    await desk.page.wait_for_function(label, arg=first)
    await light_and_dark(desk, "dashboard-overview")
    await desk.open(f"/campaigns/{campaign_id}", "Spring renewals")
    await desk.table("Events").wait_for()
    await desk.page.set_viewport_size({"width": 1100, "height": 1360})
    await light_and_dark(desk, "dashboard-campaign")
    assert (await desk.house.ask("POST", f"/campaigns/{campaign_id}/stop", json={"hangup": True})).status == 200
    assert desk.complaints == []


async def light_and_dark(desk: Desk, name: str) -> None:
    """Keep a picture of what the window shows, in each scheme."""
    await desk.picture(name, whole=False)
    await desk.page.emulate_media(color_scheme="dark")
    await desk.page.evaluate("() => new Promise(requestAnimationFrame)")  # charts are drawn anew
    await desk.picture(f"{name}-dark", whole=False)
    await desk.page.emulate_media(color_scheme="light")
