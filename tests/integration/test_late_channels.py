"""A channel that a real Asterisk makes when its call was given up long ago: it is hung up, and the books say so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dialerd.dispatch.late import NOTE
from tests.fakes.proxy import Proxy
from tests.integration.client import Json
from tests.integration.daemon import DIALS, Stock
from tests.integration.evidence import Numbers
from tests.integration.house import House, house
from tests.lab.lab import Lab

DEADLINE = 60.0
RINGS = "13"


async def given_up(home: House, proxy: Proxy, number: str) -> tuple[str, Json]:
    """Place a call whose order is lost on its way, and give it up; returns its campaign and itself."""
    api, daemon = home.api, home.daemon
    campaign_id = await api.campaign(await api.agent("hold"), [{"phone_number": number}], trunks=["trunk"])
    async with api.follow(campaign_id) as follower:
        proxy.hold()
        await api.step(campaign_id, "start")
        await follower.until(lambda: follower.count("originated") == 1, DEADLINE, "the call is committed")
        async with asyncio.timeout(DEADLINE):
            await proxy.holds(b"Originate")
        mark = len(daemon.log)
        proxy.cut()
        proxy.resume()
        await daemon.logged("pbx_down", after=mark)
        proxy.restore()
        await follower.until(lambda: follower.count("retry_scheduled") == 1, DEADLINE, "the call is given up")
    (call,) = await api.calls(campaign_id)
    assert call["outcome"] == "interrupted"
    return campaign_id, call


@pytest.mark.parametrize("daemon", ["that gave it up", "after that one"])
async def test_it_is_hung_up_and_noted(lab: Lab, tmp_path: Path, stock: Stock, daemon: str) -> None:
    number = Numbers(224 if daemon == "that gave it up" else 225).next(RINGS)
    dialled = number.removeprefix("+")
    async with (
        Proxy(lab.host, lab.ports.ami) as proxy,
        house(lab, tmp_path, stock, ami=(proxy.host, proxy.port)) as home,
    ):
        campaign_id, call = await given_up(home, proxy, number)
        if daemon == "after that one":
            await home.daemon.kill()
            await home.daemon.start()
        assert len(lab.ledger().of([dialled])) == 0
        mark = len(home.daemon.log)
        with lab.ami() as ami:
            ami.action(
                "Originate",
                {
                    "Channel": DIALS["trunk"].format(number=dialled),
                    "ChannelId": call["id"],
                    "Context": "dialer",
                    "Exten": "hold",
                    "Priority": "1",
                    "Async": "true",
                },
            )
        await home.daemon.logged("late_channel_hung_up", after=mark, call_id=call["id"])
        seen = lab.ledger_when(lambda ledger: any(each.ended_at for each in ledger.of([dialled])))
        assert [each.ended_by for each in seen.of([dialled])] == ["caller"]
        (told,) = await home.api.calls(campaign_id)
        async with asyncio.timeout(DEADLINE):
            while told["hangup_text"] != NOTE:  # it is asked to hang up first, and noted then
                (told,) = await home.api.calls(campaign_id)
        assert told == {**call, "hangup_text": NOTE, "hung_up_by": "dialer"}
