"""What happened to a call while nobody listened is told as it was, also where its end is heard again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import AgentKind, Call, Campaign, HungUpBy
from dialerd.core.outcome import Outcome
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.store import agents
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


def test_a_stop_that_hangs_up_outlives_the_process(virtual: Virtual, tmp_path: Path) -> None:
    """Nobody could be told before the daemon died, and the one after it finds the calls alive."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, replace(ANSWERED, talk_seconds=(600.0, 600.0)))
        life = asyncio.ensure_future(house.run_until_killed(8))
        await clock.sleep(1)
        stopped, other = [await house.campaign(numbers(CALLS, at), concurrent_calls=CALLS) for at in (0, 100)]
        await clock.sleep(5)
        house.pbx.cut_link()
        await house.daemon.control.stop("one", stopped.id, hangup=True)
        await life
        house.pbx.restore_link()
        async with house.running() as daemon:
            await clock.sleep(10)
            assert house.pbx.ledger.up == CALLS, "only those of the other campaign talk on"
            assert {call.hung_up_by for call in await house.calls(stopped.id)} == {HungUpBy.DIALER}
            await daemon.control.stop("one", other.id, hangup=True)

    virtual(main)


@pytest.mark.parametrize("queue", [False, True])
def test_a_call_goes_where_it_was_ordered_whatever_its_agent_is_by_now(
    virtual: Virtual, tmp_path: Path, queue: bool
) -> None:
    """Its agent becomes a queue while it rings, or is one no more, and another process hears its end."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, replace(ANSWERED, abandon_share=1.0))
        life = asyncio.ensure_future(house.run_until_killed(4))
        await clock.sleep(1)
        agent = await house.agent(kind=AgentKind.QUEUE if queue else AgentKind.DIALPLAN)
        campaign = await house.campaign(numbers(CALLS), agent, concurrent_calls=CALLS, max_retries=0)
        await clock.sleep(1)
        other = replace(agent, kind=AgentKind.QUEUE, queue="sales", context=None)
        if queue:
            other = replace(agent, kind=AgentKind.DIALPLAN, queue=None, context="c", exten="s")
        await house.daemon.store.write(lambda tx: agents.save(tx, other))
        house.daemon.control.agent_changed(other)
        await life
        async with house.running():
            await clock.sleep(100)
            first = [call for call in await house.calls(campaign.id) if call.attempt == 1]
            assert [call.outcome for call in first] == [Outcome.ABANDONED if queue else Outcome.ANSWERED] * CALLS

    virtual(main)
