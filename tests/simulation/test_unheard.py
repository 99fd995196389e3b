"""What happened to a call while nobody listened is told as it was, also where its end is heard again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import AgentKind, Call, Campaign
from dialerd.core.outcome import Outcome
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from tests.simulation import laws
from tests.simulation.house import House, numbers
from tests.support.virtual import Virtual

TALK = 60.0
ANSWERED = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0},
    post_dial_seconds=(0.1, 0.2),
    ring_seconds=(2.0, 2.0),
    talk_seconds=(TALK, TALK),
    hand_over_seconds=(6.0, 6.0),
    abandon_share=0.0,
)
"""Everybody answers after two seconds; who comes into a queue is taken by a member six seconds later."""
CALLS = 3

Start = Callable[[House], Awaitable[Campaign]]


async def cut(house: House, start: Start, since: float, until: float) -> list[Call]:
    """The link is cut between two moments after the start of a campaign; returns its calls."""
    async with house.running():
        campaign = await start(house)
        await house.clock.sleep(since)
        house.pbx.cut_link()
        await house.clock.sleep(until - since)
        house.pbx.restore_link()
        await house.ended(campaign.id)
        await laws.hold(house, campaign.id)
        return await house.calls(campaign.id)


async def killed(house: House, start: Start, since: float, until: float) -> list[Call]:
    """The daemon is killed at the one moment, and another starts at the other."""
    life = asyncio.ensure_future(house.run_until_killed(1.0 + since))
    await house.clock.sleep(1.0)
    campaign = await start(house)
    await life
    await house.clock.sleep(until - since)
    async with house.running():
        await house.ended(campaign.id)
        await laws.hold(house, campaign.id)
        return await house.calls(campaign.id)


@pytest.mark.parametrize("away", [cut, killed])
@pytest.mark.parametrize(("since", "until"), [(1.0, 5.0), (1.0, 30.0), (4.0, 12.0), (4.0, 90.0)])
def test_who_was_taken_by_a_member_meanwhile_was_answered(
    virtual: Virtual, tmp_path: Path, away: Callable[..., Awaitable[list[Call]]], since: float, until: float
) -> None:
    async def start(house: House) -> Campaign:
        agent = await house.agent(kind=AgentKind.QUEUE)
        return await house.campaign(numbers(CALLS), agent, concurrent_calls=CALLS)

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, ANSWERED)
        calls = await away(house, start, since, until)
        assert [call.outcome for call in calls] == [Outcome.ANSWERED] * CALLS

    virtual(main)


@pytest.mark.parametrize("away", [cut, killed])
def test_who_gave_up_waiting_meanwhile_was_abandoned(
    virtual: Virtual, tmp_path: Path, away: Callable[..., Awaitable[list[Call]]]
) -> None:
    async def start(house: House) -> Campaign:
        agent = await house.agent(kind=AgentKind.QUEUE)
        return await house.campaign(numbers(CALLS), agent, concurrent_calls=CALLS, max_retries=0)

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, replace(ANSWERED, abandon_share=1.0))
        calls = await away(house, start, 4.0, 6.0)
        assert {call.outcome for call in calls} == {Outcome.ABANDONED}

    virtual(main)


@pytest.mark.parametrize("away", [cut, killed])
@pytest.mark.parametrize("until", [40.0, 61.9, 90.0])
def test_the_talk_began_with_an_answer_that_nobody_heard(
    virtual: Virtual, tmp_path: Path, away: Callable[..., Awaitable[list[Call]]], until: float
) -> None:
    async def start(house: House) -> Campaign:
        return await house.campaign(numbers(CALLS), concurrent_calls=CALLS, answer_timeout=300)

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, ANSWERED)
        calls = await away(house, start, 1.0, until)
        assert [call.outcome for call in calls] == [Outcome.ANSWERED] * CALLS
        assert [call.talk_seconds for call in calls] == pytest.approx([TALK] * CALLS, abs=0.1)

    virtual(main)


def test_a_stop_that_hangs_up_reaches_calls_whose_link_is_cut(virtual: Virtual, tmp_path: Path) -> None:
    """Their ringing time is over before anybody can be told, and they answer meanwhile."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, replace(ANSWERED, ring_seconds=(25.0, 25.0), talk_seconds=(600.0, 600.0)))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(CALLS), concurrent_calls=CALLS, answer_timeout=20)
            await clock.sleep(5)
            house.pbx.cut_link()
            await daemon.control.stop("one", campaign.id, hangup=True)
            await clock.sleep(30)
            house.pbx.restore_link()
            await clock.sleep(10)
            assert house.pbx.ledger.up == 0
            await laws.hold(house, campaign.id)

    virtual(main)
