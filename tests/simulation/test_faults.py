"""Crashes, lost links and lying events on the simulated PBX: nothing is dialled twice, and every contact ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import CallStatus, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.core.throttle import Key, Level
from dialerd.dispatch.recovery import CLOSED_SECONDS, FULL_MOST
from dialerd.pbx.callees import Behaviour
from dialerd.pbx.driver import Ceilings
from dialerd.pbx.simulated import SimulatedSettings
from tests.simulation import laws
from tests.simulation.house import House, Size, numbers
from tests.support.effort import seeds
from tests.support.virtual import Virtual

QUICK = SimulatedSettings(
    shares={Behaviour.ANSWER: 0.7, Behaviour.BUSY: 0.2, Behaviour.NO_ANSWER: 0.1},
    post_dial_seconds=(0.1, 0.5),
    ring_seconds=(0.5, 2.0),
    talk_seconds=(2.0, 12.0),
)
SOON: dict[str, Any] = {
    "retry": {"busy": {"delay_seconds": 5}, "no_answer": {"delay_seconds": 5}, "interrupted": {"delay_seconds": 5}}
}


async def _laws(house: House, campaign_id: int) -> None:
    await laws.hold(house, campaign_id)
    placed, listed = await house.calls(campaign_id), await house.contacts(campaign_id)
    assert {contact.status for contact in listed} <= {ContactStatus.COMPLETED, ContactStatus.FAILED}
    assert {call.status for call in placed} <= {CallStatus.ENDED, CallStatus.NOT_SENT}
    assert house.pbx.ledger.most_up <= house.size.channels
    laws.never_faster(house.pbx.ledger.sends(), int(house.size.rate))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_daemon_killed_again_and_again_dials_nobody_twice(virtual: Virtual, tmp_path: Path, seed: int) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=20, channels=20))
        async with house.running():
            campaign = await house.campaign(numbers(80), concurrent_calls=40, max_retries=1, trunks=["a"], **SOON)
        for _ in range(8):
            await house.run_until_killed(clock.chance() * 6)
            await clock.sleep(clock.chance() * 5)
        async with house.running():
            await house.ended(campaign.id)
            await _laws(house, campaign.id)

    virtual(main, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(4))
def test_a_link_that_comes_and_goes(virtual: Virtual, tmp_path: Path, seed: int) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=20, channels=20))
        async with house.running():
            campaign = await house.campaign(numbers(80), concurrent_calls=40, max_retries=1, trunks=["a"], **SOON)
            for _ in range(6):
                await clock.sleep(clock.chance() * 5)
                house.pbx.cut_link()
                await clock.sleep(clock.chance() * 15)
                house.pbx.restore_link()
            await house.ended(campaign.id)
            await _laws(house, campaign.id)

    virtual(main, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(4))
def test_events_lost_late_and_twice_and_orders_in_doubt(virtual: Virtual, tmp_path: Path, seed: int) -> None:
    async def main(clock: VirtualClock) -> None:
        faulty = SimulatedSettings(
            **{
                **{name: getattr(QUICK, name) for name in ("shares", "post_dial_seconds", "ring_seconds")},
                "talk_seconds": (2.0, 12.0),
                "originate_in_doubt_share": 0.05,
                "lost_event_share": 0.05,
                "duplicate_event_share": 0.1,
                "late_event_share": 0.05,
                "late_event_seconds": (0.5, 5.0),
                "link_loss_per_minute": 1.0,
            }
        )
        house = House(clock, tmp_path, faulty, Size(rate=20, channels=20))
        async with house.running():
            campaign = await house.campaign(
                numbers(80), concurrent_calls=40, max_retries=1, trunks=["a"], max_call_seconds=60, **SOON
            )
            await house.ended(campaign.id)
            await _laws(house, campaign.id)

    virtual(main, seed=seed)


def test_a_pbx_that_takes_no_calls_is_left_alone_and_costs_no_contact_anything(
    virtual: Virtual, tmp_path: Path
) -> None:
    """As Asterisk does while it shuts down: the link is up, and every order refused."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=20, channels=20))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(60), concurrent_calls=40, max_retries=0, trunks=["a"], **SOON)
            await clock.sleep(1)
            house.pbx.close("it is shutting down")
            await clock.sleep(12)
            gate = daemon.dispatcher.pbx_gate("main")
            assert gate.detail == "pbx main takes no calls: it is shutting down"
            assert gate.until is not None
            house.pbx.close(None)
            reopened = clock.mono()
            await house.ended(campaign.id)
            await _laws(house, campaign.id)
            refused = [call for call in await house.calls(campaign.id) if call.hangup_text == "it is shutting down"]
            met = await house.contacts(campaign.id)
        assert {(call.status, call.outcome) for call in refused} == {(CallStatus.NOT_SENT, Outcome.CANCELLED)}
        # It was asked with a call or a few each five seconds, and not with everybody in turn.
        assert 3 <= len(refused) <= 12
        assert min(moment for moment in house.pbx.ledger.sends() if moment > reopened) - reopened < CLOSED_SECONDS + 0.5
        assert all(contact.mishaps == 0 for contact in met)

    virtual(main)


@pytest.mark.slow
def test_a_full_pbx_is_asked_less_and_less_until_it_has_room(virtual: Virtual, tmp_path: Path) -> None:
    """As FreeSWITCH at its max-sessions: it takes the order, and makes no channel. Others' calls fill it, too."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=20, channels=20))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(300), concurrent_calls=40, max_retries=1, trunks=["a"], **SOON)
            await clock.sleep(2)
            house.pbx.settings = replace(house.pbx.settings, max_channels=0)
            await clock.sleep(60)
            gate, health = daemon.dispatcher.pbx_gate("main"), daemon.control.health()
            assert gate.detail == "pbx main takes no calls: it had no room for a call (no channel is left)"
            assert health.problems == (gate.detail,)
            failed = [call for call in await house.calls(campaign.id) if call.hangup_text == "no channel is left"]
            house.pbx.settings = replace(house.pbx.settings, max_channels=20)
            await clock.sleep(FULL_MOST + 2)
            assert daemon.dispatcher.pbx_gate("main").open
            sent = len(house.pbx.ledger.sends())
            await clock.sleep(10)
            assert len(house.pbx.ledger.sends()) - sent > 10, "its 20 channels are used again"
        # 1, 2, 4, 8, 16 and 30 seconds apart: a minute of it at 20 calls a second would be 1200.
        assert {(call.status, call.outcome) for call in failed} == {(CallStatus.NOT_SENT, Outcome.CONGESTION)}
        assert 6 <= len(failed) <= 40

    virtual(main)


def test_a_pbx_that_says_that_it_is_closed_gets_no_call_until_it_says_otherwise(
    virtual: Virtual, tmp_path: Path
) -> None:
    """As FreeSWITCH tells when it is paused, or shuts down: calls in flight go on, and are hung up when it is time."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=20, channels=20))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(60), concurrent_calls=40, max_retries=1, trunks=["a"], **SOON)
            await clock.sleep(2)
            daemon.dispatcher.hear("main", Ceilings(20, None, "it is paused"))
            sent = len(house.pbx.ledger.sends())
            await clock.sleep(300)
            assert len(house.pbx.ledger.sends()) == sent
            assert daemon.dispatcher.pbx_gate("main").detail == "pbx main takes no calls: it is paused"
            assert len(daemon.dispatcher.calls) == 0, "calls that were in flight have ended"
            daemon.dispatcher.hear("main", Ceilings(3, None, None))
            before = len(house.pbx.ledger.sends())
            await house.ended(campaign.id)
            await _laws(house, campaign.id)
            assert len(house.pbx.ledger.sends()) > before
            assert daemon.dispatcher.snapshot().book.get(Key(Level.PBX_OWN, "main")).slots == 3, "it binds from here on"

    virtual(main)


@pytest.mark.slow
def test_a_pbx_that_dies_loses_its_calls_and_no_contact(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=20, channels=20))
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(60), concurrent_calls=40, max_retries=1, trunks=["a"], **SOON)
            await clock.sleep(4)
            house.pbx.kill()
            await clock.sleep(30)
            gate = daemon.dispatcher.pbx_gate("main")
            assert not gate.open
            assert "main" in gate.detail
            assert not daemon.control.health().ready
            house.pbx.boot()
            await house.ended(campaign.id)
            assert [call for call in await house.calls(campaign.id) if call.outcome is Outcome.INTERRUPTED]
            await _laws(house, campaign.id)

    virtual(main)


def test_a_stalled_link_is_given_up_and_built_anew(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=20, channels=20))
        async with house.running():
            campaign = await house.campaign(numbers(60), concurrent_calls=40, max_retries=1, trunks=["a"], **SOON)
            await clock.sleep(3)
            house.pbx.hold_link()
            await clock.sleep(60)
            house.pbx.resume_link()
            await house.ended(campaign.id)
            await _laws(house, campaign.id)

    virtual(main)


def test_a_restart_dials_again_within_three_seconds(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK, Size(rate=20, channels=200))
        async with house.running():
            campaign = await house.campaign(numbers(300), concurrent_calls=200, trunks=["a"])
        await house.run_until_killed(3)
        async with house.running():
            begun = clock.mono()
            await clock.sleep(3)
            assert [at for at in house.pbx.ledger.sends() if at > begun]
            await house.daemon.control.stop("one", campaign.id)

    virtual(main)


@pytest.mark.slow
def test_a_refused_login_is_told_and_nothing_is_dialled(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, QUICK)
        house.pbx.refuse_login("Authentication failed")
        async with house.running() as daemon:
            campaign = await house.campaign(numbers(5), start=False)
            await clock.sleep(1)
            _, warnings = await daemon.control.start("one", campaign.id)
            assert any("Authentication failed" in warning for warning in warnings)
            await clock.sleep(120)
            assert not house.pbx.ledger.entries
            house.pbx.refuse_login(None)
            await house.ended(campaign.id)

    virtual(main)


@pytest.mark.parametrize(
    "rate", [1.0, pytest.param(0.2, marks=pytest.mark.slow), pytest.param(4.0, marks=pytest.mark.slow)]
)
def test_the_rates_of_a_killed_process_bind_the_next(virtual: Virtual, tmp_path: Path, rate: float) -> None:
    """However soon it is back: the far end counts calls, and not processes."""

    async def main(clock: VirtualClock) -> None:
        house = House(clock, tmp_path, SimulatedSettings(), Size(rate=rate, channels=50))
        async with house.running():
            campaign = await house.campaign(numbers(40), concurrent_calls=50, trunks=["a"])
            await clock.sleep(7)
        for _ in range(8):
            await house.run_until_killed(0.9 / rate if rate < 1 else 0.4)
        async with house.running():
            await clock.sleep(10)
            sends = sorted(house.pbx.ledger.sends())
            whole = max(1, int(rate))
            assert len(sends) > whole
            for early, late in zip(sends, sends[whole:], strict=False):
                assert late - early >= whole / rate - laws.WIRE_SECONDS
            await house.daemon.control.stop("one", campaign.id)

    virtual(main)


def test_what_ended_while_nobody_listened_is_settled_as_it_was(virtual: Virtual, tmp_path: Path) -> None:
    """Killed while calls are up, and back when they are over: answered, with the right talk, and asked of the PBX."""

    async def main(clock: VirtualClock) -> None:
        settings = SimulatedSettings(
            shares={Behaviour.ANSWER: 1.0},
            post_dial_seconds=(0.1, 0.2),
            ring_seconds=(0.5, 6.0),
            talk_seconds=(8.0, 9.0),
        )
        house = House(clock, tmp_path, settings, Size(rate=20, channels=50))
        life = asyncio.create_task(house.run_until_killed(8))
        await clock.sleep(1)
        campaign = await house.campaign(numbers(60), concurrent_calls=50, trunks=["a"])
        await life
        left = {each.call_id for each in house.pbx.ledger.entries if each.ended is None}
        assert left
        await clock.sleep(60)
        async with house.running():
            await house.ended(campaign.id)
            await clock.sleep(1)
            found = {call.id: call for call in await house.calls(campaign.id)}
            for call_id in left:
                call = found[call_id]
                assert (call.status, call.outcome) == (CallStatus.ENDED, Outcome.ANSWERED)
                assert 8.0 <= (call.talk_seconds or 0) <= 9.0
                assert call.answered_at is not None
                assert call.ended_at is not None
                assert abs((call.ended_at - call.answered_at).total_seconds() - (call.talk_seconds or 0)) < 0.1
            assert {each.status for each in await house.contacts(campaign.id)} == {ContactStatus.COMPLETED}
            assert house.pbx.kept(found) == {}, "what was settled is discarded"
            await laws.hold(house, campaign.id)

    virtual(main)


@pytest.mark.slow
def test_a_pbx_that_keeps_nothing_leaves_the_daemon_without_a_guess(virtual: Virtual, tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        settings = SimulatedSettings(
            shares={Behaviour.ANSWER: 1.0},
            post_dial_seconds=(0.1, 0.2),
            ring_seconds=(0.5, 1.0),
            talk_seconds=(8.0, 9.0),
            keeps_results=False,
        )
        house = House(clock, tmp_path, settings, Size(rate=20, channels=50))
        life = asyncio.create_task(house.run_until_killed(8))
        await clock.sleep(1)
        campaign = await house.campaign(numbers(60), concurrent_calls=50, trunks=["a"])
        await life
        left = {each.call_id for each in house.pbx.ledger.entries if each.ended is None}
        await clock.sleep(60)
        back = clock.wall()
        async with house.running():
            await clock.sleep(10)
            found = {call.id: call for call in await house.calls(campaign.id)}
            assert {found[call_id].outcome for call_id in left} == {Outcome.INTERRUPTED}
            # Its own rule: half an hour after it was proven gone.
            waits = [
                each.next_attempt_at for each in await house.contacts(campaign.id) if each.next_attempt_at is not None
            ]
            assert len(waits) == len(left)
            assert all(1800 <= (due - back).total_seconds() <= 1810 for due in waits)
            await house.ended(campaign.id)
            await laws.hold(house, campaign.id)

    virtual(main)
