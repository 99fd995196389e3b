"""Promised callbacks are kept: at their time, inside the window, ahead of all else, once."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import CampaignStatus, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.dispatch.requests import NewCallback
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.store import callbacks
from dialerd.store.callbacks import Callback, CallbackStatus
from tests.simulation import laws
from tests.simulation.house import House, numbers
from tests.support.effort import seeds
from tests.support.virtual import START, Virtual

QUICK = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0}, post_dial_seconds=(0.1, 0.5), ring_seconds=(0.5, 1.0), talk_seconds=(2.0, 4.0)
)
BUSY = SimulatedSettings(shares={Behaviour.BUSY: 1.0}, post_dial_seconds=(0.1, 0.5))


async def promise(house: House, campaign_id: int, number: str, due_at: datetime) -> Callback:
    """Promise a callback to a number."""
    tenant = house.daemon.api.tenants["one"]
    return await house.daemon.api.callbacks.promise(tenant, campaign_id, NewCallback(due_at, phone_number=number))


async def became_of(house: House, made: Callback) -> CallbackStatus:
    """What became of a promise."""
    async with house.daemon.store.read() as conn:
        found = await callbacks.get(conn, made.campaign_id, made.id)
    assert found is not None
    return found.status


async def completed_first(house: House, campaign_id: int) -> str:
    """Wait until a call was had; returns its number."""
    with house.daemon.feed.follow(campaign_id) as subscription:
        while True:
            for event in await subscription.next():
                if event.draft.status == ContactStatus.COMPLETED:
                    assert event.draft.phone_number is not None
                    return event.draft.phone_number


@pytest.mark.parametrize("calls", [1, 8])
def test_a_promise_goes_before_every_priority_and_all_that_is_at_hand(
    virtual: Virtual, tmp_path: Path, calls: int
) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running():
            listed = [{"phone": each, "priority": 100} for each in numbers(300)]
            campaign = await house.campaign(listed, concurrent_calls=calls)
            number = await completed_first(house, campaign.id)
            due_at = clock.wall() + timedelta(seconds=20)
            made = await promise(house, campaign.id, number, due_at)
            with house.daemon.feed.follow(campaign.id) as subscription:
                while await became_of(house, made) is CallbackStatus.PENDING:
                    await subscription.next()
            placed = await house.calls(campaign.id)
            assert len(placed) < 250, "there was much else to dial"
            kept = [call for call in placed if call.phone_number == number][-1]
            assert kept.attempt == 2
            # A slot frees within a call's length; nobody gets one between the promised moment and its call.
            assert due_at <= kept.originated_at <= due_at + timedelta(seconds=6)
            since = due_at + timedelta(seconds=0.1)
            between = [call for call in placed if since < call.originated_at < kept.originated_at]
            assert between == []

    virtual(main)


def test_a_promise_outside_the_calling_hours_is_kept_first_thing(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running():
            campaign = await house.campaign(
                [{"phone": each, "priority": 100} for each in numbers(50)],
                calling_hours_start="09:00",
                calling_hours_end="12:01",
            )
            number = await completed_first(house, campaign.id)
            made = await promise(house, campaign.id, number, START + timedelta(hours=9))
            opens = START.replace(hour=9) + timedelta(days=1)
            await clock.sleep((opens - clock.wall()).total_seconds() + 30)
            assert await became_of(house, made) is CallbackStatus.DIALLED
            today = [call for call in await house.calls(campaign.id) if call.originated_at > START + timedelta(hours=1)]
            assert today[0].phone_number == number
            assert opens <= today[0].originated_at <= opens + timedelta(seconds=2)
            assert len(today) > 1

    virtual(main)


@pytest.mark.slow
def test_a_campaign_stays_open_for_its_promise_and_retries_it_afresh(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, BUSY)
        async with house.running():
            first, second = numbers(2)
            retry = {"busy": {"delay_seconds": 600}}
            campaign = await house.campaign([first, second], max_retries=1, concurrent_calls=2, retry=retry)
            due_at = clock.wall() + timedelta(days=2)
            # The first has a promise while it waits for its retry: the later moment counts.
            await clock.sleep(60)
            made = await promise(house, campaign.id, first, due_at)
            await clock.sleep(3600)
            listed = {each.phone_number: each for each in await house.contacts(campaign.id)}
            assert (listed[first].status, listed[first].attempts) == (ContactStatus.PENDING, 1)
            assert listed[second].status is ContactStatus.FAILED
            again = await promise(house, campaign.id, second, due_at + timedelta(hours=1))
            await clock.sleep(86_400)
            assert house.daemon.dispatcher.is_active(campaign.id)
            await house.ended(campaign.id)
            placed = await house.calls(campaign.id)
            assert [call.attempt for call in placed if call.phone_number == first] == [1, 2]
            # Its budget was spent when the promise came, and is fresh since: a call and its retry.
            assert [call.attempt for call in placed if call.phone_number == second] == [1, 2, 3, 4]
            assert (await became_of(house, made), await became_of(house, again)) == (CallbackStatus.DIALLED,) * 2
            assert {call.outcome for call in placed} == {Outcome.BUSY}
            told = await house.events(campaign.id)
            assert told[-1].draft.status == CampaignStatus.COMPLETED
            laws.each_attempt_at_most_once(house.pbx, placed)
            laws.one_live_call_per_contact(house.pbx)
            laws.events_tell_the_way(told, await house.contacts(campaign.id))
            await house.check_counters(campaign.id)

    virtual(main)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(3))
def test_a_promise_in_the_midst_of_planning_is_neither_lost_nor_kept_too_early(
    virtual: Virtual, tmp_path: Path, seed: int
) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running():
            campaign = await house.campaign(numbers(60), concurrent_calls=10)
            made = []
            for each in numbers(60)[::3]:
                await clock.sleep(clock.chance() * 0.1)
                listed = {contact.phone_number: contact for contact in await house.contacts(campaign.id)}
                if listed[each].status is ContactStatus.PENDING:
                    made.append(await promise(house, campaign.id, each, clock.wall() + timedelta(hours=1)))
            assert len(made) >= 10
            await house.ended(campaign.id)
            placed = await house.calls(campaign.id)
            for promised in made:
                assert await became_of(house, promised) is CallbackStatus.DIALLED
                (call,) = [call for call in placed if call.contact_id == promised.contact_id]
                assert promised.due_at <= call.originated_at <= promised.due_at + timedelta(seconds=60)
            await house.check_counters(campaign.id)

    virtual(main, seed=seed)


def test_a_pause_in_the_moment_of_the_call_keeps_the_promise(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(3), keep_open=True, concurrent_calls=3, max_calls_per_second=0.5)
            await completed_first(house, campaign.id)
            await clock.sleep(60)
            due_at = clock.wall() + timedelta(seconds=10)
            made = [await promise(house, campaign.id, each, due_at) for each in numbers(3)]
            with daemon.feed.follow(campaign.id) as subscription:
                while not any(event.draft.status == ContactStatus.ORIGINATED for event in await subscription.next()):
                    pass
            await daemon.control.pause("one", campaign.id)
            await clock.sleep(60)
            waiting = [each for each in await house.contacts(campaign.id) if each.status is ContactStatus.PENDING]
            pending = [each for each in made if await became_of(house, each) is CallbackStatus.PENDING]
            assert {each.id for each in waiting} == {each.contact_id for each in pending}
            assert all(each.callback for each in waiting)
            assert waiting
            await daemon.control.resume("one", campaign.id)
            await clock.sleep(60)
            assert {await became_of(house, each) for each in made} == {CallbackStatus.DIALLED}
            assert {each.status for each in await house.contacts(campaign.id)} == {ContactStatus.COMPLETED}

    virtual(main)
