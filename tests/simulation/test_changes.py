"""A running campaign obeys a change from its next call on, tells why it is silent, and foretells its end."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.explain import Explanation
from dialerd.core.model import Campaign, CampaignStatus, ContactStatus
from dialerd.core.settings import CampaignSettings
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.store import campaigns
from tests.simulation.house import House, Size, numbers
from tests.support.virtual import START, Virtual

TALK = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0}, post_dial_seconds=(0.1, 0.2), ring_seconds=(0.5, 1.0), talk_seconds=(8.0, 9.0)
)


async def patch(house: House, campaign_id: int, **settings: Any) -> Campaign:
    """Change some settings."""

    def revise(found: Campaign) -> Campaign:
        return replace(found, settings=CampaignSettings.model_validate({**found.settings.to_json(), **settings}))

    return await house.daemon.control.change(house.daemon.api.tenants["one"], campaign_id, revise)


async def explained(house: House, campaign_id: int) -> Explanation:
    """Why calls are, or are not, going out."""
    async with house.daemon.store.read() as conn:
        found = await campaigns.get(conn, "one", campaign_id)
        assert found is not None
        told, counts = await house.daemon.api.explanations.campaign(conn, found)
        stats = (await campaigns.stats(conn, [campaign_id]))[campaign_id]
    assert counts.due + counts.waiting == stats.contacts[ContactStatus.PENDING]
    assert counts.in_flight == stats.in_flight
    return told


async def foretold(house: House, campaign_id: int) -> datetime | None:
    """When a campaign says that it will be through."""
    async with house.daemon.store.read() as conn:
        found = await campaigns.get(conn, "one", campaign_id)
        stats = (await campaigns.stats(conn, [campaign_id]))[campaign_id]
        assert found is not None
        return await house.daemon.api.forecasts.completion(conn, found, stats)


def test_more_slots_are_used_at_once_and_fewer_bind_new_calls(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALK, Size(rate=50, channels=50))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(400), concurrent_calls=2)
            await clock.sleep(30)
            assert house.pbx.ledger.most_up == 2
            await patch(house, campaign.id, concurrent_calls=20, max_call_seconds=4)
            await clock.sleep(5)
            assert house.pbx.ledger.most_up == 20
            changed = clock.wall()
            await patch(house, campaign.id, concurrent_calls=1)
            await clock.sleep(60)
            later = [call for call in await house.calls(campaign.id) if call.originated_at > changed]
            assert later
            alive = [call for call in later if call.ended_at is None]
            assert len(alive) <= 1
            assert all((call.talk_seconds or 0) < 5 for call in later if call.ended_at is not None)
            await daemon.control.stop("one", campaign.id)

    virtual(main)


def test_an_end_that_is_moved_counts_where_it_is_now(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALK)
        async with house.running():
            campaign = await house.campaign(numbers(400), end_at=START + timedelta(hours=1))
            await patch(house, campaign.id, end_at=(START + timedelta(minutes=2)).isoformat())
            await clock.sleep(100)
            assert await foretold(house, campaign.id) is None, "it ends before it is through"
            await patch(house, campaign.id, end_at=(START + timedelta(minutes=5)).isoformat())
            await clock.sleep(100)
            assert (await explained(house, campaign.id)).dialing
            await house.ended(campaign.id)
            async with house.daemon.store.read() as conn:
                found = await campaigns.get(conn, "one", campaign.id)
            assert found is not None
            assert found.status is CampaignStatus.COMPLETED
            assert found.completed_at is not None
            assert abs((found.completed_at - START).total_seconds() - 300) < 1

    virtual(main)


def test_it_says_why_it_is_silent_and_when_it_goes_on(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALK)
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(60), concurrent_calls=2)
            await clock.sleep(20)
            told = await explained(house, campaign.id)
            assert told.dialing
            assert told.summary == "calls are going out, up to a limit: 2 of 2 calls of the campaign are in flight"

            await patch(house, campaign.id, calling_hours_start="09:00", calling_hours_end="12:00")
            await clock.sleep(20)
            told = await explained(house, campaign.id)
            opens = START.replace(hour=9) + timedelta(days=1)
            assert (told.dialing, told.next_moment) == (False, opens)
            assert "09:00–12:00 in UTC" in told.summary
            before = len(await house.calls(campaign.id))
            await clock.sleep((opens - clock.wall()).total_seconds() - 1)
            assert len(await house.calls(campaign.id)) == before
            await clock.sleep(2)
            assert len(await house.calls(campaign.id)) > before, "it went on when it had said"
            await daemon.control.pause("one", campaign.id)
            assert (await explained(house, campaign.id)).summary == "the campaign is paused"
            await daemon.control.stop("one", campaign.id)
            assert (await explained(house, campaign.id)).summary == "the campaign is cancelled"

    virtual(main)


@pytest.mark.slow
def test_it_foretells_its_end(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALK)
        async with house.running():
            campaign = await house.campaign(numbers(200), concurrent_calls=5)
            assert await foretold(house, campaign.id) is None, "nothing has ended yet"
            await clock.sleep(120)
            expected = await foretold(house, campaign.id)
            assert expected is not None
            await house.ended(campaign.id)
            assert abs((expected - clock.wall()).total_seconds()) < 30
            assert await foretold(house, campaign.id) is None

    virtual(main)
