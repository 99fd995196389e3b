"""dialerd top and tail in a terminal: sizes, keys, colours, and a daemon that goes and comes back."""

from __future__ import annotations

import pytest

from tests.contract.client.conftest import Terminal, made
from tests.fakes.proxy import Proxy
from tests.support.screen import screen

pytestmark = pytest.mark.slow

LEAVES = b"\x1b[?1049l"
SHOWS_CURSOR = b"\x1b[?25h"


def environ(terminal: Terminal, key: str = "operator", **more: str) -> dict[str, str]:
    """The user's variables, without a width that would go before the terminal's own."""
    return {name: value for name, value in terminal.environ(key).items() if name != "COLUMNS"} | more


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40)])
async def test_top_fits_the_screen_and_ends_with_q(terminal: Terminal, columns: int, lines: int) -> None:
    campaign = await made(terminal)
    await terminal.says("campaigns", "start", campaign)
    async with screen("top", "--interval", "0.2", environ=environ(terminal), columns=columns, lines=lines) as shown:
        await shown.shows(campaign)
        assert not any("…" in line for line in shown.lines if line.startswith(("TRUNK", "CAMPAIGN", campaign)))
        assert "channels in use" in shown.lines[0]
        assert any(line.startswith("TRUNK") for line in shown.lines)
        assert any(line.startswith("CAMPAIGN") for line in shown.lines)
        if columns == 120:
            assert any("ENDS ABOUT" in line for line in shown.lines)
        shown.type("xyz")
        assert not shown.echoes()
        shown.type("q")
        assert await shown.ends() == 0
        assert shown.echoes(), "the shell's terminal is as it was"
        assert LEAVES in shown.raw
        assert SHOWS_CURSOR in shown.raw


async def test_top_follows_the_size_of_its_window_and_ends_with_ctrl_c(terminal: Terminal) -> None:
    campaigns = [await made(terminal)]
    for number in range(2, 13):
        arguments = ("--name", f"List {number}", "--agent", "desk", "--contacts", str(terminal.home / "list.csv"))
        campaigns.append((await terminal.json("campaigns", "create", *arguments))["id"])
    for campaign in campaigns:
        await terminal.says("campaigns", "start", campaign)
    # A minute between looks: what changes before that is drawn for the window's sake.
    async with screen("top", "--interval", "60", environ=environ(terminal)) as shown:
        await shown.until(lambda lines: all(any(each in line for line in lines) for each in campaigns))
        shown.resize(60, 10)
        await shown.shows(" more")
        assert len([line for line in shown.lines if line.startswith(tuple(campaigns))]) < len(campaigns)
        assert "channels in use" in shown.lines[0]
        shown.resize(20, 3)
        await shown.until(lambda lines: "calls/s" in lines[0])
        shown.resize(120, 40)
        await shown.until(lambda lines: all(any(each in line for line in lines) for each in campaigns))
        shown.type("\x03")
        assert await shown.ends() == 130
        assert shown.echoes()
        assert LEAVES in shown.raw


async def test_top_says_that_the_daemon_is_gone_and_goes_on_when_it_is_back(terminal: Terminal) -> None:
    async with (
        Proxy("127.0.0.1", terminal.house.server.port) as proxy,
        screen(
            *("top", "--interval", "0.2"),
            environ=environ(terminal, "system", DIALER_URL=f"http://127.0.0.1:{proxy.port}"),
        ) as shown,
    ):
        await shown.shows("TENANT")
        proxy.cut()
        await shown.shows("NO CONNECTION")
        assert any(line.startswith("TENANT") for line in shown.lines), "what was last seen stays"
        assert "red" in shown.colours
        proxy.restore()
        await shown.until(lambda lines: not any("NO CONNECTION" in line for line in lines) and "channels" in lines[0])
        shown.type("q")
        assert await shown.ends() == 0


async def test_top_without_colours(terminal: Terminal) -> None:
    await terminal.says("trunks", "pause", "a", "--reason", "works on the line", key="system")
    for more, colours in ({"NO_COLOR": "1"}, set()), ({}, {"red"}):
        async with screen("top", "--interval", "60", environ=environ(terminal, "system", **more), columns=120) as shown:
            await shown.shows("works on the line")
            # What is not well stands first.
            heads = next(index for index, line in enumerate(shown.lines) if line.startswith("TRUNK"))
            assert shown.lines[heads + 1].startswith("a ")
            assert shown.colours == colours
            shown.type("q")
            assert await shown.ends() == 0


async def test_tail_goes_on_over_a_lost_connection_until_ctrl_c(terminal: Terminal) -> None:
    campaign = await made(terminal)
    async with (
        Proxy("127.0.0.1", terminal.house.server.port) as proxy,
        screen(
            *("tail", campaign, "--after", "0"),
            environ=environ(terminal, DIALER_URL=f"http://127.0.0.1:{proxy.port}"),
            columns=120,
        ) as shown,
    ):
        await terminal.says("campaigns", "start", campaign)
        await shown.shows("active")
        proxy.cut()
        await shown.shows("connection lost")
        await terminal.says("campaigns", "pause", campaign)
        proxy.restore()
        await shown.shows("paused")
        assert len([line for line in shown.lines if "  active" in line]) == 1, "nothing is told twice"
        shown.type("\x03")
        assert await shown.ends() == 130
        assert not any("Traceback" in line for line in shown.lines)
