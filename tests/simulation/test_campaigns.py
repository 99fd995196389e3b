"""Whole campaigns on the simulated PBX: every contact ends as its call deserves, and no limit is exceeded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from dialerd.clock import VirtualClock
from dialerd.core.model import CampaignStatus, ContactStatus
from dialerd.pbx.simulated import SimulatedSettings
from tests.simulation.house import House, numbers
from tests.support.virtual import Virtual


def test_a_campaign_completes(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, SimulatedSettings())
        async with house.running():
            campaign = await house.campaign(numbers(200), concurrent_calls=50, max_retries=1)
            await house.ended(campaign.id)
            contacts = await house.contacts(campaign.id)
            assert len(contacts) == 200
            assert {contact.status for contact in contacts} == {ContactStatus.COMPLETED, ContactStatus.FAILED}
            await house.check_counters(campaign.id)
            told = await house.events(campaign.id)
            assert told[-1].draft.status == CampaignStatus.COMPLETED
            print(Counter(contact.last_outcome for contact in contacts), clock.mono())

    virtual(main)
