"""Orders, events and listings of the Asterisk driver, against a scripted manager."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from dialerd.core.model import HungUpBy
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx.driver import (
    Accepted,
    Answered,
    Dialling,
    Ended,
    InDoubt,
    LinkLost,
    LinkUp,
    LiveChannel,
    Place,
    Refused,
    Ringing,
)
from dialerd.pbx.driver import ChannelState as State
from tests.fakes.ami_peer import Action, ami_peer, error, message, success
from tests.support.asterisk_bench import (
    CALL,
    OTHER,
    PERMISSION_DENIED,
    Bench,
    an_order,
    hangup,
    newchannel,
    response,
)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    async with ami_peer() as peer:
        bench = Bench(peer)
        yield bench
        await bench.driver.stop()


async def test_a_call_from_order_to_end(bench: Bench) -> None:
    await bench.up()
    assert await bench.driver.originate(an_order()) == Accepted()
    (order,) = bench.peer.orders()
    assert (order["ChannelId"], order["Channel"], order["Timeout"]) == (CALL, "PJSIP/12025550100@carrier-a", "30000")
    bench.peer.send(newchannel() + newchannel() + response() + hangup() + hangup())
    ended = await bench.told.ended(CALL)
    assert bench.told.of(CALL) == [Dialling(CALL), Answered(CALL), ended]
    assert ended.verdict == Verdict(Outcome.ANSWERED, Fault.NONE)
    assert ended.hangup_text == "é日"


async def test_waiting_for_the_other_half_has_an_end(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.send(response(word="Failure", reason=0))
    ended = await bench.told.ended(CALL)
    assert ended == Ended(CALL, Verdict(Outcome.UNREACHABLE, Fault.TRUNK), channel=False)


@pytest.mark.parametrize(
    ("text", "outcome", "place_refused"),
    [
        ("Extension does not exist.", Outcome.FAILED, True),
        ("Originate Access Forbidden: app or data blacklisted", Outcome.FAILED, True),
        ("Originate failed", Outcome.FAILED, False),
        (PERMISSION_DENIED, Outcome.FAILED, False),
        ("Asterisk is shutting down", Outcome.UNREACHABLE, False),
    ],
)
async def test_refusals(bench: Bench, text: str, outcome: Outcome, place_refused: bool) -> None:
    await bench.up()
    bench.peer.answers["Originate"] = lambda action: error(action, text)
    assert await bench.driver.originate(an_order()) == Refused(
        text, Verdict(outcome, Fault.PBX), place_refused, pbx_closed=outcome is Outcome.UNREACHABLE
    )
    bench.peer.send(hangup() + newchannel(OTHER))
    await bench.told.heard(Dialling, OTHER)
    assert bench.told.of(CALL) == []


async def test_what_may_not_go_onto_the_wire_is_not_sent(bench: Bench) -> None:
    await bench.up()
    bad_place = await bench.driver.originate(an_order(place=Place(context="a\r\nb", exten="1")))
    assert bad_place == Refused(
        "context holds characters that are not allowed there, or none at all",
        Verdict(Outcome.FAILED, Fault.DAEMON),
        place_refused=True,
    )
    bad_dial = await bench.driver.originate(an_order(dial="PJSIP/1&PJSIP/2"))
    assert isinstance(bad_dial, Refused)
    assert not bad_dial.place_refused
    long = await bench.driver.originate(replace(an_order(), variables={"CONTACT_NOTE": "x" * 1100}))
    of_all = await bench.driver.originate(replace(an_order(), variables={"CAMPAIGN_OFFER": "x" * 1100}))
    assert isinstance(long, Refused)
    assert isinstance(of_all, Refused)
    assert (long.place_refused, of_all.place_refused) == (False, True)
    assert of_all.reason == "CAMPAIGN_OFFER is longer than the 1022 bytes Asterisk reads of a line"
    assert bench.peer.orders() == []


async def test_a_call_is_placed_once(bench: Bench) -> None:
    await bench.up()
    assert await bench.driver.originate(an_order()) == Accepted()
    assert isinstance(await bench.driver.originate(an_order()), Refused)
    bench.peer.send(response() + hangup())
    await bench.told.ended(CALL)
    assert isinstance(await bench.driver.originate(an_order()), Refused)
    assert len(bench.peer.orders()) == 1


async def test_the_reason_of_a_refusal_is_a_line_of_text_and_not_long(bench: Bench) -> None:
    await bench.up()
    for text, reason in (
        ("Extension does not\0exist.\x1b[0m", "Extension does not exist. [0m"),
        ("x" * 200_000, "x" * 200),
    ):
        bench.peer.answers["Originate"] = lambda action, text=text: error(action, text)  # type: ignore[misc]
        refused = await bench.driver.originate(an_order())
        assert isinstance(refused, Refused)
        assert refused.reason == reason


async def test_no_receipt_is_doubt_and_a_late_refusal_still_counts(bench: Bench) -> None:
    bench.settings(action_deadline=0.3)
    await bench.up()
    bench.peer.answers["Originate"] = lambda action: None
    assert isinstance(await bench.driver.originate(an_order()), InDoubt)
    bench.peer.send(error(bench.peer.orders()[0], "Originate failed"))
    ended = await bench.told.ended(CALL)
    assert (ended.verdict, ended.channel) == (Verdict(Outcome.FAILED, Fault.PBX), False)
    assert bench.driver.counters["originates_in_doubt"] == 1
    assert bench.driver.counters["answers_late"] == 1


async def test_a_call_that_was_seen_needs_no_receipt(bench: Bench) -> None:
    bench.settings(action_deadline=0.3)
    await bench.up()
    bench.peer.answers["Originate"] = lambda action: newchannel()
    assert await bench.driver.originate(an_order()) == Accepted()


async def test_a_link_lost_behind_an_order_is_doubt_and_nothing_is_sent_again(bench: Bench) -> None:
    await bench.up()

    def crash(action: Action) -> None:
        bench.peer.cut()

    bench.peer.answers["Originate"] = crash
    assert isinstance(await bench.driver.originate(an_order()), InDoubt)
    bench.peer.answers["Originate"] = lambda action: error(action, "Channel not specified")
    mark = bench.told.mark
    await bench.told.link(LinkUp, after=mark)
    await bench.driver.live()
    assert len(bench.peer.orders()) == 1
    assert bench.driver.counters["connects"] == 2


async def test_the_listing_finds_our_channels_and_follows_them(bench: Bench) -> None:
    await bench.up()
    bench.peer.channels = [CALL, "1795372142.60", CALL + ";2"]
    assert await bench.driver.live() == (LiveChannel(CALL, State.UP, 65.0),)
    bench.peer.send(hangup())
    assert (await bench.told.ended(CALL)).verdict == Verdict(Outcome.ANSWERED, Fault.NONE)


async def test_a_hangup_right_behind_the_listing_is_not_lost(bench: Bench) -> None:
    """Both are in one read: the channel must be followed before its Hangup is looked at."""
    await bench.up()
    bench.peer.channels = [CALL, OTHER]
    listing = bench.peer.answers["CoreShowChannels"]
    bench.peer.answers["CoreShowChannels"] = lambda action: (listing(action) or b"") + hangup()
    assert await bench.driver.live() == (LiveChannel(OTHER, State.UP, 65.0),)
    await bench.told.ended(CALL)


@pytest.mark.parametrize("answer", [lambda action: None, lambda action: error(action, PERMISSION_DENIED)])
async def test_a_listing_that_fails_is_a_lost_link(bench: Bench, answer: Callable[[Action], bytes | None]) -> None:
    bench.settings(action_deadline=0.3)
    await bench.up()
    bench.peer.answers["CoreShowChannels"] = answer
    with pytest.raises(LinkLost):
        await bench.driver.live()


@pytest.mark.parametrize("end", [("Cancelled", 1), ("Complete", 2)])
async def test_a_listing_that_is_not_whole_is_none(bench: Bench, end: tuple[str, int]) -> None:
    """Calls that it does not show would be taken for gone."""
    await bench.up()
    how, items = end

    def listing(action: Action) -> bytes:
        tag = f"ActionID: {action['ActionID']}"
        row = message("Event: CoreShowChannel", tag, f"Uniqueid: {CALL}", "ChannelState: 6", "Duration: 00:00:01")
        last = message("Event: CoreShowChannelsComplete", tag, f"EventList: {how}", f"ListItems: {items}")
        return success(action, "EventList: start") + row + last

    bench.peer.answers["CoreShowChannels"] = listing
    with pytest.raises(LinkLost, match="short"):
        await bench.driver.live()


async def test_a_call_of_which_half_of_the_end_came_is_ending(bench: Bench) -> None:
    """No listing shows it any more, and its OriginateResponse is waited for."""
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.send(newchannel())
    await bench.told.heard(Dialling, CALL)
    assert not bench.driver.ending(CALL)
    bench.peer.send(hangup(cause=17, state=5))
    await bench.told.heard(Ringing, CALL)
    assert bench.driver.ending(CALL)
    bench.peer.send(response(word="Failure", reason=5))
    ended = await bench.told.ended(CALL)
    assert ended.verdict.outcome is Outcome.BUSY
    assert not bench.driver.ending(CALL)


async def test_hangup(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.send(newchannel())
    await bench.told.heard(Dialling, CALL)
    assert await bench.driver.hangup(CALL)
    assert bench.peer.actions[-1] == {
        "Action": "Hangup",
        "ActionID": bench.peer.actions[-1]["ActionID"],
        "Channel": CALL,
        "Cause": "16",
    }
    bench.peer.send(hangup(state=0) + response(word="Failure", reason=0))
    assert (await bench.told.ended(CALL)).verdict == Verdict(Outcome.CANCELLED, Fault.NONE)
    bench.peer.answers["Hangup"] = lambda action: error(action, "No such channel")
    assert not await bench.driver.hangup(CALL)
    assert not await bench.driver.hangup(OTHER)


async def test_a_refused_hangup_is_no_missing_channel(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.send(newchannel())
    await bench.told.heard(Dialling, CALL)
    bench.peer.answers["Hangup"] = lambda action: error(action, PERMISSION_DENIED)
    with pytest.raises(LinkLost, match="refused the hangup: Permission denied"):
        await bench.driver.hangup(CALL)


async def test_a_link_that_is_lost_behind_the_listing_proves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is whole, and by the time that anybody looks at it the next link may be up."""
    await bench.up()
    ask = bench.driver._ask

    async def lose(*given: Any) -> Any:
        answer = await ask(*given)
        bench.driver._close_link()
        return answer

    monkeypatch.setattr(bench.driver, "_ask", lose)
    with pytest.raises(LinkLost, match="behind the listing"):
        await bench.driver.live()


async def test_a_hangup_that_found_no_channel_is_not_the_reason_of_the_end(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.send(newchannel())
    await bench.told.heard(Dialling, CALL)
    bench.peer.answers["Hangup"] = lambda action: error(action, "No such channel")
    assert not await bench.driver.hangup(CALL)
    bench.peer.send(hangup(state=0) + response(word="Failure", reason=0))
    assert (await bench.told.ended(CALL)).verdict == Verdict(Outcome.FAILED, Fault.PBX)


async def test_a_hangup_before_the_channel_is_made_is_kept_for_it(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.answers["Hangup"] = lambda action: error(action, "No such channel")
    assert await bench.driver.hangup(CALL)
    bench.peer.answers["Hangup"] = success
    asked = len(bench.peer.actions)
    bench.peer.send(newchannel())
    await bench.peer.until(lambda: len(bench.peer.actions) > asked)
    assert bench.peer.actions[-1]["Channel"] == CALL


async def test_a_channel_that_is_made_between_question_and_answer_is_asked_for_again(bench: Bench) -> None:
    """Seen on a loaded Asterisk 16: the answer came behind the event of the channel that it had not found."""
    await bench.up()
    await bench.driver.originate(an_order())
    real = bench.peer.answers["Hangup"]

    def too_early(action: Action) -> bytes:
        bench.peer.answers["Hangup"] = real
        return newchannel() + error(action, "No such channel")

    bench.peer.answers["Hangup"] = too_early
    assert await bench.driver.hangup(CALL)
    bench.peer.send(hangup(state=0) + response(word="Failure", reason=0))
    ended = await bench.told.ended(CALL)
    assert ended.verdict == Verdict(Outcome.CANCELLED, Fault.NONE)
    assert ended.hung_up_by is HungUpBy.DIALER


async def test_a_forgotten_call_tells_nothing_more(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.driver.forget(CALL)
    bench.peer.send(response() + hangup() + newchannel(OTHER))
    await bench.told.heard(Dialling, OTHER)
    assert bench.told.of(CALL) == []
