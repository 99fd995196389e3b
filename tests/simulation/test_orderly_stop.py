"""An orderly stop: from its first moment on nothing is sent, and it ends when it must, whatever still talks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dialerd.clock import VirtualClock
from dialerd.core.model import CallStatus, ContactStatus
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from tests.simulation import laws
from tests.simulation.house import House, Size, numbers
from tests.support.virtual import Virtual

TALKS = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0}, post_dial_seconds=(0.1, 0.3), ring_seconds=(0.2, 0.5), talk_seconds=(20.0, 30.0)
)
TRIP_SECONDS = 2 * TALKS.trip_seconds[1]
"""An order that was sent is at the far end within this."""
LEFT = 4


def test_nothing_is_sent_once_a_stop_has_begun(virtual: Virtual, tmp_path: Path) -> None:
    """Calls go on for half a minute, their slots become free, and hundreds still wait."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALKS, Size(rate=5, channels=20))
        async with house.running():
            campaign = await house.campaign(numbers(300), concurrent_calls=20)
            await clock.sleep(8)
            stopped, live = clock.mono(), house.pbx.ledger.up
        assert clock.mono() - stopped > 10
        assert live == 20
        assert max(house.pbx.ledger.sends()) <= stopped + TRIP_SECONDS
        assert house.pbx.ledger.up == 0
        async with house.running() as daemon:
            await daemon.control.pause("one", campaign.id)
            await laws.hold(house, campaign.id)
            assert {call.status for call in await house.calls(campaign.id)} <= {CallStatus.ENDED, CallStatus.NOT_SENT}
            waits = [each for each in await house.contacts(campaign.id) if each.status is ContactStatus.PENDING]
            assert len(waits) == 300 - len(house.pbx.ledger.entries)

    virtual(main)


@pytest.mark.parametrize(("talk", "drains"), [(600.0, 3.0), (2.0, 0.0)])
def test_calls_that_go_on_when_the_drain_is_over_are_left_to_the_pbx(
    virtual: Virtual, tmp_path: Path, talk: float, drains: float
) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, replace(TALKS, talk_seconds=(talk, talk)))
        house.toml = house.toml.replace("drain_seconds = 600", f"drain_seconds = {drains}")
        with capture_logs() as logs:
            async with house.running():
                campaign = await house.campaign(numbers(LEFT), concurrent_calls=LEFT)
                await clock.sleep(2)
                assert house.pbx.ledger.up == LEFT
                stopped = clock.mono()
            assert clock.mono() - stopped == pytest.approx(drains, abs=0.1)
        assert [each["calls"] for each in logs if each["event"] == "calls_left_to_the_pbx"] == [LEFT]
        assert house.pbx.ledger.up == LEFT
        async with house.running():
            await house.ended(campaign.id)
            await laws.hold(house, campaign.id)
            told = [call.talk_seconds for call in await house.calls(campaign.id)]
            assert told == pytest.approx([talk] * LEFT, abs=0.1)

    virtual(main)


def test_a_stop_in_a_hurry_waits_for_no_call(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, replace(TALKS, talk_seconds=(100.0, 100.0)))
        hurry = asyncio.Event()
        async with house.running(hurry=hurry):
            campaign = await house.campaign(numbers(LEFT), concurrent_calls=LEFT)
            await clock.sleep(2)
            clock.call_at(clock.mono() + 5, hurry.set)
            stopped = clock.mono()
        assert clock.mono() - stopped == pytest.approx(5, abs=0.1)
        assert house.pbx.ledger.up == LEFT
        async with house.running():
            await house.ended(campaign.id)
            await laws.hold(house, campaign.id)

    virtual(main)
