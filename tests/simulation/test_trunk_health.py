"""Trunks that fall ill and recover: they are noticed and spared, and no contact pays for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import CallStatus, Campaign, CampaignStatus, ContactStatus
from dialerd.core.outcome import Fault, Outcome
from dialerd.dispatch.trunks import TrunkState
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.driver import Accepted, InDoubt, Originate, Refused
from dialerd.pbx.simulated import SimulatedSettings
from dialerd.service import Daemon
from dialerd.store import campaigns
from tests.simulation import laws
from tests.simulation.house import House, Size, numbers
from tests.support.effort import seeds
from tests.support.virtual import Virtual

A, B = "PJSIP/{number}@a", "PJSIP/{number}@b"
WELL = SimulatedSettings(
    shares={Behaviour.ANSWER: 1.0}, post_dial_seconds=(0.1, 0.3), ring_seconds=(0.5, 2.0), talk_seconds=(1.0, 5.0)
)
BACK_WITHIN = 10.0
"""Seconds from a trunk's return to the next call over it."""
SICK = (Behaviour.CONGESTION, Behaviour.UNKNOWN_NUMBER, Behaviour.FORBIDDEN)


async def _until(clock: VirtualClock, holds: Callable[[], bool], seconds: float) -> float:
    """Wait until something holds; returns the seconds that it took."""
    began = clock.mono()
    while not holds():
        assert clock.mono() - began < seconds, "it never came"
        await clock.sleep(0.05)
    return clock.mono() - began


def _state(daemon: Daemon, trunk: str) -> TrunkState:
    view = daemon.dispatcher.trunks.view(trunk)
    assert view is not None
    return view.state


def _suspended(daemon: Daemon, trunk: str) -> bool:
    view = daemon.dispatcher.trunks.view(trunk)
    assert view is not None
    return view.state is TrunkState.DOWN and "is suspended" in (view.reason or "")


async def _nobody_paid(house: House, campaign: Campaign) -> None:
    """Every contact was reached in the end, and none has spent any of its budgets."""
    listed = await house.contacts(campaign.id)
    assert {contact.status for contact in listed} == {ContactStatus.COMPLETED}
    assert all(contact.mishaps == contact.callee_tries == 0 for contact in listed)
    assert {contact.last_outcome for contact in listed} == {Outcome.ANSWERED}
    await laws.hold(house, campaign.id)


@pytest.mark.parametrize("behaviour", [SICK[0], *(pytest.param(each, marks=pytest.mark.slow) for each in SICK[1:])])
@pytest.mark.parametrize("seed", seeds(2))
def test_a_trunk_that_refuses_everything_is_suspended_and_the_other_carries_the_list(
    virtual: Virtual, tmp_path: Path, behaviour: Behaviour, seed: int
) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, WELL, Size(rate=5, channels=10))
        house.pbx.make_ill(A, behaviour)
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(150), concurrent_calls=30, trunks=["a", "b"])
            await _until(clock, lambda: _suspended(daemon, "a"), 60)
            over_a = len(house.pbx.ledger.sends(A))
            assert over_a <= 20 + 10, "no more than the streak and what was in flight with it"
            view = daemon.dispatcher.trunks.view("a")
            assert view is not None
            assert "calls in a row" in (view.reason or "")
            await clock.sleep(20)
            assert len(house.pbx.ledger.sends(A)) - over_a <= 3, "only a probe now and then"
            assert len(house.pbx.ledger.sends(B)) >= 40
            house.pbx.make_ill(A, None)
            returned = clock.mono()
            await _until(clock, lambda: _state(daemon, "a") is TrunkState.UP, BACK_WITHIN)
            await _until(clock, lambda: len([at for at in house.pbx.ledger.sends(A) if at > returned]) > 1, BACK_WITHIN)
            await house.ended(campaign.id)
            await _nobody_paid(house, campaign)
            told = daemon.metrics.render().decode()
            seen = "numbers" if behaviour is Behaviour.UNKNOWN_NUMBER else "faults"
            assert f'dialerd_trunk_suspensions_total{{seen="{seen}",trunk="a"}} 1.0' in told
            assert 'dialerd_trunk_state{state="up",trunk="a"} 1.0' in told
            assert 'dialerd_trunk_suspended{trunk="a"} 0.0' in told

    virtual(main, seed=seed)


@pytest.mark.slow
def test_a_wrong_prefix_marks_no_number_as_invalid(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, WELL, Size(rate=20, channels=20))
        house.pbx.make_ill(A, Behaviour.UNKNOWN_NUMBER)
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(200), concurrent_calls=30, trunks=["a"])
            await _until(clock, lambda: _suspended(daemon, "a"), 60)
            await clock.sleep(1)
            listed = await house.contacts(campaign.id)
            assert Counter(contact.status for contact in listed)[ContactStatus.FAILED] == 0
            blamed = [call for call in await house.calls(campaign.id) if call.outcome is Outcome.INVALID_NUMBER]
            assert {call.fault for call in blamed} == {Fault.TRUNK}
            await clock.sleep(300)
            house.pbx.make_ill(A, None)
            await house.ended(campaign.id)
            await _nobody_paid(house, campaign)
            assert len(house.pbx.ledger.sends(A)) < 200 + 20 + 20 + 300 / 8 + 5

    virtual(main)


@pytest.mark.slow
def test_numbers_that_are_truly_unknown_fail_as_ever(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        mixed = SimulatedSettings(
            shares={Behaviour.ANSWER: 0.6, Behaviour.UNKNOWN_NUMBER: 0.4}, talk_seconds=(1.0, 5.0)
        )
        house = House(clock, tmp_path, mixed, Size(rate=20, channels=20))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(200), concurrent_calls=30, trunks=["a"])
            await house.ended(campaign.id)
            placed, listed = await house.calls(campaign.id), await house.contacts(campaign.id)
            assert len(placed) == 200
            failed = [contact for contact in listed if contact.status is ContactStatus.FAILED]
            assert 40 < len(failed) < 120
            assert {contact.last_outcome for contact in failed} == {Outcome.INVALID_NUMBER}
            assert _state(daemon, "a") is TrunkState.UP
            await laws.hold(house, campaign.id)

    virtual(main)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(3))
def test_an_unplugged_trunk_gets_no_call_until_it_is_back(virtual: Virtual, tmp_path: Path, seed: int) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, WELL, Size(rate=10, channels=20))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(150), concurrent_calls=30, trunks=["a"])
            await clock.sleep(3)
            house.pbx.take_down(A, "no contact is reachable")
            assert _state(daemon, "a") is TrunkState.DOWN
            await clock.sleep(1)
            sent = len(house.pbx.ledger.sends(A))
            async with daemon.store.read() as conn:
                told, _ = await daemon.api.explanations.campaign(conn, campaign)
            assert not told.dialing
            assert "trunk a is down" in told.summary
            assert "no contact is reachable" in told.summary
            await clock.sleep(60)
            assert len(house.pbx.ledger.sends(A)) == sent
            house.pbx.bring_up(A)
            assert await _until(clock, lambda: len(house.pbx.ledger.sends(A)) > sent, BACK_WITHIN) < 1
            await house.ended(campaign.id)
            await _nobody_paid(house, campaign)

    virtual(main, seed=seed)


def test_what_a_pbx_said_of_its_trunks_is_asked_again_after_a_lost_link(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, WELL, Size(rate=10, channels=20))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(60), concurrent_calls=30, trunks=["a"])
            await clock.sleep(1)
            house.pbx.take_down(A)
            house.pbx.cut_link()
            await clock.sleep(5)
            house.pbx.restore_link()
            await clock.sleep(20)
            assert _state(daemon, "a") is TrunkState.DOWN
            house.pbx.cut_link()
            house.pbx.bring_up(A)
            house.pbx.restore_link()
            await house.ended(campaign.id)
            assert {each.status for each in await house.contacts(campaign.id)} == {ContactStatus.COMPLETED}

    virtual(main)


@pytest.mark.slow
def test_a_silent_trunk_is_suspended_though_each_call_takes_half_a_minute_to_fail(
    virtual: Virtual, tmp_path: Path
) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, WELL, Size(rate=10, channels=20))
        house.pbx.make_ill(A, Behaviour.SILENCE)
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(600), concurrent_calls=60, trunks=["a", "b"])
            await _until(clock, lambda: _suspended(daemon, "a"), 90)
            await clock.sleep(40)
            house.pbx.make_ill(A, None)
            await _until(clock, lambda: _state(daemon, "a") is TrunkState.UP, BACK_WITHIN + 1)
            await house.ended(campaign.id)
            await _nobody_paid(house, campaign)

    virtual(main)


@pytest.mark.slow
def test_congestion_now_and_then_slows_a_trunk_and_does_not_stop_it(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        busy = SimulatedSettings(
            shares={Behaviour.ANSWER: 0.7, Behaviour.CONGESTION: 0.3},
            post_dial_seconds=(0.05, 0.1),
            ring_seconds=(0.1, 0.2),
            talk_seconds=(0.5, 1.0),
        )
        house = House(clock, tmp_path, busy, Size(rate=20, channels=100))
        async with house.running() as daemon:
            campaign = await house.campaign(
                numbers(150), concurrent_calls=100, trunks=["a"], retry={"congestion": {"delay_seconds": 1}}
            )
            await clock.sleep(10)
            assert _state(daemon, "a") is TrunkState.UP
            lately = [at for at in house.pbx.ledger.sends(A) if at > clock.mono() - 5]
            assert 5 <= len(lately) < 50, "far below 20 calls a second, and above none"
            view = daemon.dispatcher.trunks.view("a")
            assert view is not None
            assert "slowed to" in (view.reason or "")
            await house.ended(campaign.id)
            await clock.sleep(30)
            view = daemon.dispatcher.trunks.view("a")
            assert view is not None
            assert view.reason is None
            await laws.hold(house, campaign.id)

    virtual(main)


def test_a_few_numbers_that_never_work_do_not_suspend_a_trunk(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, WELL, Size(rate=10, channels=20))
        house.pbx.make_ill(A, Behaviour.SERVER_ERROR)
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(2), trunks=["a"], retry={"congestion": {"delay_seconds": 1}})
            await house.ended(campaign.id)
            listed = await house.contacts(campaign.id)
            assert {(each.status, each.mishaps) for each in listed} == {(ContactStatus.FAILED, 20)}
            assert _state(daemon, "a") is TrunkState.UP

    virtual(main)


@pytest.mark.slow
def test_a_restart_loses_the_suspension_and_harms_nobody(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, WELL, Size(rate=20, channels=20))
        house.pbx.make_ill(A, Behaviour.UNKNOWN_NUMBER)
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(100), concurrent_calls=30, trunks=["a"])
            await _until(clock, lambda: _suspended(daemon, "a"), 60)
            await clock.sleep(1)
        async with house.running() as daemon:
            await _until(clock, lambda: _suspended(daemon, "a"), 60)
            await clock.sleep(1)
            house.pbx.make_ill(A, None)
            await house.ended(campaign.id)
            await _nobody_paid(house, campaign)

    virtual(main)


def test_a_place_that_the_pbx_does_not_know_pauses_the_campaign(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, replace(WELL, contexts=frozenset({"elsewhere"})), Size(rate=10, channels=20))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(30), concurrent_calls=10, trunks=["a"])
            await _until(clock, lambda: not daemon.dispatcher.is_active(campaign.id), 10)
            await clock.sleep(5)
            told = [event.draft for event in await house.events(campaign.id) if event.draft.contact_id is None]
            assert [draft.status for draft in told] == [CampaignStatus.ACTIVE, CampaignStatus.PAUSED]
            assert "no context c" in (told[-1].reason or "")
            async with daemon.store.read() as conn:
                paused = await campaigns.get(conn, "one", campaign.id)
                assert paused is not None
                explained, _ = await daemon.api.explanations.campaign(conn, paused)
            assert "no context c" in explained.summary
            listed = await house.contacts(campaign.id)
            assert {(each.status, each.callee_tries, each.mishaps) for each in listed} == {
                (ContactStatus.PENDING, 0, 0)
            }
            assert {call.status for call in await house.calls(campaign.id)} == {CallStatus.NOT_SENT}

    virtual(main)


def test_channels_kept_for_inbound_calls_stay_free_and_the_caller_id_is_spelled_as_the_trunk_wants_it(
    virtual: Virtual, tmp_path: Path
) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(
            clock,
            tmp_path,
            WELL,
            Size(rate=50, channels=10),
            trunk_a='reserved_channels = 4\ncaller_id_format = "national"',
        )
        async with house.running() as daemon:
            driver = daemon.drivers["main"]
            shown: set[str | None] = set()
            originate = driver.originate

            async def watched(order: Originate) -> Accepted | Refused | InDoubt:
                shown.add(order.caller_id)
                return await originate(order)

            driver.originate = watched  # type: ignore[method-assign]
            campaign = await house.campaign(numbers(40), concurrent_calls=30, trunks=["a"])
            await house.ended(campaign.id)
            assert house.pbx.ledger.most_up_on(A) == 6
            assert shown == {"2025550199"}
            assert {call.caller_id for call in await house.calls(campaign.id)} == {"+12025550199"}

    virtual(main)


def test_the_pbxs_own_ceiling_binds_beside_the_configured_one(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, replace(WELL, max_channels=5), Size(rate=50, channels=20))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(40), concurrent_calls=30, trunks=["a"])
            await clock.sleep(3)
            async with daemon.store.read() as conn:
                told, _ = await daemon.api.explanations.campaign(conn, campaign)
            assert "which its own configuration sets" in told.summary
            (rule,) = [each for each in told.rules if each.rule == "pbx_own_slots"][:1]
            assert rule.level == "pbx"
            await house.ended(campaign.id)
            assert house.pbx.ledger.most_up == 5
            assert {call.outcome for call in await house.calls(campaign.id)} == {Outcome.ANSWERED}

    virtual(main)
