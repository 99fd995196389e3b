"""Retries that fall due the moment their call ends: none is forgotten between the journal and the hopper."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import CallStatus, CampaignStatus
from dialerd.core.outcome import Outcome
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from tests.simulation.house import House, numbers
from tests.support.effort import seeds
from tests.support.virtual import Virtual

CONTACTS, RETRIES = 1, 30
_LONGEST = 600.0


@pytest.mark.parametrize("seed", seeds(3))
def test_whoever_is_to_be_retried_at_once_is(virtual: Virtual, tmp_path: Path, seed: int) -> None:
    async def main(clock: VirtualClock) -> None:
        settings = SimulatedSettings(shares={Behaviour.BUSY: 1.0}, post_dial_seconds=(0.0, 0.2))
        house = House(clock, tmp_path, settings)
        async with house.running():
            campaign = await house.campaign(
                numbers(CONTACTS), concurrent_calls=10, max_retries=RETRIES, retry={"busy": {"delay_seconds": 0}}
            )
            async with asyncio.timeout(_LONGEST):
                await house.ended(campaign.id)
            calls = [call for call in await house.calls(campaign.id) if call.status is not CallStatus.NOT_SENT]
            assert {call.outcome for call in calls} == {Outcome.BUSY}
            assert len(calls) == CONTACTS * (1 + RETRIES)
            assert (await house.events(campaign.id))[-1].draft.status == CampaignStatus.COMPLETED

    virtual(main, seed=seed)
