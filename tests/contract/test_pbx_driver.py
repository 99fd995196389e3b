"""What every PBX driver promises of calls: asked of the simulated PBX, and in the lab of the real ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from dialerd.core.model import HungUpBy
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx.driver import (
    Accepted,
    Answered,
    Dialling,
    HandedOver,
    Refused,
    Ringing,
)
from tests.contract.pbx_harness import SETUP_SECONDS, SOON, Harness, Rig, contract

ANSWERED = Verdict(Outcome.ANSWERED, Fault.NONE)
BUSY = Verdict(Outcome.BUSY, Fault.CALLEE)
CANCELLED = Verdict(Outcome.CANCELLED, Fault.NONE)
CONGESTION = Verdict(Outcome.CONGESTION, Fault.TRUNK)
INVALID_NUMBER = Verdict(Outcome.INVALID_NUMBER, Fault.NUMBER)
NO_ANSWER = Verdict(Outcome.NO_ANSWER, Fault.CALLEE)
REJECTED = Verdict(Outcome.REJECTED, Fault.CALLEE)
REJECTED_BY_TRUNK = Verdict(Outcome.REJECTED, Fault.TRUNK)
UNREACHABLE = Verdict(Outcome.UNREACHABLE, Fault.TRUNK)


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
    freeswitch_cause: int | None = None
    """FreeSWITCH's cause for this status, where it is another."""


REFUSALS = [
    Refusal("10", 486, 17, BUSY),
    Refusal("11", 404, 1, INVALID_NUMBER),
    Refusal("12", 503, 34, CONGESTION, freeswitch_cause=41),
    Refusal("15", 603, 21, REJECTED),
    Refusal("16", 480, 19, NO_ANSWER, freeswitch_cause=18),
    Refusal("17", 484, 28, INVALID_NUMBER),
    Refusal("18", 480, 19, NO_ANSWER, rings=True, freeswitch_cause=18),
    Refusal("19", 500, 38, CONGESTION, freeswitch_cause=41),
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
        cause = (rig.traits.freeswitch_causes and refusal.freeswitch_cause) or refusal.cause
        assert ended.hangup_cause == cause
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
    orders = [(rig.order(suffix), verdict) for suffix, verdict in expected.items() for _ in range(rig.at_once // 6)]
    receipts = await asyncio.gather(*(driver.originate(order) for order, _ in orders))
    assert receipts == [Accepted()] * len(orders)
    for order, verdict in orders:
        assert (await recorder.ended(order.call_id, SETUP_SECONDS + SOON)).verdict == verdict
    for order, _ in orders:
        assert await rig.far_end_count(order.call_id) == 1
