"""What every PBX driver promises of its link: restarts, cuts, silence, a PBX that dies, and what lives on meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from dialerd.core.model import HungUpBy
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx.driver import (
    Accepted,
    Answered,
    ChannelState,
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
from tests.contract.pbx_harness import SOON, Harness, Rig, contract

ANSWERED = Verdict(Outcome.ANSWERED, Fault.NONE)
BUSY = Verdict(Outcome.BUSY, Fault.CALLEE)


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
async def test_a_restarted_driver_finds_a_call_answered_that_was_a_moment_ago(rig: Rig) -> None:
    """Whoever takes it for ringing hangs it up when it should have been answered by then."""
    first, before = await rig.up()
    call_id = await rig.place(first, before, rig.order("04"))
    await before.heard(Answered, call_id, SOON)
    await first.stop()
    second, after = await rig.up()
    await rig.wait_listed(second, {call_id})
    assert [channel.state for channel in await second.live()] == [ChannelState.UP]
    assert await second.hangup(call_id)
    ended = await after.ended(call_id, SOON)
    assert ended.verdict == ANSWERED
    assert after.of(call_id) == [ended]


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
async def test_what_became_of_answered_calls_is_kept_until_it_is_discarded(rig: Rig) -> None:
    first, before = await rig.up()
    orders = [rig.order("05"), rig.order("10"), rig.order("00", place=rig.queue, hands_over=True)]
    talks, busy, queued = [order.call_id for order in orders]
    for order in orders:
        assert await first.originate(order) == Accepted()
    await before.heard(Answered, talks, SOON)
    await before.heard(HandedOver, queued, SOON)
    answered = rig.clock.wall()
    assert await first.hangup(queued)
    await first.stop()
    await rig.wait_far_end_over(talks)
    ended = rig.clock.wall()
    second, after = await rig.up()
    await rig.wait_listed(second, set())
    kept = await second.kept([talks, busy, queued, rig.clock.uuid()])
    if not rig.traits.keeps_results:
        assert kept == {}
        return
    assert kept.keys() == {talks, queued}
    assert after.of(talks) == []
    for each in kept.values():
        assert each.ended.verdict == ANSWERED
        assert each.handed_over
    talk = (ended - answered).total_seconds()
    assert kept[talks].ended.talk_seconds == pytest.approx(talk, abs=1.0)
    assert abs((kept[talks].ended_at - ended).total_seconds()) < 1.0
    second.discard([talks, rig.clock.uuid()])

    async def discarded() -> bool:
        return (await second.kept([talks, queued])).keys() == {queued}

    await rig.eventually("what was discarded is gone", discarded)


@contract
async def test_a_caller_who_left_the_queue_was_handed_over_to_nobody(rig: Rig) -> None:
    driver, recorder = await rig.up()
    order = rig.order("00", place=rig.queue, hands_over=True)
    call_id = await rig.place(driver, recorder, order)
    await recorder.heard(Answered, call_id, SOON)
    assert await driver.hangup(call_id)
    await recorder.ended(call_id, SOON)
    if rig.traits.keeps_results and not any(isinstance(event, HandedOver) for event in recorder.of(call_id)):
        assert not (await driver.kept([call_id]))[call_id].handed_over
