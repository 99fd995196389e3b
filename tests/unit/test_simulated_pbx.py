"""The simulated PBX beyond the drivers' contract: its seeded callees, its faults and its ledger."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from dialerd.clock import VirtualClock
from dialerd.core.model import HungUpBy
from dialerd.core.outcome import Outcome
from dialerd.pbx.callees import Behaviour, SimulatedSettings
from dialerd.pbx.driver import (
    Accepted,
    Answered,
    Dialling,
    Ended,
    HandedOver,
    InDoubt,
    LinkDown,
    LinkLost,
    LinkUp,
    Originate,
    PbxEvent,
    Place,
    Refused,
)
from dialerd.pbx.simulated import SimulatedDriver, SimulatedPbx
from tests.support.recorder import Recorder
from tests.support.virtual import Virtual, run_virtual

CALM = SimulatedSettings(seed=1, listing_lag_seconds=0.0)
LONG = 7_200.0


def order(call_id: str, dial: str = "PJSIP/12025550100@trunk", hands_over: bool = False) -> Originate:
    place = Place(context="dialer", exten="s")
    return Originate(call_id, dial, None, place, 30.0, 600, hands_over=hands_over)


def numbered(suffix: str) -> str:
    return f"PJSIP/120255501{suffix}@trunk"


async def up(clock: VirtualClock, settings: SimulatedSettings) -> tuple[SimulatedPbx, SimulatedDriver, Recorder]:
    pbx = SimulatedPbx(settings, clock)
    driver, recorder = SimulatedDriver("pbx", pbx, clock), Recorder()
    await driver.start(recorder)
    await recorder.link(LinkUp)
    return pbx, driver, recorder


async def up_again(clock: VirtualClock, pbx: SimulatedPbx) -> SimulatedDriver:
    driver, recorder = SimulatedDriver("again", pbx, clock), Recorder()
    await driver.start(recorder)
    await recorder.link(LinkUp)
    return driver


async def play(clock: VirtualClock, settings: SimulatedSettings, count: int, hands_over: bool = False) -> Recorder:
    """Place calls one after the other, each once the last one ended."""
    _, driver, recorder = await up(clock, settings)
    for number in range(count):
        assert await driver.originate(order(f"call-{number}", hands_over=hands_over)) == Accepted()
        await recorder.ended(f"call-{number}", LONG)
    await driver.stop()
    recorder.check_order()
    return recorder


def outcomes(recorder: Recorder) -> Counter[Outcome]:
    return Counter(event.verdict.outcome for event in recorder.events if isinstance(event, Ended))


def history(recorder: Recorder) -> list[tuple[float, PbxEvent]]:
    return list(zip(recorder.times, recorder.events, strict=True))


# The callees.


def test_the_same_seed_gives_the_same_events_at_the_same_moments() -> None:
    faulty = replace(CALM, late_event_share=0.1, duplicate_event_share=0.1, link_loss_per_minute=0.1)

    async def main(clock: VirtualClock) -> list[tuple[float, PbxEvent]]:
        _, driver, recorder = await up(clock, faulty)
        for number in range(100):
            await driver.originate(order(f"call-{number}"))
        await clock.sleep(900)
        return history(recorder)

    first = run_virtual(1, main)
    assert len(first) > 200
    assert first == run_virtual(2, main), "the clock's seed must not matter where the settings have one"


def test_another_seed_gives_other_events(virtual: Virtual) -> None:
    async def run(clock: VirtualClock, seed: int) -> list[tuple[float, PbxEvent]]:
        return history(await play(clock, replace(CALM, seed=seed), 20))

    assert virtual(lambda clock: run(clock, 1)) != virtual(lambda clock: run(clock, 2))


def test_without_a_seed_the_clock_gives_one() -> None:
    async def main(clock: VirtualClock) -> list[tuple[float, PbxEvent]]:
        return history(await play(clock, replace(CALM, seed=None), 20))

    assert run_virtual(1, main) == run_virtual(1, main)
    assert run_virtual(1, main) != run_virtual(2, main)


@pytest.mark.slow
def test_outcomes_come_in_the_given_shares(virtual: Virtual) -> None:
    shares = {Behaviour.ANSWER: 6.0, Behaviour.BUSY: 3.0, Behaviour.CONGESTION: 1.0}
    counted = virtual(lambda clock: play(clock, replace(CALM, shares=shares), 1000))
    counts = outcomes(counted)
    assert counts.keys() == {Outcome.ANSWERED, Outcome.BUSY, Outcome.CONGESTION}
    # Four standard deviations of a binomial share.
    assert counts[Outcome.ANSWERED] == pytest.approx(600, abs=62)
    assert counts[Outcome.BUSY] == pytest.approx(300, abs=58)


@pytest.mark.parametrize("behaviour", Behaviour)
def test_every_behaviour_comes_to_an_end(virtual: Virtual, behaviour: Behaviour) -> None:
    recorder = virtual(lambda clock: play(clock, replace(CALM, shares={behaviour: 1.0}), 3))
    assert sum(outcomes(recorder).values()) == 3


def test_a_silent_far_end_is_given_up_by_sip_itself(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        _, driver, recorder = await up(clock, replace(CALM, by_number=True))
        assert await driver.originate(replace(order("call", numbered("20")), setup_seconds=60.0)) == Accepted()
        await recorder.heard(Dialling, "call")
        began = clock.mono()
        ended = await recorder.ended("call", 60)
        assert clock.mono() - began == pytest.approx(32.0, abs=0.1)  # RFC 3261, timer B
        assert (ended.verdict.outcome, ended.hangup_cause, ended.sip_status) == (Outcome.UNREACHABLE, 18, 408)

    virtual(main)


def test_both_sides_end_conversations(virtual: Virtual) -> None:
    settings = replace(CALM, shares={Behaviour.ANSWER: 1.0}, callee_hangs_up_share=0.5)
    recorder = virtual(lambda clock: play(clock, settings, 100))
    sides = Counter(event.hung_up_by for event in recorder.events if isinstance(event, Ended))
    assert sides.keys() == {HungUpBy.CALLEE, HungUpBy.PBX}


def test_callers_in_a_queue_are_taken_or_leave(virtual: Virtual) -> None:
    settings = replace(CALM, shares={Behaviour.ANSWER: 1.0}, abandon_share=0.5)
    recorder = virtual(lambda clock: play(clock, settings, 100, hands_over=True))
    taken = {event.call_id for event in recorder.events if isinstance(event, HandedOver)}
    assert 30 <= len(taken) <= 70
    for event in recorder.events:
        if isinstance(event, Ended) and event.call_id not in taken:
            assert event.hung_up_by is HungUpBy.CALLEE


def test_no_hand_over_is_told_where_none_was_ordered(virtual: Virtual) -> None:
    recorder = virtual(lambda clock: play(clock, replace(CALM, shares={Behaviour.ANSWER: 1.0}), 20))
    assert not any(isinstance(event, HandedOver) for event in recorder.events)


# The faults.


def test_orders_in_doubt_sometimes_reached_the_far_end(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        pbx, driver, recorder = await up(clock, replace(CALM, by_number=True, originate_in_doubt_share=1.0))
        ids = [f"call-{number}" for number in range(60)]
        receipts = await asyncio.gather(*(driver.originate(order(call_id, numbered("00"))) for call_id in ids))
        assert all(isinstance(receipt, InDoubt) for receipt in receipts)
        reached = {call_id for call_id in ids if pbx.ledger.reached(call_id)}
        assert 15 <= len(reached) <= 45
        assert {channel.call_id for channel in await driver.live()} == reached
        assert {call_id for call_id in ids if Dialling(call_id) in recorder.events} == reached

    virtual(main)


def test_orders_cut_off_under_way_sometimes_reach_the_far_end(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        pbx, driver, recorder = await up(clock, replace(CALM, by_number=True))
        ids = [f"call-{number}" for number in range(60)]
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(driver.originate(order(call_id, numbered("00")))) for call_id in ids]
            clock.call_at(clock.mono(), pbx.cut_link)
        assert all(isinstance(task.result(), InDoubt) for task in asked)
        pbx.restore_link()
        await recorder.link(LinkUp, after=1)
        reached = {call_id for call_id in ids if pbx.ledger.reached(call_id)}
        assert 10 <= len(reached) <= 50
        assert {channel.call_id for channel in await driver.live()} == reached

    virtual(main)


def test_lost_events_are_never_told_and_the_call_goes_on(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        _, driver, recorder = await up(clock, replace(CALM, by_number=True, lost_event_share=1.0))
        assert await driver.originate(order("call", numbered("00"))) == Accepted()
        while not await driver.live():
            await clock.sleep(1)
        assert await driver.hangup("call")
        assert await driver.live() == ()
        assert recorder.of("call") == []

    virtual(main)


def test_repeated_and_late_events_do_not_break_the_contract(virtual: Virtual) -> None:
    settings = replace(CALM, duplicate_event_share=0.5, late_event_share=0.5)

    async def main(clock: VirtualClock) -> None:
        _, driver, recorder = await up(clock, settings)
        for number in range(200):
            assert await driver.originate(order(f"call-{number}")) == Accepted()
        for number in range(200):
            await recorder.ended(f"call-{number}", LONG)
        await driver.stop()
        recorder.check_order()

    virtual(main)


def test_a_late_event_that_a_lost_link_overtakes_is_not_told(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        pbx, driver, recorder = await up(clock, replace(CALM, by_number=True, late_event_share=1.0))
        assert await driver.originate(order("call", numbered("10"))) == Accepted()
        while pbx.ledger.up or not pbx.ledger.entries:
            await clock.sleep(0.01)
        pbx.cut_link()
        pbx.restore_link()
        await clock.sleep(60)
        assert recorder.of("call") == []

    virtual(main)


def test_links_are_lost_at_the_given_rate_and_come_back(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        _, _, recorder = await up(clock, replace(CALM, link_loss_per_minute=1.0, outage_seconds=(1.0, 1.0)))
        await clock.sleep(600 * 60.0)
        kinds = Counter(type(event) for event in recorder.events)
        assert 450 <= kinds[LinkUp] <= 650
        assert kinds[LinkDown] >= kinds[LinkUp] - 1

    virtual(main)


def test_a_link_cut_by_hand_stays_cut(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        pbx, _, recorder = await up(clock, replace(CALM, link_loss_per_minute=10.0))
        await recorder.link(LinkDown, 600)
        pbx.cut_link()
        mark = recorder.mark
        await clock.sleep(3600)
        assert LinkUp not in {type(event) for event in recorder.events[mark:]}
        pbx.restore_link()
        await recorder.link(LinkUp, after=mark)

    virtual(main)


def test_a_young_channel_is_not_listed_yet(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        _, driver, recorder = await up(clock, replace(CALM, by_number=True, listing_lag_seconds=2.0))
        assert await driver.originate(order("call", numbered("00"))) == Accepted()
        await recorder.heard(Answered, "call")
        assert await driver.live() == ()
        await clock.sleep(2.0)
        assert [channel.call_id for channel in await driver.live()] == ["call"]

    virtual(main)


def test_a_pbx_that_died_forgets_orders_under_way(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        pbx, driver, recorder = await up(clock, replace(CALM, by_number=True))
        async with asyncio.TaskGroup() as tasks:
            receipt = tasks.create_task(driver.originate(order("call", numbered("00"))))
            clock.call_at(clock.mono(), pbx.kill)
            clock.call_at(clock.mono(), pbx.boot)
        assert isinstance(receipt.result(), InDoubt)
        await recorder.link(LinkUp, after=1)
        assert await driver.live() == ()
        assert pbx.ledger.reached("call") == 0

    virtual(main)


def test_questions_to_a_pbx_that_does_not_answer_have_a_deadline(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        pbx, driver, _ = await up(clock, CALM)
        pbx.hold_link()
        asked = clock.mono()
        with pytest.raises(LinkLost):
            await driver.live()
        assert clock.mono() - asked == pytest.approx(CALM.deadline_seconds)

    virtual(main)


# The far end's books.


def test_the_ledger_counts_calls_moments_and_the_most_at_once(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        pbx, driver, recorder = await up(clock, replace(CALM, by_number=True))
        ledger = pbx.ledger
        for number, trunk in enumerate(("a", "a", "b")):
            assert await driver.originate(order(f"call-{number}", f"PJSIP/12025550100@{trunk}")) == Accepted()
            await recorder.heard(Answered, f"call-{number}")
        assert await driver.hangup("call-0")
        # A law broken on purpose, past the driver that would refuse it.
        assert isinstance(await driver.originate(order("call-0")), Refused)
        assert driver.sent_again == 1
        driver_of_another = await up_again(clock, pbx)
        assert await driver_of_another.originate(order("call-0", "PJSIP/12025550100@b")) == Accepted()
        while ledger.up < 3:
            await clock.sleep(0.01)
        assert [ledger.reached(f"call-{number}") for number in range(4)] == [2, 1, 1, 0]
        assert (ledger.up, ledger.most_up) == (3, 3)
        assert (ledger.most_up_on("PJSIP/{number}@a"), ledger.most_up_on("PJSIP/{number}@b")) == (2, 2)
        assert len(ledger.sends("PJSIP/{number}@a")) == 2
        assert ledger.sends() == sorted(ledger.sends())
        assert [entry.ended is None for entry in ledger.entries] == [False, True, True, True]
        pbx.kill()
        assert ledger.up == 0
        assert all(entry.ended is not None for entry in ledger.entries)

    virtual(main)


def test_the_ledger_is_bounded_and_counts_what_it_drops(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        pbx, driver, recorder = await up(clock, replace(CALM, by_number=True, ledger_size=2))
        for number in range(3):
            assert await driver.originate(order(f"call-{number}", numbered("10"))) == Accepted()
            await recorder.ended(f"call-{number}")
        assert [entry.call_id for entry in pbx.ledger.entries] == ["call-1", "call-2"]
        assert (pbx.ledger.dropped, pbx.ledger.reached("call-0"), pbx.ledger.reached("call-2")) == (1, 0, 1)

    virtual(main)


def test_above_its_channels_the_pbx_makes_none(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        pbx, driver, recorder = await up(clock, replace(CALM, by_number=True, max_channels=2))
        for number in range(3):
            assert await driver.originate(order(f"call-{number}", numbered("00"))) == Accepted()
        ended = await recorder.until(lambda event: isinstance(event, Ended))
        assert isinstance(ended, Ended)
        assert not ended.channel
        assert pbx.ledger.most_up == 2

    virtual(main)


def test_two_drivers_on_one_pbx_each_tell_the_calls_that_they_follow(virtual: Virtual) -> None:
    async def main(clock: VirtualClock) -> None:
        pbx, first, one = await up(clock, replace(CALM, by_number=True))
        assert await first.originate(order("call", numbered("05"))) == Accepted()
        await one.heard(Answered, "call")
        second, other = SimulatedDriver("second", pbx, clock), Recorder()
        await second.start(other)
        await other.link(LinkUp)
        assert [channel.call_id for channel in await second.live()] == ["call"]
        assert await one.ended("call") == await other.ended("call")
        assert len(other.of("call")) == 1

    virtual(main)
