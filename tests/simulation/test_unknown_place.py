"""A PBX that finds out only after the answer that it does not know the agent's place, as FreeSWITCH does."""

from __future__ import annotations

from pathlib import Path

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import CampaignStatus, ContactStatus
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.driver import Ended
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.store.records import EventKind
from tests.simulation.house import House, numbers
from tests.support.virtual import Virtual

TALKATIVE = SimulatedSettings(shares={Behaviour.ANSWER: 1.0}, talk_seconds=(30.0, 30.0))


@pytest.mark.slow
def test_the_campaign_is_paused_and_the_contact_keeps_its_attempts(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, TALKATIVE)
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(5), concurrent_calls=1)

            async def until(kind: EventKind) -> None:
                with daemon.feed.follow(campaign.id) as subscription:
                    told = [event.draft.kind for event in await house.events(campaign.id)]
                    while kind not in told:
                        told = [event.draft.kind for event in await subscription.next()]

            await until(EventKind.CONNECTED)
            (call,) = await house.calls(campaign.id)
            dropped = Ended(
                call.id,
                Verdict(Outcome.ABANDONED, Fault.PBX),
                hangup_text="NO_ROUTE_DESTINATION",
                place_refused=True,
            )
            daemon.dispatcher.calls.hear("main", dropped)
            await clock.sleep(300)
            assert len(await house.calls(campaign.id)) == 1, "a campaign without a place went on dialling"
            # The pause does not wait for the step of the call that caused it: either may be committed first.
            told = [event.draft for event in await house.events(campaign.id)]
            paused = [draft for draft in told if draft.kind is EventKind.CAMPAIGN][-1]
            assert paused.status == CampaignStatus.PAUSED
            assert "NO_ROUTE_DESTINATION" in (paused.reason or "")
            (tried,) = [contact for contact in await house.contacts(campaign.id) if contact.mishaps]
            assert (tried.status, tried.callee_tries) == (ContactStatus.PENDING, 0)

    virtual(main)
