"""What every PBX driver promises: asked of the simulated PBX, and in the lab of the real ones."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from dialerd.core.model import HungUpBy
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx.driver import (
    Accepted,
    Answered,
    ChannelState,
    Dialling,
    Ended,
    HandedOver,
    InDoubt,
    LinkDown,
    LinkLost,
    LinkState,
    LinkUp,
    Refused,
    Ringing,
)
from tests.contract.pbx_harness import SETUP_SECONDS, SOON, Harness, Rig, Scenario

ANSWERED = Verdict(Outcome.ANSWERED, Fault.NONE)
BUSY = Verdict(Outcome.BUSY, Fault.CALLEE)
CANCELLED = Verdict(Outcome.CANCELLED, Fault.NONE)
CONGESTION = Verdict(Outcome.CONGESTION, Fault.TRUNK)
INVALID_NUMBER = Verdict(Outcome.INVALID_NUMBER, Fault.NUMBER)
NO_ANSWER = Verdict(Outcome.NO_ANSWER, Fault.CALLEE)
REJECTED = Verdict(Outcome.REJECTED, Fault.CALLEE)
REJECTED_BY_TRUNK = Verdict(Outcome.REJECTED, Fault.TRUNK)
UNREACHABLE = Verdict(Outcome.UNREACHABLE, Fault.TRUNK)


def contract(scenario: Scenario) -> Callable[[Harness], None]:
    """Make a test of a scenario: it runs once on every kind of PBX."""

    def test(harness: Harness) -> None:
        harness.run(scenario)

    functools.update_wrapper(test, scenario)
    del test.__wrapped__  # type: ignore[attr-defined]  # pytest would look through it for fixtures
    return test


@dataclass(frozen=True, slots=True)
class Refusal:
    """A final refusal by the far end, and what must be told of it."""

    suffix: str
    sip_status: int
    cause: int
    verdict: Verdict
    verdict_by_cause: Verdict | None = None
    """What a PBX tells that keeps the SIP status to itself, where that differs."""
    rings: bool = False


REFUSALS = [
    Refusal("10", 486, 17, BUSY),
    Refusal("11", 404, 1, INVALID_NUMBER),
    Refusal("12", 503, 34, CONGESTION),
    Refusal("15", 603, 21, REJECTED),
    Refusal("16", 480, 19, NO_ANSWER),
    Refusal("17", 484, 28, INVALID_NUMBER),
    Refusal("18", 480, 19, NO_ANSWER, rings=True),
    Refusal("19", 500, 38, CONGESTION),
    Refusal("21", 403, 21, REJECTED_BY_TRUNK, verdict_by_cause=REJECTED),
    Refusal("22", 600, 17, BUSY),
    Refusal("23", 410, 22, INVALID_NUMBER),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: f"{refusal.suffix}-{refusal.sip_status}")
def test_a_refusal_is_told_with_its_cause_and_whose_fault_it_was(harness: Harness, refusal: Refusal) -> None:
    async def scenario(rig: Rig) -> None:
        driver, recorder = await rig.up()
        call_id = await rig.place(driver, recorder, rig.order(refusal.suffix))
        ended = await recorder.ended(call_id, SOON)
        expected = refusal.verdict
        if not rig.traits.tells_sip_status:
            expected = refusal.verdict_by_cause or refusal.verdict
        assert ended.verdict == expected
        assert ended.hangup_cause == refusal.cause
        assert ended.sip_status == (refusal.sip_status if rig.traits.tells_sip_status else None)
        assert ended.hung_up_by == (HungUpBy.CALLEE if expected.fault is Fault.CALLEE else None)
        assert ended.channel
        assert (Ringing(call_id) in recorder.of(call_id)) == refusal.rings
        assert Answered(call_id) not in recorder.of(call_id)
        assert await rig.far_end_count(call_id) == 1

    harness.run(scenario)


@pytest.mark.parametrize(
    ("suffix", "verdict"),
    [("13", NO_ANSWER), ("14", UNREACHABLE), ("20", UNREACHABLE)],
    ids=["rings", "100", "silence"],
)
def test_the_pbx_gives_up_after_the_setup_time(harness: Harness, suffix: str, verdict: Verdict) -> None:
    async def scenario(rig: Rig) -> None:
        driver, recorder = await rig.up()
        began = rig.clock.mono()
        call_id = await rig.place(driver, recorder, rig.order(suffix))
        ended = await recorder.ended(call_id, SETUP_SECONDS + SOON)
        assert rig.clock.mono() - began >= SETUP_SECONDS - 0.5
        assert ended.verdict == verdict
        assert ended.sip_status is None
        assert ended.hung_up_by is HungUpBy.PBX
        assert ended.channel
        assert (Ringing(call_id) in recorder.of(call_id)) == (suffix == "13")

    harness.run(scenario)


@contract
async def test_an_answered_call_that_the_callee_ends(rig: Rig) -> None:
    driver, recorder = await rig.up()
    call_id = await rig.place(driver, recorder, rig.order("01"))
    ended = await recorder.ended(call_id, SOON)
    assert ended.verdict == ANSWERED
    assert ended.hung_up_by is HungUpBy.CALLEE
    assert ended.sip_status is None
    told = recorder.of(call_id)
    assert told[0] == Dialling(call_id)
    assert told[-2:] == [Answered(call_id), ended]
    assert await rig.far_end_count(call_id) == 1


@contract
async def test_ringing_is_told_before_the_answer(rig: Rig) -> None:
    driver, recorder = await rig.up()
    call_id = await rig.place(driver, recorder, rig.order("03"))
    ended = await recorder.ended(call_id, SOON)
    assert recorder.of(call_id) == [Dialling(call_id), Ringing(call_id), Answered(call_id), ended]


@contract
async def test_the_pbx_ends_a_call_that_lasts_too_long(rig: Rig) -> None:
    driver, recorder = await rig.up()
    call_id = await rig.place(driver, recorder, rig.order("00", max_call_seconds=2))
    await recorder.heard(Answered, call_id, SOON)
    answered = rig.clock.mono()
    ended = await recorder.ended(call_id, 2 + SETUP_SECONDS + SOON)
    assert rig.clock.mono() - answered >= 1.5
    assert ended.verdict == ANSWERED
    assert ended.hung_up_by is HungUpBy.PBX
    await rig.wait_far_end_over(call_id)


@pytest.mark.parametrize("trunk", ["dead", "nocontact"])
def test_a_trunk_that_is_down_makes_no_channel(harness: Harness, trunk: str) -> None:
    async def scenario(rig: Rig) -> None:
        driver, recorder = await rig.up()
        order = rig.order("00", trunk=trunk)
        assert await driver.originate(order) == Accepted()
        ended = await recorder.ended(order.call_id, SOON)
        assert not ended.channel
        assert ended.verdict == UNREACHABLE
        assert ended.hung_up_by is None
        assert recorder.of(order.call_id) == [ended]
        assert await rig.far_end_count(order.call_id) == 0

    harness.run(scenario)


@contract
async def test_an_id_that_lives_is_refused_and_its_call_is_unharmed(rig: Rig) -> None:
    driver, recorder = await rig.up()
    order = rig.order("00")
    call_id = await rig.place(driver, recorder, order)
    await recorder.heard(Answered, call_id, SOON)
    receipt = await driver.originate(order)
    assert isinstance(receipt, Refused)
    assert receipt.verdict.fault is Fault.DAEMON
    assert not receipt.place_refused
    await rig.wait_listed(driver, {call_id})
    assert await driver.hangup(call_id)
    assert (await recorder.ended(call_id, SOON)).verdict == ANSWERED
    assert await rig.far_end_count(call_id) == 1


@contract
async def test_an_unknown_place_is_refused(rig: Rig) -> None:
    driver, recorder = await rig.up()
    order = rig.order("00", place=rig.unknown_place)
    receipt = await driver.originate(order)
    assert isinstance(receipt, Refused)
    assert receipt.place_refused
    # A whole call after it: whatever the refused one might have told would have been told by now.
    await recorder.ended(await rig.place(driver, recorder, rig.order("10")), SOON)
    assert recorder.of(order.call_id) == []
    assert await rig.far_end_count(order.call_id) == 0
    # It became no call, so its id is free.
    await rig.place(driver, recorder, replace(order, place=rig.hold))


@contract
async def test_a_hangup_while_it_rings_cancels(rig: Rig) -> None:
    driver, recorder = await rig.up()
    call_id = await rig.place(driver, recorder, rig.order("13"))
    await recorder.heard(Ringing, call_id, SOON)
    assert await driver.hangup(call_id)
    ended = await recorder.ended(call_id, SOON)
    assert ended.verdict == CANCELLED
    assert ended.hung_up_by is HungUpBy.DIALER
    await rig.wait_far_end_over(call_id)


@contract
async def test_a_hangup_right_behind_the_receipt_cancels(rig: Rig) -> None:
    driver, recorder = await rig.up()
    order = rig.order("13")
    assert await driver.originate(order) == Accepted()
    assert await driver.hangup(order.call_id)
    ended = await recorder.ended(order.call_id, SETUP_SECONDS / 2)
    assert ended.verdict == CANCELLED
    assert ended.hung_up_by is HungUpBy.DIALER


@contract
async def test_a_hangup_after_the_answer_ends_an_answered_call(rig: Rig) -> None:
    driver, recorder = await rig.up()
    call_id = await rig.place(driver, recorder, rig.order("00"))
    await recorder.heard(Answered, call_id, SOON)
    assert await driver.hangup(call_id)
    ended = await recorder.ended(call_id, SOON)
    assert ended.verdict == ANSWERED
    assert ended.hangup_cause == 16
    assert ended.hung_up_by is HungUpBy.DIALER
    await rig.wait_far_end_over(call_id)


@contract
async def test_a_hangup_of_an_unknown_or_ended_call_is_answered_with_no(rig: Rig) -> None:
    driver, recorder = await rig.up()
    assert not await driver.hangup(rig.clock.uuid())
    call_id = await rig.place(driver, recorder, rig.order("10"))
    await recorder.ended(call_id, SOON)
    assert not await driver.hangup(call_id)


@contract
async def test_what_lives_is_listed_with_its_state(rig: Rig) -> None:
    driver, recorder = await rig.up()
    assert await driver.live() == ()
    ringing = await rig.place(driver, recorder, rig.order("13", setup_seconds=20.0))
    answered = await rig.place(driver, recorder, rig.order("00"))
    await recorder.heard(Ringing, ringing, SOON)
    await recorder.heard(Answered, answered, SOON)
    await rig.wait_listed(driver, {ringing, answered})
    channels = {channel.call_id: channel for channel in await driver.live()}
    assert channels[ringing].state is ChannelState.RINGING
    assert channels[answered].state is ChannelState.UP
    assert all(0 <= channel.seconds <= SOON for channel in channels.values())
    assert await driver.hangup(ringing)
    await recorder.ended(ringing, SOON)
    await rig.wait_listed(driver, {answered})


@contract
async def test_a_restarted_driver_finds_an_answered_call_and_tells_its_end(rig: Rig) -> None:
    first, before = await rig.up()
    order = rig.order("05")
    call_id = await rig.place(first, before, order)
    await before.heard(Answered, call_id, SOON)
    await first.stop()
    told = before.mark
    second, after = await rig.up()
    await rig.wait_listed(second, {call_id})
    again = await second.originate(order)
    assert isinstance(again, Refused)
    ended = await after.ended(call_id, SOON)
    assert ended.verdict == ANSWERED
    assert ended.hung_up_by is HungUpBy.CALLEE
    assert after.of(call_id) == [ended]
    assert before.mark == told
    assert await rig.far_end_count(call_id) == 1


@contract
async def test_a_restarted_driver_follows_a_ringing_call_to_its_answer(rig: Rig) -> None:
    first, before = await rig.up()
    call_id = await rig.place(first, before, rig.order("02"))
    await before.heard(Ringing, call_id, SOON)
    await first.stop()
    second, after = await rig.up()
    await rig.wait_listed(second, {call_id})
    await after.heard(Answered, call_id, SOON)
    assert await second.hangup(call_id)
    assert (await after.ended(call_id, SOON)).verdict == ANSWERED


@contract
async def test_nothing_is_told_after_stop(rig: Rig) -> None:
    driver, recorder = await rig.up()
    call_id = await rig.place(driver, recorder, rig.order("01"))
    await recorder.heard(Answered, call_id, SOON)
    await driver.stop()
    told = recorder.mark
    assert driver.state is LinkState.STOPPED
    assert driver.reason is not None
    assert isinstance(await driver.originate(rig.order("00")), Refused)
    with pytest.raises(LinkLost):
        await driver.live()
    with pytest.raises(LinkLost):
        await driver.hangup(call_id)
    await rig.wait_far_end_over(call_id)
    assert recorder.mark == told


@contract
async def test_an_order_under_way_at_stop_is_in_doubt(rig: Rig) -> None:
    driver, recorder = await rig.up()
    await rig.hold_link()
    order = rig.order("00")
    async with asyncio.timeout(SOON), asyncio.TaskGroup() as tasks:
        asked = rig.clock.mono()
        receipt = tasks.create_task(driver.originate(order))
        tasks.create_task(driver.stop())
    assert isinstance(receipt.result(), InDoubt)
    assert rig.clock.mono() - asked < rig.receipt_deadline, "stop() must not wait for the receipt"
    assert recorder.of(order.call_id) == []


@contract
async def test_a_driver_starts_without_waiting_for_the_link(rig: Rig) -> None:
    driver, recorder = await rig.start()
    assert (driver.state, driver.reason is None) == (LinkState.CONNECTING, False)
    assert recorder.mark == 0
    await recorder.link(LinkUp, SOON)
    assert (driver.state, driver.reason) == (LinkState.UP, None)
    with pytest.raises(RuntimeError):
        await driver.start(recorder)


@contract
async def test_a_pbx_that_cannot_be_reached_is_told_and_tried_again(rig: Rig) -> None:
    await rig.cut_link()
    driver, recorder = await rig.start()
    await recorder.link(LinkDown, SOON)
    assert driver.state is LinkState.CONNECTING
    assert isinstance(await driver.originate(rig.order("00")), Refused)
    await rig.restore_link()
    await recorder.link(LinkUp, SOON)


@contract
async def test_a_refused_login_is_told_as_such(rig: Rig) -> None:
    driver, recorder = await rig.start(admitted=False)
    down = await recorder.until(lambda event: isinstance(event, LinkDown), SOON)
    assert isinstance(down, LinkDown)
    assert down.refused
    assert driver.state is LinkState.REFUSED
    assert driver.reason == down.reason
    assert isinstance(await driver.originate(rig.order("00")), Refused)


@pytest.mark.parametrize("inside_message", [False, True], ids=["between", "inside"])
def test_a_lost_link_comes_back_and_what_lived_on_is_followed(harness: Harness, inside_message: bool) -> None:
    async def scenario(rig: Rig) -> None:
        driver, recorder = await rig.up()
        holds = await rig.place(driver, recorder, rig.order("00"))
        leaves = await rig.place(driver, recorder, rig.order("06"))
        await recorder.heard(Answered, holds, SOON)
        await recorder.heard(Answered, leaves, SOON)
        mark = recorder.mark
        await (rig.cut_link_inside_message() if inside_message else rig.cut_link())
        await recorder.link(LinkDown, SOON, after=mark)
        assert driver.state is not LinkState.UP
        unsent = rig.order("00")
        receipt = await driver.originate(unsent)
        assert isinstance(receipt, Refused)
        assert receipt.verdict.fault is Fault.PBX
        with pytest.raises(LinkLost):
            await driver.live()
        with pytest.raises(LinkLost):
            await driver.hangup(holds)
        await rig.wait_far_end_over(leaves)
        await rig.restore_link()
        await recorder.link(LinkUp, SOON, after=mark)
        await rig.wait_listed(driver, {holds})
        assert await rig.far_end_count(unsent.call_id) == 0
        assert not any(isinstance(event, Ended) for event in recorder.of(leaves))
        assert await driver.hangup(holds)
        assert (await recorder.ended(holds, SOON)).verdict == ANSWERED

    harness.run(scenario)


@contract
async def test_an_order_under_way_when_the_link_goes_is_in_doubt_and_not_sent_again(rig: Rig) -> None:
    driver, recorder = await rig.up()
    mark = recorder.mark
    await rig.hold_link()
    order = rig.order("00")
    async with asyncio.TaskGroup() as tasks:
        receipt = tasks.create_task(driver.originate(order))
        tasks.create_task(rig.cut_link())
    assert isinstance(receipt.result(), InDoubt)
    await recorder.link(LinkDown, SOON, after=mark)
    await rig.resume_link()
    await rig.restore_link()
    await recorder.link(LinkUp, SOON, after=mark)
    # A whole call after it: an order sent again would have reached the far end before this one.
    await recorder.ended(await rig.place(driver, recorder, rig.order("10")), SOON)
    assert await rig.far_end_count(order.call_id) <= 1


@contract
async def test_an_order_without_a_receipt_in_time_is_in_doubt(rig: Rig) -> None:
    driver, _ = await rig.up()
    await rig.hold_link()
    assert isinstance(await driver.originate(rig.order("00")), InDoubt)


@contract
async def test_a_silent_link_is_noticed(rig: Rig) -> None:
    _, recorder = await rig.up()
    mark = recorder.mark
    await rig.hold_link()
    await recorder.link(LinkDown, 30.0, after=mark)
    await rig.resume_link()
    await recorder.link(LinkUp, SOON, after=mark)


@contract
async def test_what_was_held_back_is_told_when_it_comes(rig: Rig) -> None:
    driver, recorder = await rig.up()
    call_id = await rig.place(driver, recorder, rig.order("01"))
    await recorder.heard(Answered, call_id, SOON)
    await rig.hold_link()
    await rig.wait_far_end_over(call_id)
    assert not any(isinstance(event, Ended) for event in recorder.of(call_id))
    await rig.resume_link()
    assert (await recorder.ended(call_id, SOON)).verdict == ANSWERED


@contract
async def test_a_pbx_that_dies_takes_its_calls_along_without_a_word(rig: Rig) -> None:
    driver, recorder = await rig.up()
    call_id = await rig.place(driver, recorder, rig.order("00"))
    await recorder.heard(Answered, call_id, SOON)
    mark = recorder.mark
    await rig.kill_pbx()
    await recorder.link(LinkDown, SOON, after=mark)
    await rig.boot_pbx()
    await recorder.link(LinkUp, SOON, after=mark)
    assert await driver.live() == ()
    assert not any(isinstance(event, Ended) for event in recorder.of(call_id))
    driver.forget(call_id)
    later = await rig.place(driver, recorder, rig.order("10"))
    assert (await recorder.ended(later, SOON)).verdict == BUSY


@contract
async def test_a_forgotten_call_is_not_told_any_more(rig: Rig) -> None:
    driver, recorder = await rig.up()
    call_id = await rig.place(driver, recorder, rig.order("01"))
    await recorder.heard(Answered, call_id, SOON)
    driver.forget(call_id)
    told = recorder.of(call_id)
    await rig.wait_far_end_over(call_id)
    await recorder.ended(await rig.place(driver, recorder, rig.order("10")), SOON)
    assert recorder.of(call_id) == told
    driver.forget(call_id)


@contract
async def test_a_queue_hands_the_call_over(rig: Rig) -> None:
    driver, recorder = await rig.up()
    order = rig.order("00", place=rig.queue, hands_over=True)
    call_id = await rig.place(driver, recorder, order)
    await recorder.heard(HandedOver, call_id, SOON)
    assert await driver.hangup(call_id)
    ended = await recorder.ended(call_id, SOON)
    assert ended.verdict == ANSWERED
    assert recorder.of(call_id)[-3:] == [Answered(call_id), HandedOver(call_id), ended]


@contract
async def test_many_calls_at_once_each_end_as_they_should(rig: Rig) -> None:
    driver, recorder = await rig.up()
    expected = {"01": ANSWERED, "03": ANSWERED, "10": BUSY, "11": INVALID_NUMBER, "12": CONGESTION, "13": NO_ANSWER}
    orders = [(rig.order(suffix), verdict) for suffix, verdict in expected.items() for _ in range(5)]
    receipts = await asyncio.gather(*(driver.originate(order) for order, _ in orders))
    assert receipts == [Accepted()] * len(orders)
    for order, verdict in orders:
        assert (await recorder.ended(order.call_id, SETUP_SECONDS + SOON)).verdict == verdict
    for order, _ in orders:
        assert await rig.far_end_count(order.call_id) == 1
