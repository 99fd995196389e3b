"""Trunks of a real Asterisk that fall ill and recover: noticed, spared, explained, and no contact pays for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import SystemClock
from tests.integration.client import Api
from tests.integration.daemon import Stock, TrunkLimits
from tests.integration.evidence import Numbers, check_told, match
from tests.integration.house import await_unreachable, house
from tests.lab.lab import Lab

RATE = 5.0
LIMITS = {name: TrunkLimits(max_channels=20, max_calls_per_second=RATE) for name in ("trunk", "trunk2")}
CONTACTS = 120
BACK_WITHIN = 10.0
"""Seconds from a trunk's return to the next call over it."""
NOTICED_WITHIN = 30.0
DEADLINE = 120.0

_clock = SystemClock()


async def _trunk(api: Api, name: str) -> Mapping[str, Any]:
    listed = await api.ask("GET", "/trunks", params={"limit": "100"})
    return next(each for each in listed["data"] if each["id"] == name)


async def _reason(api: Api, campaign_id: str, trunk: str) -> str:
    """What explain says of a trunk that takes no calls."""
    told = await api.ask("GET", f"/campaigns/{campaign_id}/explain")
    details = [rule["detail"] for rule in told["rules"] if not rule["holds"]]
    return " ".join(detail for detail in details if f"trunk {trunk}" in detail)


async def _dialled(lab: Lab, name: str, seconds: float) -> float:
    """Wait until the next call reaches a far end; returns the seconds that it took."""
    began = _clock.mono()
    before = len(lab.ledger(name).calls)
    await asyncio.to_thread(lab.ledger_when, lambda ledger: len(ledger.calls) > before, name, seconds=seconds)
    return _clock.mono() - began


async def _nobody_paid(lab: Lab, api: Api, campaign_id: str, numbers: list[str]) -> None:
    """Everybody was reached, each attempt is one call at the far ends, and none cost a contact anything."""
    listed, calls = await api.contacts(campaign_id), await api.calls(campaign_id)
    assert {each["status"] for each in listed} == {"completed"}
    assert {each["last_outcome"] for each in listed} == {"answered"}
    failed = [call for call in calls if call["outcome"] != "answered"]
    assert {call["fault"] for call in failed} <= {"trunk", "none"}
    match(calls, lab.ledger("trunk", "trunk2").of(number.removeprefix("+") for number in numbers))


@pytest.mark.parametrize(("everything", "words"), [("12", "SIP 503"), ("11", "SIP 404")], ids=["503", "404"])
async def test_a_trunk_that_refuses_everything_is_suspended_and_tried_again(
    lab: Lab, tmp_path: Path, stock: Stock, everything: str, words: str
) -> None:
    given = Numbers(231 if everything == "12" else 232)
    numbers = [given.next("01") for _ in range(CONTACTS)]
    async with house(lab, tmp_path, stock, limits=LIMITS) as home:
        await asyncio.to_thread(lab.turn_far_end, "trunk", everything)
        campaign_id = await home.api.campaign(
            await home.api.agent("hold"),
            [{"phone_number": number} for number in numbers],
            trunks=["trunk", "trunk2"],
            concurrent_calls=15,
            max_retries=0,
        )
        async with home.api.follow(campaign_id) as follower:
            await home.api.step(campaign_id, "start")
            await home.daemon.logged("trunk_suspended", trunk="trunk", seconds=NOTICED_WITHIN)
            told = await _trunk(home.api, "trunk")
            assert told["state"] == "down"
            reason = told["reason"]
            assert "is suspended" in reason
            assert "calls in a row" in reason
            assert lab.version == "16" or words in reason
            assert "is suspended" in await _reason(home.api, campaign_id, "trunk")
            await _dialled(lab, "trunk2", 10.0)
            await asyncio.to_thread(lab.turn_far_end, "trunk", None)
            assert await _dialled(lab, "trunk", BACK_WITHIN) < BACK_WITHIN
            await home.daemon.logged("trunk_carries_again", trunk="trunk", seconds=BACK_WITHIN)
            assert (await _trunk(home.api, "trunk"))["state"] == "up"
            await follower.finished(DEADLINE)
            check_told(follower.told, await home.api.contacts(campaign_id))
        await _nobody_paid(lab, home.api, campaign_id, numbers)


async def test_an_unplugged_trunk_gets_no_call_until_it_is_back(lab: Lab, tmp_path: Path, stock: Stock) -> None:
    given = Numbers(233)
    numbers = [given.next("00") for _ in range(CONTACTS)]
    async with house(lab, tmp_path, stock, limits=LIMITS) as home:
        campaign_id = await home.api.campaign(
            await home.api.agent("answered"),
            [{"phone_number": number} for number in numbers],
            trunks=["trunk", "trunk2"],
            # Calls that nobody answers keep their slots for SIP's 32 seconds; the second trunk needs some as well.
            concurrent_calls=60,
            max_retries=0,
        )
        async with home.api.follow(campaign_id) as follower:
            await home.api.step(campaign_id, "start")
            await _dialled(lab, "trunk", 10.0)
            await asyncio.to_thread(lab.stop_far_end, "trunk")
            await home.daemon.logged("trunk_down", trunk="trunk", seconds=NOTICED_WITHIN)
            told = await _trunk(home.api, "trunk")
            assert told["state"] == "down"
            assert "PJSIP/trunk is" in told["reason"]
            assert "trunk trunk is down" in await _reason(home.api, campaign_id, "trunk")
            await _dialled(lab, "trunk2", 10.0)
            await asyncio.to_thread(lab.start_far_end, "trunk")
            assert await _dialled(lab, "trunk", BACK_WITHIN) < BACK_WITHIN
            await follower.finished(DEADLINE)
            check_told(follower.told, await home.api.contacts(campaign_id))
        await _nobody_paid(lab, home.api, campaign_id, numbers)


@pytest.mark.parametrize("trunk", ["dead", "nocontact"])
async def test_a_trunk_that_was_never_there_is_not_dialled(lab: Lab, tmp_path: Path, stock: Stock, trunk: str) -> None:
    if trunk == "dead":
        await_unreachable(lab, trunk)
    given = Numbers(234)
    async with house(lab, tmp_path, stock) as home:
        campaign_id = await home.api.campaign(
            await home.api.agent("hold"), [{"phone_number": given.next("01")}], trunks=[trunk]
        )
        told = await home.api.step(campaign_id, "start")
        assert any(f"trunk {trunk} is down" in warning for warning in told["warnings"])
        assert (await _trunk(home.api, trunk))["state"] == "down"
        assert not await home.api.calls(campaign_id)


async def test_a_place_that_asterisk_does_not_know_pauses_the_campaign(lab: Lab, tmp_path: Path, stock: Stock) -> None:
    given = Numbers(235)
    numbers = [given.next("01") for _ in range(10)]
    async with house(lab, tmp_path, stock) as home:
        agent = await home.api.agent("s", context="nosuchcontext")
        rows = [{"phone_number": number} for number in numbers]
        campaign_id = await home.api.campaign(agent, rows, trunks=["trunk"], max_retries=0)
        async with home.api.follow(campaign_id) as follower:
            await home.api.step(campaign_id, "start")
            await home.daemon.logged("campaign_paused")
            await follower.settled(1, 10.0)
        told = await home.api.ask("GET", f"/campaigns/{campaign_id}/explain")
        assert "refuses the place of its agent" in told["summary"]
        assert {each["status"] for each in await home.api.contacts(campaign_id)} == {"pending"}
        assert {call["status"] for call in await home.api.calls(campaign_id)} == {"not_sent"}
        assert not lab.ledger("trunk").of(number.removeprefix("+") for number in numbers).calls
