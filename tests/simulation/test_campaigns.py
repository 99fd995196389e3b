"""Whole campaigns on the simulated PBX: every contact ends as its call deserves, and no limit is exceeded."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import AgentKind, CallStatus, CampaignStatus, ContactStatus
from dialerd.core.outcome import Fault, Outcome
from dialerd.dispatch.errors import Rejected
from dialerd.dispatch.requests import Upload
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.simulated import SimulatedSettings
from tests.simulation import laws
from tests.simulation.house import House, Size, numbers
from tests.support.virtual import Virtual

QUICK = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0}, post_dial_seconds=(0.1, 0.5), ring_seconds=(0.5, 2.0), talk_seconds=(2.0, 6.0)
)


@pytest.mark.slow
def test_a_campaign_completes_with_all_its_retries(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path)
        async with house.running():
            campaign = await house.campaign(numbers(60), concurrent_calls=50, max_retries=2)
            await house.ended(campaign.id)
            listed = await house.contacts(campaign.id)
            assert {contact.status for contact in listed} == {ContactStatus.COMPLETED, ContactStatus.FAILED}
            for contact in listed:
                assert contact.callee_tries <= 3
                assert contact.status is ContactStatus.COMPLETED or contact.last_outcome is not Outcome.ANSWERED
            assert any(contact.attempts == 3 for contact in listed)
            assert (await house.events(campaign.id))[-1].draft.status == CampaignStatus.COMPLETED
            await laws.hold(house, campaign.id)

    virtual(main)


BY_NUMBER = {
    "00": (Outcome.ANSWERED, Fault.NONE, ContactStatus.COMPLETED),
    "01": (Outcome.ANSWERED, Fault.NONE, ContactStatus.COMPLETED),
    "03": (Outcome.ANSWERED, Fault.NONE, ContactStatus.COMPLETED),
    "10": (Outcome.BUSY, Fault.CALLEE, ContactStatus.FAILED),
    "11": (Outcome.INVALID_NUMBER, Fault.NUMBER, ContactStatus.FAILED),
    "12": (Outcome.CONGESTION, Fault.TRUNK, ContactStatus.PENDING),
    "13": (Outcome.NO_ANSWER, Fault.CALLEE, ContactStatus.FAILED),
    "14": (Outcome.UNREACHABLE, Fault.TRUNK, ContactStatus.PENDING),
    "15": (Outcome.REJECTED, Fault.CALLEE, ContactStatus.FAILED),
    "16": (Outcome.NO_ANSWER, Fault.CALLEE, ContactStatus.FAILED),
    "17": (Outcome.INVALID_NUMBER, Fault.NUMBER, ContactStatus.FAILED),
    "19": (Outcome.CONGESTION, Fault.TRUNK, ContactStatus.PENDING),
    "20": (Outcome.UNREACHABLE, Fault.TRUNK, ContactStatus.PENDING),
    "21": (Outcome.REJECTED, Fault.TRUNK, ContactStatus.PENDING),
}


def test_each_contact_ends_as_its_call_deserves(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, SimulatedSettings(by_number=True))
        async with house.running():
            campaign = await house.campaign(
                [f"+12025551{index}{suffix}" for index in range(2) for suffix in BY_NUMBER],
                concurrent_calls=50,
                max_retries=0,
                max_call_seconds=120,
            )
            await clock.sleep(300)  # the conversation that nobody ends is ended by its limit
            for contact in await house.contacts(campaign.id):
                outcome, _, status = BY_NUMBER[contact.phone_number[-2:]]
                assert (contact.last_outcome, contact.status) == (outcome, status), contact
            for call in await house.calls(campaign.id):
                outcome, fault, _ = BY_NUMBER[call.phone_number[-2:]]
                assert (call.outcome, call.fault) == (outcome, fault), call
                if call.phone_number.endswith("13"):
                    assert call.ringing_at is not None
                    assert call.ended_at is not None
                    assert (call.ended_at - call.ringing_at).total_seconds() == pytest.approx(30, abs=0.5)
            await house.daemon.control.stop("one", campaign.id)
            await laws.hold(house, campaign.id)

    virtual(main)


def test_no_limit_is_exceeded_and_no_slot_lies_idle(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=10, channels=20))
        async with house.running():
            campaign = await house.campaign(numbers(300), concurrent_calls=100, trunks=["a"])
            await house.ended(campaign.id)
            ledger = house.pbx.ledger
            assert ledger.most_up == 20
            laws.never_faster(ledger.sends(), 10)
            # From the moment that all slots were full until the list ran dry, at least 97 % of them are in use.
            spans = sorted((entry.began, entry.ended or 0.0) for entry in ledger.entries)
            begun, dry = spans[19][0], spans[-1][0]
            used = sum(max(0.0, min(end, dry) - max(start, begun)) for start, end in spans)
            assert used / (20 * (dry - begun)) >= 0.97
            await laws.hold(house, campaign.id)

    virtual(main)


def test_a_campaigns_own_limits_bind(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=100, channels=200))
        async with house.running():
            campaign = await house.campaign(numbers(60), concurrent_calls=5, max_calls_per_second=2)
            await house.ended(campaign.id)
            assert house.pbx.ledger.most_up <= 5
            laws.never_faster(house.pbx.ledger.sends(), 2)

    virtual(main)


def test_a_second_trunk_takes_what_the_first_cannot(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=100, channels=10))
        async with house.running():
            campaign = await house.campaign(numbers(100), concurrent_calls=50)
            await house.ended(campaign.id)
            trunks = {entry.trunk for entry in house.pbx.ledger.entries}
            assert len(trunks) == 2
            assert all(house.pbx.ledger.most_up_on(trunk) == 10 for trunk in trunks)

    virtual(main)


@pytest.mark.slow
def test_tenants_and_campaigns_share_a_scarce_trunk(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=100, channels=12))
        async with house.running():
            first, second = await house.agent("one"), await house.agent("two")
            shared: dict[str, Any] = {"concurrent_calls": 100, "trunks": ["a"]}
            crowd = [
                await house.campaign(numbers(400, 1000 * index), first, weight=weight, **shared)
                for index, weight in enumerate((1, 1, 4))
            ]
            alone = await house.campaign(numbers(400, 9000), second, **shared)
            await clock.sleep(120)
            placed = [len(await house.calls(each.id)) for each in (*crowd, alone)]
            ours, theirs = sum(placed[:3]), placed[3]
            assert ours == pytest.approx(theirs, rel=0.1), placed  # half each, however many campaigns a tenant has
            assert placed[0] == pytest.approx(placed[1], rel=0.2), placed
            assert placed[2] == pytest.approx(4 * placed[0], rel=0.25), placed
            for each in (*crowd, alone):
                await house.daemon.control.stop(each.tenant, each.id)

    virtual(main)


def test_pause_lets_calls_finish_and_resume_goes_on(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(100), concurrent_calls=20)
            await clock.sleep(5)
            await daemon.control.pause("one", campaign.id)
            paused_at = clock.mono()
            await clock.sleep(60)
            assert not house.pbx.ledger.up
            assert max(house.pbx.ledger.sends()) <= paused_at + laws.WIRE_SECONDS
            ended = [call for call in await house.calls(campaign.id) if call.status is CallStatus.ENDED]
            assert {call.outcome for call in ended} == {Outcome.ANSWERED}
            await daemon.control.resume("one", campaign.id)
            await house.ended(campaign.id)
            await laws.hold(house, campaign.id)

    virtual(main)


@pytest.mark.parametrize("hangup", [False, True])
def test_stop_cancels_what_is_pending(virtual: Virtual, tmp_path: Path, hangup: bool) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, SimulatedSettings(shares={Behaviour.ANSWER: 1.0}, talk_seconds=(300, 300)))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(1500), concurrent_calls=20)
            await clock.sleep(30)
            await daemon.control.stop("one", campaign.id, hangup=hangup)
            listed = await house.contacts(campaign.id)
            assert not [contact for contact in listed if contact.status is ContactStatus.PENDING]
            await clock.sleep(10)
            assert (house.pbx.ledger.up == 0) is hangup
            await house.ended(campaign.id)
            with pytest.raises(Rejected, match="campaign_finished"):
                await daemon.control.start("one", campaign.id)
            await laws.hold(house, campaign.id)

    virtual(main)


def test_calls_go_out_in_their_hours_only(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running():
            # It is Monday noon in UTC: seven in New York, where the day begins at nine.
            campaign = await house.campaign(
                [*numbers(3), {"phone": "+12025557777", "timezone": "America/Los_Angeles"}],
                calling_hours_start="09:00",
                calling_hours_end="17:00",
                timezone="America/New_York",
                concurrent_calls=10,
            )
            await clock.sleep(3600)
            assert not house.pbx.ledger.entries
            await house.ended(campaign.id)
            first, *_, last = await house.calls(campaign.id)
            assert (first.originated_at.hour, first.originated_at.minute) == (14, 0)
            # Nine in Los Angeles is noon in New York: that contact waits for both.
            assert (last.phone_number, last.originated_at.hour) == ("+12025557777", 17)
            await laws.hold(house, campaign.id)

    virtual(main)


def test_a_contact_whose_hours_never_come_is_cancelled(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running():
            campaign = await house.campaign(
                [*numbers(1), {"phone": "+12025557777", "timezone": "Asia/Tokyo"}],
                calling_hours_start="09:00",
                calling_hours_end="17:00",
            )
            await house.ended(campaign.id)
            reached, never = await house.contacts(campaign.id)
            assert (reached.status, never.status) == (ContactStatus.COMPLETED, ContactStatus.CANCELLED)
            await laws.hold(house, campaign.id)

    virtual(main)


def test_end_at_completes_a_campaign(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running():
            campaign = await house.campaign(numbers(500), end_at=clock.wall() + timedelta(seconds=60))
            await house.ended(campaign.id)
            assert clock.wall() >= campaign.settings.end_at  # type: ignore[operator]
            listed = await house.contacts(campaign.id)
            assert {contact.status for contact in listed} == {ContactStatus.COMPLETED, ContactStatus.CANCELLED}
            await laws.hold(house, campaign.id)

    virtual(main)


def test_a_queue_takes_calls_or_lets_them_wait_in_vain(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        settings = SimulatedSettings(shares={Behaviour.ANSWER: 1.0}, abandon_share=0.3)
        house = House(clock, tmp_path, settings)
        async with house.running():
            agent = await house.agent(kind=AgentKind.QUEUE)
            campaign = await house.campaign(numbers(60), agent, concurrent_calls=20)
            await clock.sleep(1800)
            ended = [call for call in await house.calls(campaign.id) if call.ended_at is not None]
            taken = [call for call in ended if call.outcome is Outcome.ANSWERED]
            lost = [call for call in ended if call.outcome is Outcome.ABANDONED]
            assert taken
            assert lost
            assert all(call.handed_over_at is not None and call.answered_at < call.handed_over_at for call in taken)  # type: ignore[operator]
            assert all(call.handed_over_at is None and call.fault is Fault.DAEMON for call in lost)
            await house.daemon.control.stop("one", campaign.id)

    virtual(main)


def test_contacts_that_come_while_dialing_are_dialled(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(2), keep_open=True, concurrent_calls=10)
            await clock.sleep(60)
            assert len(house.pbx.ledger.entries) == 2
            tenant = daemon.api.tenants["one"]
            urgent = {"phone": "+12025559999", "priority": 50}
            await daemon.control.add_contacts(tenant, campaign.id, Upload("items", items=(urgent,)))
            asked = clock.mono()
            await clock.sleep(5)
            assert len(house.pbx.ledger.entries) == 3
            assert house.pbx.ledger.entries[-1].began - asked < 0.1
            await daemon.control.stop("one", campaign.id)

    virtual(main)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_log(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock, folder: Path) -> list[object]:
        house = House(clock, folder)
        async with house.running():
            campaign = await house.campaign(numbers(40), concurrent_calls=30, max_retries=1)
            await house.ended(campaign.id)
            return list(await house.events(campaign.id))

    for name in "abc":
        (tmp_path / name).mkdir()
    first = virtual(lambda clock: main(clock, tmp_path / "a"), seed=3)
    again = virtual(lambda clock: main(clock, tmp_path / "b"), seed=3)
    other = virtual(lambda clock: main(clock, tmp_path / "c"), seed=4)
    assert first == again
    assert first != other


@pytest.mark.slow
def test_a_drain_waits_for_the_calls_in_flight(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running():
            campaign = await house.campaign(numbers(100), concurrent_calls=20)
            await clock.sleep(4)
            assert house.pbx.ledger.up
        assert not house.pbx.ledger.up
        async with house.running():
            assert not [call for call in await house.calls(campaign.id) if call.outcome is Outcome.INTERRUPTED]
            await house.ended(campaign.id)
            await laws.hold(house, campaign.id)

    virtual(main)


def test_nothing_is_planned_while_asleep(virtual: Virtual, tmp_path: Path) -> None:
    """Event-driven: an active campaign whose window is closed costs a plan an hour at the most, not one a second."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        async with house.running() as daemon:
            await house.campaign(numbers(10), calling_hours_start="03:00", calling_hours_end="04:00")
            plans = 0
            original = daemon.dispatcher._plan

            def counted() -> None:
                nonlocal plans
                plans += 1
                original()

            daemon.dispatcher._plan = counted  # type: ignore[method-assign]
            await asyncio.sleep(0)  # noqa: TID251 - lets the loop take up the replaced method
            await clock.sleep(3600)
            assert plans <= 65

    virtual(main)
