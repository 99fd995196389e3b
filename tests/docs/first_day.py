"""docs/transcripts/first-day.md: somebody's first day with dialerd, from a fresh clone, on the lab's real Asterisk.

``python -m tests.docs.first_day`` plays the day and writes the page: the commands are run, what they print is theirs.
What is of this machine (folders, ports) is written as the reader would have it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

from playwright.async_api import async_playwright, expect

from tests.docs import worlds
from tests.docs.page import DOCS, ROOT
from tests.docs.shell import COMMAND_SECONDS, Shell
from tests.docs.worlds import World
from tests.lab.lab import Lab
from tests.lab.packages import require_tools

PAGE = DOCS / "transcripts/first-day.md"
PICTURE = DOCS / "images/first-day-campaign.png"
NUMBERS = ("01", "03", "06", "10", "11", "13", "15", "01", "03", "10", "16", "01")
"""The last two digits of the callees' numbers: what the far end does with each."""

WIDTH = 140
PATIENCE = 90_000
"""Milliseconds that the person in front of the browser waits for anything."""

HEAD = """\
<!-- not tested: made by python -m tests.docs.first_day, which runs every command of it on the lab's Asterisk -->

# The first day

Somebody new to dialerd, with a Debian, an Asterisk 22 that works, and a list. Everything here was run, in this order,
by `python -m tests.docs.first_day`, on the lab's real Asterisk with SIPp for a carrier; what the commands print is what
they printed. Only folders, ports and addresses are written as they would be on a machine of yours,
and `sudo` was not needed there, for the test is root.
"""

CONFIG = """\
[server]
listen = "127.0.0.1:8088"

[store]
url = "sqlite:////var/lib/dialerd/dialerd.db"

[numbers]
default_region = "US"

[pbx.main]
driver = "asterisk"
port = 5038
username = "dialerd"
secret_file = "ami.secret"
max_calls_per_second = 5
max_channels = 20

[trunk.carrier-a]
pbx = "main"
dial = "PJSIP/{number}@carrier-a"
max_calls_per_second = 5
max_channels = 20
caller_ids = ["+12025550199"]

[tenant.default]
max_calls_per_second = 5
max_concurrent_calls = 20
trunks = ["carrier-a"]
default_agent = "desk"

[tenant.default.settings]
timezone = "America/New_York"
concurrent_calls = 5
"""

FAULTS: Sequence[tuple[str, str, str, str]] = (
    # what is said of it, the command that plants it, the one that mends it, and what the doctor's lines must name
    (
        "The secret has a typing error.",
        "echo wrong > /etc/dialerd/ami.secret",
        'echo "$SECRET" > /etc/dialerd/ami.secret',
        "pbx.main.login",
    ),
    (
        "The manager user may not originate.",
        "sed -i 's/^write = .*/write = call,reporting/' /etc/asterisk/manager.d/dialerd.conf; "
        "asterisk -rx 'manager reload'",
        "sed -i 's/^write = .*/write = originate,call,reporting/' /etc/asterisk/manager.d/dialerd.conf; "
        "asterisk -rx 'manager reload'",
        "pbx.main.write",
    ),
    (
        "The trunk's name is misspelt.",
        "sed -i 's/@carrier-a\"/@carier-a\"/' /etc/dialerd/dialerd.toml",
        "sed -i 's/@carier-a\"/@carrier-a\"/' /etc/dialerd/dialerd.toml",
        "trunk.carrier-a",
    ),
    (
        "dialerd is told of more channels than Asterisk has.",
        "sed -i 's/^max_channels = 20/max_channels = 5000/' /etc/dialerd/dialerd.toml",
        "sed -i 's/^max_channels = 5000/max_channels = 20/' /etc/dialerd/dialerd.toml",
        "pbx.main.maxcalls",
    ),
    (
        "The place for answered calls is gone from the dialplan.",
        "sed -i 's/^exten => answered/exten => answred/' /etc/asterisk/extensions_dialerd.conf; "
        "asterisk -rx 'dialplan reload'",
        "sed -i 's/^exten => answred/exten => answered/' /etc/asterisk/extensions_dialerd.conf; "
        "asterisk -rx 'dialplan reload'",
        "pbx.main.agent",
    ),
)


# What may be long, by its first words: seconds.
SLOW = {"make": 600.0}


class Day:
    """Runs commands, and writes down what a reader would have seen."""

    def __init__(self, world: World, shell: Shell) -> None:
        self._world = world
        self._shell = shell
        self._written: list[str] = [HEAD]
        self._open = False

    def say(self, text: str) -> None:
        """Words between commands: paragraphs of Markdown."""
        self._close()
        fill = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False).fill
        self._written.append("\n" + "\n\n".join(map(fill, text.split("\n\n"))) + "\n")

    async def run(self, command: str, *, shown: str | None = None, quiet: bool = False) -> str:
        """Run a command and write it down (as ``shown``) with what it prints; ``quiet``: without a word."""
        seconds = max((value for words, value in SLOW.items() if command.startswith(words)), default=COMMAND_SECONDS)
        _, printed = await self._shell.run(self._world.ours(command), seconds)
        printed = self._world.theirs(printed)
        if quiet:
            return printed
        if not self._open:
            self._written.append("\n```console\n")
            self._open = True
        self._written.append(f"$ {shown or command}\n")
        self._written += [f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines() if printed.strip()]
        return printed

    def file(self, path: str, text: str) -> None:
        """Write a file, and show it."""
        self._close()
        target = self._world.folder / self._world.ours(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self._world.ours(text))
        kind = Path(path).suffix.removeprefix(".")
        self._written.append(f"\n`{path}`:\n\n```{kind}\n{text}```\n")

    def page(self) -> str:
        """All of it."""
        self._close()
        return "".join(self._written)

    def _close(self) -> None:
        if self._open:
            self._written.append("```\n")
            self._open = False


async def morning(day: Day) -> None:
    """From the clone to a manager user."""
    day.say("## Install")
    await day.run(f"git clone -q {ROOT} dialerd && cd dialerd", shown="git clone -q URL dialerd && cd dialerd")
    await _install(day)
    await day.run("dialerd --version")
    day.say("## Let it in")
    copied = "asterisk-conf/manager.d asterisk-conf/extensions_dialerd.conf asterisk-conf/pjsip_dialerd.conf"
    await day.run(f"sudo cp -r {copied} /etc/asterisk/")
    await day.run("SECRET=$(head -c 24 /dev/urandom | base64 | tr -d '/+=')")
    await day.run('sudo sed -i "s|^secret = change-me|secret = $SECRET|" /etc/asterisk/manager.d/dialerd.conf')
    await day.run("echo '#include extensions_dialerd.conf' | sudo tee -a /etc/asterisk/extensions.conf")
    await day.run("echo '#include pjsip_dialerd.conf' | sudo tee -a /etc/asterisk/pjsip.conf")
    carrier = worlds.CARRIER
    await day.run(
        rf"sudo sed -i -e 's/sip\.carrier\.example:5060/{carrier}:5060/' -e 's/sip\.carrier\.example/{carrier}/' "
        "/etc/asterisk/pjsip_dialerd.conf"
    )
    day.say(
        "The example plays a recording, which this Asterisk does not have; here a callee is held instead, ten "
        "seconds at most."
    )
    await day.run("sudo sed -i 's/Playback(hello-world)/Wait(10)/' /etc/asterisk/extensions_dialerd.conf")
    for command in ("manager reload", "dialplan reload", "module reload res_pjsip.so", "pjsip qualify carrier-a"):
        await day.run(f"sudo asterisk -rx '{command}'")
    day.file("/etc/dialerd/dialerd.toml", CONFIG)
    await day.run('echo "$SECRET" | sudo tee /etc/dialerd/ami.secret >/dev/null')
    await day.run("sudo chmod 640 /etc/dialerd/ami.secret")
    await day.run("sudo -u dialerd dialerd check-config --config /etc/dialerd/dialerd.toml")
    await day.run(
        "export DIALER_KEY=$(sudo -u dialerd dialerd keys create --config /etc/dialerd/dialerd.toml "
        "--tenant default --role admin)"
    )


async def _install(day: Day) -> None:
    """As the Makefile has it, below a folder of the reader's own: this machine is not to be changed."""
    if not re.search(r"^install:", (ROOT / "Makefile").read_text(), re.MULTILINE):
        await day.run("make .venv/runtime.stamp")
        await day.run('PATH="$PWD/.venv/bin:$PATH"')
        return
    day.say(
        "On a server it is `sudo make install`, which makes the user and the unit as well. The machine of this "
        "transcript was not to be changed, so `DESTDIR` lays all of it out in a folder, and a script starts the "
        "program from there."
    )
    await day.run("make install DESTDIR=$HOME/try")
    await day.run("(cd ~/try && find . -type f -not -path './opt/*' | sort)")
    await day.run("mkdir ~/bin && PATH=~/bin:$PATH")
    place = "~/try/opt/dialerd/bin"
    script = r"""'#!/bin/sh\nexec %s -I %s "$@"\n'"""
    await day.run(f"printf {script} {place}/python {place}/dialerd > ~/bin/dialerd")
    await day.run("chmod +x ~/bin/dialerd")


async def serve(day: Day, world: World, shell: Shell, log: Path) -> None:
    """Start the daemon, and wait until it can dial."""
    day.say(
        "## Start it\n\n`sudo systemctl enable --now dialerd` where there is systemd; here by hand, in a terminal "
        "of its own: `dialerd serve`."
    )
    # The folder of `dialerd` as the day's own shell finds it.
    command = (await day.run("command -v dialerd", quiet=True)).strip()
    await shell.leave_running(world.ours(f"{command} serve --config /etc/dialerd/dialerd.toml"), log)
    await day.run(
        "curl -s --fail --retry 30 --retry-connrefused --retry-delay 1 --retry-all-errors http://127.0.0.1:8088/readyz"
    )
    await day.run("dialerd agents create desk --dialplan dialerd,answered")


async def faults(day: Day) -> None:
    """Five mistakes, each found by the doctor, and mended."""
    doctor = "sudo -u dialerd dialerd doctor --config /etc/dialerd/dialerd.toml"
    day.say("## The doctor\n\nWhat it says of the PBX and the trunk when all is well:")
    await day.run(f"{doctor} | grep -E 'pbx|trunk|tenant'")
    day.say("Five faults, planted one at a time. Each is named, with the line to change below it.")
    for number, (said, plant, mend, named) in enumerate(FAULTS, 1):
        day.say(f"**{number}. {said}**")
        await day.run(plant)
        printed = await day.run(f"{doctor} | grep -A1 -E '^(error|warning) .*(pbx|trunk)'")
        assert named in printed, f"the doctor does not name {named}:\n{printed}"
        await day.run(mend)
    day.say("All of it mended:")
    printed = await day.run(f"{doctor} | grep -E 'pbx|trunk' | cut -d' ' -f1 | sort | uniq -c")
    assert "error" not in printed, printed


async def campaign(day: Day, world: World) -> None:
    """A campaign from the dashboard; its events and results in the terminal."""
    digits = "".join(f"+1202555{30 + index}{last},Callee {index}\n" for index, last in enumerate(NUMBERS, 1))
    day.say(
        "## A campaign from the dashboard\n\nThe list. The far end does as the last two digits say: 01, 03, 06 answer "
        "and hang up after a while, 10 is busy, 11 does not exist, 13 rings out, 15 declines, 16 is not there."
    )
    day.file("contacts.csv", f"phone_number,first_name\n{digits}not a number,Eve\n")
    facts = await _in_the_browser(world, (await day.run("echo $DIALER_KEY", quiet=True)).strip())
    day.say(
        "In a browser (a headless Chromium here), at `http://127.0.0.1:8088/`: sign in with the key; *Campaigns*, *New "
        "campaign*; name it “First list”, choose the agent, open the hours from 00:00 to 00:00 (these are our own "
        "telephones), no retries, choose `contacts.csv`. The page shows the columns and what each will be. *Create "
        f"the campaign* says: {facts['report']} *Open the campaign*, *Start*, and watch until it reads “completed”:"
    )
    day.say(f"![The campaign, completed](../images/{PICTURE.name})")
    day.say("## Afterwards, in the terminal")
    campaign_id = facts["id"]
    await day.run(f"dialerd tail {campaign_id} --after 0 --until-end | head -12")
    await day.run(f"dialerd campaigns show {campaign_id}")
    await day.run(f"dialerd results {campaign_id} -o results.csv")
    printed = await day.run("cut -d, -f1,3-6,11,12 results.csv")
    assert printed.count(",completed,answered,") == sum(last in ("01", "03", "06") for last in NUMBERS), printed
    await day.run(f"dialerd contacts list {campaign_id} --status failed --outcome busy")
    day.say("What was tried is over; a campaign that is completed cannot be started again, and says so:")
    await day.run(f"dialerd campaigns start {campaign_id}")


async def _in_the_browser(world: World, key: str) -> dict[str, str]:
    """Make, start and watch the campaign as a person would; its id, and what was said of the list."""
    require_tools({"chromium": "chromium"})
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    base = world.environ["DIALER_URL"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = await browser.new_page(viewport={"width": 1100, "height": 1250}, locale="en-GB", timezone_id="UTC")
        page.set_default_timeout(PATIENCE)
        await page.goto(f"{base}/")
        await page.get_by_label("Key").fill(key)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("link", name="Campaigns").click()
        await page.get_by_role("link", name="New campaign").click()
        await page.get_by_label("Name").fill("First list")
        await page.get_by_label("Agent").select_option(label="desk (dialplan)")
        for label in ("From", "Until"):
            await page.get_by_label(label, exact=True).fill("00:00")
        await page.get_by_label("Retries of a contact").fill("0")
        await page.get_by_label("Contacts", exact=True).set_input_files(world.folder / "contacts.csv")
        await page.get_by_role("table", name="Columns").wait_for()
        await page.get_by_role("button", name="Create the campaign").click()
        await page.get_by_role("heading", level=1, name="“First list” is made").wait_for()
        added = (
            await page.locator("dl > div").filter(has=page.get_by_text("Added", exact=True)).locator("dd").inner_text()
        )
        rejected = await page.get_by_role("table", name="Rejected rows").locator("tbody").inner_text()
        await page.get_by_role("link", name="Open the campaign").click()
        await page.get_by_text("Connected: events show here").wait_for()
        await page.get_by_role("button", name="Start First list").click()
        await page.get_by_role("dialog").get_by_role("button", name="Start", exact=True).click()
        await expect(page.locator(".campaign-head .state")).to_have_text("completed", timeout=PATIENCE)
        await page.screenshot(path=PICTURE)
        campaign_id = page.url.rpartition("/")[2]
        await browser.close()
    return {"id": campaign_id, "report": f"{added} added, one row rejected ({' '.join(rejected.split())})."}


async def play(lab: Lab, folder: Path) -> str:
    """The whole day, as a page."""
    async with worlds.asterisk(folder, lab) as world:
        for each in world.folder.iterdir():
            each.unlink()  # this reader begins with a clone
        world.places |= {"/home/you": str(world.folder)}
        own = f"{Path(sys.executable).parent}:"
        world.environ["PATH"] = world.environ["PATH"].removeprefix(own)
        async with Shell(world.folder, world.environ) as shell:
            day = Day(world, shell)
            await morning(day)
            await serve(day, world, shell, folder / "daemon.log")
            await faults(day)
            await campaign(day, world)
            return day.page()


def main() -> int:
    """Play the day on a lab of its own, and write the page."""
    with tempfile.TemporaryDirectory(prefix="first-day-") as folder, Lab("22") as lab:
        page = asyncio.run(play(lab, Path(folder)))
    foreign = re.findall(r"/(?:work|root|tmp|dev/shm)\b\S*", page)
    if foreign:
        print(f"paths of this machine are in it: {sorted(set(foreign))}", file=sys.stderr)
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
