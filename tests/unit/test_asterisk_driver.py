"""The Asterisk driver against a scripted manager that does everything wrong that a real one may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import pytest_asyncio

from dialerd.clock import SystemClock
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx.asterisk import AsteriskDriver, AsteriskSettings
from dialerd.pbx.driver import (
    Accepted,
    Answered,
    Dialling,
    Ended,
    InDoubt,
    LinkDown,
    LinkLost,
    LinkState,
    LinkUp,
    LiveChannel,
    Originate,
    PbxEvent,
    Place,
    Refused,
)
from dialerd.pbx.driver import ChannelState as State
from tests.fakes.ami_peer import Action, AmiPeer, ami_peer, error, message, success
from tests.support.recorder import Recorder

CALL = "0198c0de-0000-7000-8000-000000000001"
OTHER = "0198c0de-0000-7000-8000-000000000002"
QUICK = AsteriskSettings(
    host="127.0.0.1",
    username="dialerd",
    secret="open sesame",
    connect_deadline=2.0,
    action_deadline=5.0,
    boot_deadline=5.0,
    ping_every=5.0,
    ping_deadline=0.3,
    retry_first=0.02,
    retry_most=0.04,
    refused_retry=0.05,
)
PERMISSION_DENIED = "Permission denied"


def an_order(call_id: str = CALL, place: Place | None = None, dial: str = "PJSIP/12025550100@carrier-a") -> Originate:
    place = place or Place(context="dialerd", exten="answered")
    return Originate(call_id, dial, "+12025550199", place, 30.0, 3600, {"DIALERD_CALL_ID": call_id})


def newchannel(call_id: str = CALL) -> bytes:
    return message("Event: Newchannel", "Channel: PJSIP/a-1", "ChannelState: 0", f"Uniqueid: {call_id}")


def hangup(call_id: str = CALL, cause: int = 16, state: int = 6) -> bytes:
    return message(
        "Event: Hangup", f"Uniqueid: {call_id}", f"ChannelState: {state}", f"Cause: {cause}", "Cause-txt: é日"
    )


def response(call_id: str = CALL, word: str = "Success", reason: int = 4) -> bytes:
    headers = f"ActionID: o:{call_id}", f"Response: {word}", f"Reason: {reason}", f"Uniqueid: {call_id}"
    return message("Event: OriginateResponse", *headers)


class Bench:
    """A peer, a driver to it, and what the driver told."""

    def __init__(self, peer: AmiPeer) -> None:
        self.peer = peer
        self.told = Recorder()
        self.driver = AsteriskDriver("main", replace(QUICK, port=peer.port), SystemClock(seed=1))

    def settings(self, **changes: float) -> None:
        self.driver = AsteriskDriver("main", replace(QUICK, port=self.peer.port, **changes), SystemClock(seed=1))  # type: ignore[arg-type]

    async def up(self) -> None:
        await self.driver.start(self.told)
        await self.told.link(LinkUp)

    def downs(self) -> list[LinkDown]:
        return [event for event in self.told.events if isinstance(event, LinkDown)]


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    async with ami_peer() as peer:
        bench = Bench(peer)
        yield bench
        await bench.driver.stop()


async def test_logs_in_and_says_so_once(bench: Bench) -> None:
    assert bench.driver.state is LinkState.STOPPED
    await bench.up()
    assert bench.told.events == [LinkUp("22.10.0")]
    assert (bench.driver.state, bench.driver.reason) == (LinkState.UP, None)
    login = bench.peer.actions[0]
    assert (login["Action"], login["Username"], login["Secret"]) == ("Login", "dialerd", "open sesame")
    await bench.driver.stop()
    assert bench.driver.state is LinkState.STOPPED
    assert bench.told.events == [LinkUp("22.10.0")]


async def test_is_up_only_when_fully_booted(bench: Bench) -> None:
    bench.peer.answers["Login"] = success
    await bench.driver.start(bench.told)
    await bench.peer.until(lambda: len(bench.peer.actions) == 1)
    bench.peer.send(message("Event: Unrelated"))
    assert bench.driver.state is LinkState.CONNECTING
    bench.peer.send(message("Event: FullyBooted"))
    await bench.told.link(LinkUp)


async def test_without_fully_booted_it_says_what_may_be_wrong(bench: Bench) -> None:
    bench.settings(boot_deadline=0.2)
    bench.peer.answers["Login"] = success
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert "FullyBooted" in (bench.driver.reason or "")
    assert "class system" in (bench.driver.reason or "")


async def test_a_wrong_password_is_said_once_and_tried_again_slowly(bench: Bench) -> None:
    bench.peer.answers["Login"] = lambda action: error(action, "Authentication failed")
    await bench.driver.start(bench.told)
    await bench.peer.until(lambda: bench.peer.connections >= 4)
    assert bench.downs() == [LinkDown("AMI login refused: Authentication failed", refused=True)]
    assert bench.driver.state is LinkState.REFUSED
    bench.peer.answers["Login"] = lambda action: success(action) + message("Event: FullyBooted")
    await bench.told.link(LinkUp)
    assert bench.driver.reason is None


@pytest.mark.parametrize(
    ("action", "right"), [("CoreSettings", "reporting"), ("Originate", "originate"), ("Hangup", "call")]
)
async def test_a_missing_right_is_found_at_login(bench: Bench, action: str, right: str) -> None:
    bench.peer.answers[action] = lambda sent: error(sent, PERMISSION_DENIED)
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert bench.driver.state is LinkState.REFUSED
    assert f"class {right}" in (bench.driver.reason or "")


async def test_an_asterisk_that_shuts_down_is_no_wrong_password(bench: Bench) -> None:
    bench.peer.answers["Login"] = lambda action: error(action, "Asterisk is shutting down")
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert bench.downs() == [LinkDown("Asterisk is shutting down", refused=False)]


async def test_something_else_listens_there(bench: Bench) -> None:
    bench.peer.banner = b"SSH-2.0-OpenSSH_9.2\r\n"
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert "no Asterisk manager" in (bench.driver.reason or "")


async def test_nobody_listens_there(bench: Bench) -> None:
    free = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = free.sockets[0].getsockname()[1]
    free.close()
    await free.wait_closed()
    bench.driver = AsteriskDriver("main", replace(QUICK, port=port), SystemClock(seed=1))
    assert isinstance(await bench.driver.originate(an_order()), Refused)
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert f"127.0.0.1:{port}" in bench.downs()[0].reason
    refused = await bench.driver.originate(an_order())
    assert isinstance(refused, Refused)
    assert refused.verdict == Verdict(Outcome.UNREACHABLE, Fault.PBX)
    with pytest.raises(LinkLost):
        await bench.driver.live()
    with pytest.raises(LinkLost):
        await bench.driver.hangup(CALL)


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


async def test_a_message_in_single_bytes(bench: Bench) -> None:
    """Characters of several bytes arrive in pieces, and stay what they are."""
    await bench.up()
    await bench.driver.originate(an_order())
    link = bench.driver._link
    assert link is not None
    for byte in newchannel() + hangup(cause=17, state=0) + response(word="Failure", reason=0):
        link.data_received(bytes([byte]))
    ended = await bench.told.ended(CALL)
    assert (ended.hangup_text, ended.verdict) == ("é日", Verdict(Outcome.BUSY, Fault.CALLEE))


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
    assert await bench.driver.originate(an_order()) == Refused(text, Verdict(outcome, Fault.PBX), place_refused)
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
    assert bench.peer.orders() == []


async def test_a_call_is_placed_once(bench: Bench) -> None:
    await bench.up()
    assert await bench.driver.originate(an_order()) == Accepted()
    assert isinstance(await bench.driver.originate(an_order()), Refused)
    bench.peer.send(response() + hangup())
    await bench.told.ended(CALL)
    assert isinstance(await bench.driver.originate(an_order()), Refused)
    assert len(bench.peer.orders()) == 1


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


async def test_cut_inside_a_message_and_back(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.send(newchannel())
    await bench.told.heard(Dialling, CALL)
    mark = bench.told.mark
    bench.peer.send(hangup()[:-20])
    bench.peer.cut()
    await bench.told.link(LinkDown, after=mark)
    await bench.told.link(LinkUp, after=mark)
    bench.peer.send(hangup(cause=17, state=0) + response(word="Failure", reason=0))
    assert (await bench.told.ended(CALL)).verdict == Verdict(Outcome.BUSY, Fault.CALLEE)


async def test_a_dead_connection_is_found_by_its_ping(bench: Bench) -> None:
    bench.settings(ping_every=0.02)
    bench.peer.answers["Ping"] = lambda action: None
    await bench.driver.start(bench.told)
    await bench.told.link(LinkDown)
    assert "ping" in bench.downs()[0].reason
    assert bench.driver.counters["pings_missed"] >= 1
    bench.peer.answers["Ping"] = lambda action: success(action, "Ping: Pong")
    await bench.told.link(LinkUp, after=bench.told.mark)
    pings = len(bench.peer.actions)
    await bench.peer.until(lambda: len(bench.peer.actions) > pings + 3)
    assert bench.driver.state is LinkState.UP


async def test_shutdown_is_heeded(bench: Bench) -> None:
    await bench.up()
    bench.peer.send(message("Event: Shutdown", "Shutdown: Cleanly"))
    await bench.told.link(LinkDown)
    assert bench.downs()[0].reason == "Asterisk shuts down"


async def test_rubbish_is_counted_and_survived(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.send(b"\r\n\xff\xfe rubbish\r\n\r\nno: event\r\n\r\n" + message("Response: Success") + newchannel())
    await bench.told.heard(Dialling, CALL)
    assert bench.driver.counters["garbage"] == 2
    assert bench.driver.counters["answers_late"] == 1


async def test_a_message_without_end_costs_the_connection(bench: Bench) -> None:
    bench.settings(max_message_bytes=1000)
    await bench.up()
    bench.peer.send(b"X: " + b"y" * 2000)
    await bench.told.link(LinkDown)
    assert "1000 bytes" in bench.downs()[0].reason


async def test_a_sink_that_raises_stops_nothing(bench: Bench) -> None:
    def raising(event: PbxEvent) -> None:
        bench.told(event)
        if event == Dialling(CALL):
            raise RuntimeError("the sink is at fault")

    await bench.driver.start(raising)
    await bench.told.link(LinkUp)
    await bench.driver.originate(an_order())
    bench.peer.send(newchannel() + response() + hangup())
    await bench.told.ended(CALL)
    assert bench.driver.counters["sink_errors"] == 1
    assert bench.driver.state is LinkState.UP


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


async def test_a_forgotten_call_tells_nothing_more(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.driver.forget(CALL)
    bench.peer.send(response() + hangup() + newchannel(OTHER))
    await bench.told.heard(Dialling, OTHER)
    assert bench.told.of(CALL) == []


async def test_stop_ends_everything_at_once(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.answers["Originate"] = lambda action: None
    pending = asyncio.create_task(bench.driver.originate(an_order(OTHER)))
    await bench.peer.until(lambda: len(bench.peer.orders()) == 2)
    await bench.driver.stop()
    assert isinstance(await pending, InDoubt)
    told = list(bench.told.events)
    bench.peer.send(newchannel() + hangup())
    await bench.driver.stop()
    assert bench.told.events == told
