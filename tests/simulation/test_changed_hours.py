"""Whoever a rule has put off is dialled as soon as the rule has changed, and not at the time that the old one named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import ContactStatus
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from tests.simulation.house import House
from tests.support.virtual import Virtual

NINE_IN_TOKYO = datetime(2026, 3, 3, 0, tzinfo=UTC)
QUICK = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0}, post_dial_seconds=(0.1, 0.2), ring_seconds=(0.5, 1.0), talk_seconds=(1, 2)
)
TOKYO = [f"+813123456{each:02d}" for each in range(30)]


@pytest.mark.parametrize("paused", [False, True])
def test_wider_hours_bring_forward_who_was_put_off(virtual: Virtual, tmp_path: Path, paused: bool) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            hours: dict[str, Any] = {
                "calling_hours_start": "09:00",
                "calling_hours_end": "17:00",
                "contact_timezone": "number",
            }
            campaign = await house.campaign(TOKYO, concurrent_calls=30, **hours)
            await clock.sleep(30)
            found = await house.contacts(campaign.id)
            assert {each.status for each in found} == {ContactStatus.PENDING}
            assert {each.next_attempt_at for each in found} == {NINE_IN_TOKYO}
            if paused:
                await daemon.control.pause("one", campaign.id)
            settings = campaign.settings.model_copy(update={"calling_hours_end": "22:00"})
            tenant = daemon.api.tenants["one"]
            await daemon.control.change(tenant, campaign.id, lambda each: replace(each, settings=settings))
            if paused:
                await clock.sleep(5)
                assert {each.next_attempt_at for each in await house.contacts(campaign.id)} == {None}
                await daemon.control.resume("one", campaign.id)
            await clock.sleep(30)
            assert {each.status for each in await house.contacts(campaign.id)} == {ContactStatus.COMPLETED}
            await house.check_counters(campaign.id)

    virtual(main)
