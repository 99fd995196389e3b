"""A number that is put on the do-not-call list while its contact is pending is never dialled, however near it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from dialerd.clock import VirtualClock
from dialerd.core.model import CampaignStatus, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.store import schema
from dialerd.store.tx import Tx
from tests.simulation import laws
from tests.simulation.house import House, numbers
from tests.support.effort import seeds
from tests.support.virtual import Virtual

BUSY = SimulatedSettings(shares={Behaviour.BUSY: 1.0}, post_dial_seconds=(0.1, 0.5))


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(4))
def test_whoever_was_pending_is_cancelled_and_never_dialled(virtual: Virtual, tmp_path: Path, seed: int) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, BUSY)
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(60), concurrent_calls=10, max_retries=2)
            tenant = daemon.api.tenants["one"]
            for each in numbers(60)[::2]:
                # At any moment of a plan: in the hopper, planned, committed, in flight, or waiting for its retry.
                await clock.sleep(clock.chance() * 0.1)
                before = {contact.phone_number: contact for contact in await house.contacts(campaign.id)}[each]
                report = await daemon.api.exclusions.add(tenant, each, None)
                assert report.added == 1
                after = {contact.phone_number: contact for contact in await house.contacts(campaign.id)}[each]
                dialled = sum(entry.number == each[1:] for entry in house.pbx.ledger.entries)
                if after.status is ContactStatus.CANCELLED:
                    assert after.attempts == before.attempts
                    assert dialled == after.attempts
            await house.ended(campaign.id)
            listed, placed = await house.contacts(campaign.id), await house.calls(campaign.id)
            excluded = set(numbers(60)[::2])
            assert {each.status for each in listed if each.phone_number not in excluded} == {ContactStatus.FAILED}
            assert {each.status for each in listed if each.phone_number in excluded} == {ContactStatus.CANCELLED}
            assert sum(each.attempts == 0 for each in listed) >= 5, "some were cancelled in the hopper"
            assert sum(each.attempts > 0 for each in listed if each.phone_number in excluded) >= 1
            laws.each_attempt_at_most_once(house.pbx, placed)
            await house.check_counters(campaign.id)
            assert (await house.events(campaign.id))[-1].draft.status == CampaignStatus.COMPLETED
            assert {call.outcome for call in placed} == {Outcome.BUSY}

    virtual(main, seed=seed)


def test_a_number_listed_while_its_contact_was_staged_is_caught_by_the_commit(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, BUSY)
        async with house.running() as daemon:
            mine, theirs = numbers(2)
            campaign = await house.campaign([mine, theirs], start=False, max_retries=0)

            async def list_only(tx: Tx) -> None:
                # Without the cancelling that add() does: a staged contact is not seen by it.
                await tx.conn.execute(
                    sa.insert(schema.do_not_call),
                    [
                        {"tenant": tenant, "phone_number": number, "note": None, "created_at": clock.wall()}
                        for tenant, number in (("one", mine), ("two", theirs))
                    ],
                )

            await daemon.store.write(list_only)
            await daemon.control.start("one", campaign.id)
            await house.ended(campaign.id)
            assert {each.phone_number: (each.status, each.attempts) for each in await house.contacts(campaign.id)} == {
                mine: (ContactStatus.CANCELLED, 0),
                theirs: (ContactStatus.FAILED, 1),
            }

    virtual(main)
