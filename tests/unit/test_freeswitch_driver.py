"""The FreeSWITCH driver's orders and questions, against an event socket played from recordings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from dialerd.clock import SystemClock
from dialerd.core.model import HungUpBy
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx import esl_places, freeswitch
from dialerd.pbx.driver import (
    Accepted,
    Answered,
    Ceilings,
    ChannelState,
    Dialling,
    Ended,
    HandedOver,
    InDoubt,
    LinkDown,
    LinkLost,
    LinkUp,
    PbxEvent,
    Place,
    Refused,
    Ringing,
    TrunkState,
)
from tests.fakes import esl_recordings as recordings
from tests.fakes.esl_peer import esl_peer, reply, response
from tests.fakes.esl_syntax import read_originate
from tests.support.freeswitch_bench import CALL, OTHER, Bench, an_order
from tests.support.recorder import Recorder

UNREACHABLE = Verdict(Outcome.UNREACHABLE, Fault.TRUNK)
RINGS = "1202555010013"
ROW = {"uuid": CALL, "presence_data": CALL, "callstate": "RINGING", "created_epoch": "1"}
TRUNKS = {"a": "sofia/gateway/trunk/{number}", "b": "sofia/gateway/trunk/9{number}", "c": "loopback/{number}/out/XML"}


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    async with esl_peer(SystemClock()) as peer:
        bench = Bench(peer, TRUNKS)
        yield bench
        await bench.driver.stop()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two questions how FreeSWITCH is, nobody waits as long as with a real one."""
    monkeypatch.setattr(freeswitch, "_LEAST_BETWEEN", 0.1)
    monkeypatch.setattr(freeswitch, "_CLOSED_EVERY", 0.2)


async def test_an_order_is_sent_once_with_the_calls_id_as_the_jobs(bench: Bench) -> None:
    await bench.up()
    assert await bench.driver.originate(an_order()) == Accepted()
    line, job = bench.peer.orders()[0].split("\n")
    assert job == f"Job-UUID: {CALL}"
    read = read_originate(line.removeprefix("bgapi originate "))
    assert (read.variables["origination_uuid"], read.variables["DIALERD_CALL_ID"]) == (CALL, CALL)
    assert len(bench.peer.orders()) == 1


@pytest.mark.slow
async def test_a_call_through_a_loopback_channel(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order(dial="loopback/1202555010001/out/XML"))
    ended = await bench.told.ended(CALL)
    assert [type(event) for event in bench.told.of(CALL)] == [Dialling, Ringing, Answered, Ended]
    assert ended.verdict.outcome is Outcome.ANSWERED


async def test_an_order_that_cannot_be_written_is_refused_by_its_place(bench: Bench) -> None:
    await bench.up()
    bad_place = await bench.driver.originate(an_order(place=Place(context="a\r\nb", exten="1")))
    bad_name = await bench.driver.originate(an_order(variables={"CONTACT_NAME": "a\nb"}))
    assert isinstance(bad_place, Refused)
    assert isinstance(bad_name, Refused)
    assert (bad_place.place_refused, bad_name.place_refused) == (True, False)
    bad_campaign = await bench.driver.originate(an_order(variables={"CAMPAIGN_OFFER": "a\nb"}))
    assert isinstance(bad_campaign, Refused)
    assert bad_campaign.place_refused, "each call of the campaign would be refused for the same"
    assert bad_name.verdict.fault is Fault.DAEMON
    assert bench.peer.orders() == []


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (Place(context="nowhere", exten="1"), "context 'nowhere'"),
        (Place(application="nothing"), "application 'nothing'"),
    ],
)
async def test_nobody_is_called_for_a_place_that_freeswitch_does_not_know(
    bench: Bench, place: Place, words: str
) -> None:
    await bench.up()
    refused = await bench.driver.originate(an_order(place=place))
    assert isinstance(refused, Refused)
    assert refused.place_refused
    assert words in refused.reason
    assert bench.peer.orders() == []


@pytest.mark.parametrize("application", ["page", "cv", "Playback"])
async def test_an_application_that_freeswitch_runs_and_does_not_show_by_its_name_is_known(
    bench: Bench, application: str
) -> None:
    await bench.up()
    for call_id in (CALL, OTHER):
        assert await bench.driver.originate(an_order(call_id, place=Place(application=application))) == Accepted()
    assert bench.peer.commands.count("api show interfaces") == 1


async def test_an_application_that_cannot_be_asked_for_is_not_taken_for_an_unknown_one(bench: Bench) -> None:
    await bench.up()
    bench.peer.answers["api show"] = lambda line: response(
        "-ERR SQL disabled, no data available!\n" if "interfaces" in line else "\n0 total.\n"
    )
    assert await bench.driver.originate(an_order(place=Place(application="nothing"))) == Accepted()


async def test_a_queue_is_known_when_it_is_loaded_or_configured(bench: Bench) -> None:
    await bench.up()
    order = an_order(place=Place(queue="new@default"), hands_over=True)
    refused = await bench.driver.originate(order)
    assert isinstance(refused, Refused)
    assert refused.place_refused
    assert bench.peer.orders() == []
    bench.peer.answers["api xml_locate"] = lambda _: response('<queues>\n<queue name="new@default">\n</queue></queues>')
    assert await bench.driver.originate(order) == Accepted()


async def test_a_place_that_is_known_is_not_asked_about_again_for_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def questions() -> int:
        return sum(command.startswith("api xml_locate") for command in bench.peer.commands)

    await bench.up()
    await bench.driver.originate(an_order())
    await bench.driver.originate(an_order(OTHER))
    assert questions() == 1
    monkeypatch.setattr(esl_places, "KNOWN_SECONDS", 0.0)
    mark = bench.told.mark
    bench.peer.cut()
    await bench.told.link(LinkUp, after=mark)
    for number in range(2):
        await bench.driver.originate(an_order(f"0198c0de-0000-7000-8000-00000000010{number}"))
    assert questions() == 3, "asked again over a new link, and when the time is over"


async def test_a_question_about_the_place_without_an_answer_sends_nothing(bench: Bench) -> None:
    bench.settings(action_deadline=0.1)
    await bench.up()
    bench.peer.answers["api xml_locate"] = lambda _: None
    assert isinstance(await bench.driver.originate(an_order()), Refused)
    assert bench.peer.orders() == []


async def test_a_refused_command_is_no_call(bench: Bench) -> None:
    await bench.up()
    bench.peer.answers["bgapi originate"] = lambda _: reply("-ERR permission denied")
    refused = await bench.driver.originate(an_order())
    assert refused == Refused("-ERR permission denied", Verdict(Outcome.FAILED, Fault.PBX))
    del bench.peer.answers["bgapi originate"]
    bench.peer.answers["bgapi originate"] = bench.peer._originate
    assert await bench.driver.originate(an_order()) == Accepted(), "its id is free"


async def test_the_reason_of_a_refusal_is_a_line_of_text_and_not_long(bench: Bench) -> None:
    await bench.up()
    for body, reason in (
        ("-ERR no\0such\x1bcommand\nusage: …", "-ERR no such command"),
        ("-ERR " + "x" * 5_000_000, "-ERR " + "x" * 195),
    ):
        bench.peer.answers["bgapi originate"] = lambda _, body=body: response(body)  # type: ignore[misc]
        refused = await bench.driver.originate(an_order())
        assert isinstance(refused, Refused)
        assert refused.reason == reason


async def test_without_a_receipt_a_call_that_was_seen_is_accepted(bench: Bench) -> None:
    bench.settings(action_deadline=0.2)
    await bench.up()
    for call_id, seen in ((CALL, True), (OTHER, False)):
        await bench.told.link(LinkUp, after=0 if seen else bench.told.mark)
        bench.peer.answers["bgapi originate"] = lambda _: None
        pending = asyncio.create_task(bench.driver.originate(an_order(call_id)))
        await bench.peer.until(lambda call_id=call_id: any(call_id in order for order in bench.peer.orders()))  # type: ignore[misc]
        if seen:
            bench.peer.send(recordings.frame(recordings.event("sip486_busy", "CHANNEL_CREATE", call_id)))
        assert isinstance(await pending, Accepted if seen else InDoubt)
    assert bench.driver.counters["originates_in_doubt"] == 1


async def test_a_job_that_failed_without_a_channel_ends_the_call_once_it_was_asked_for(bench: Bench) -> None:
    await bench.up()
    assert await bench.driver.originate(an_order(dial="sofia/gateway/dead/12025550100")) == Accepted()
    ended = await bench.told.ended(CALL)
    assert (ended.verdict, ended.channel) == (UNREACHABLE, False)
    assert f"api uuid_exists {CALL}" in bench.peer.commands
    assert bench.told.of(CALL) == [ended]


async def test_a_job_that_failed_while_nobody_listened_proves_nothing(bench: Bench) -> None:
    """Its channel may have come and gone while the link was away."""
    await bench.up()
    bench.peer.answers["bgapi originate"] = lambda _: reply(f"+OK Job-UUID: {CALL}", f"Job-UUID: {CALL}")
    assert await bench.driver.originate(an_order()) == Accepted()
    mark = bench.told.mark
    bench.peer.cut()
    await bench.told.link(LinkUp, after=mark)
    bench.peer.send(recordings.frame(recordings.event("gateway_unknown", "BACKGROUND_JOB", CALL)))
    await bench.peer.until(lambda: f"api uuid_exists {CALL}" in bench.peer.commands)
    assert await bench.driver.live() == ()
    assert bench.told.of(CALL) == []


async def test_a_hangup_before_the_channel_is_made_waits_for_it(bench: Bench) -> None:
    await bench.up()
    bench.peer.answers["bgapi originate"] = lambda _: reply(f"+OK Job-UUID: {CALL}", f"Job-UUID: {CALL}")
    await bench.driver.originate(an_order(number=RINGS))
    assert await bench.driver.hangup(CALL)
    assert bench.peer.commands.count(f"api uuid_kill {CALL}") == 1
    bench.peer._originate(bench.peer.orders()[0])
    ended = await bench.told.ended(CALL)
    assert ended.verdict.outcome is Outcome.CANCELLED
    assert ended.hung_up_by is HungUpBy.DIALER
    assert bench.peer.commands.count(f"api uuid_kill {CALL}") == 2


async def test_a_channel_that_is_made_between_question_and_answer_is_asked_for_again(bench: Bench) -> None:
    await bench.up()
    real = bench.peer.answers["api uuid_kill"]

    def too_early(line: str) -> bytes:
        bench.peer.answers["api uuid_kill"] = real
        bench.peer.send(recordings.frame(recordings.event("sip486_busy", "CHANNEL_CREATE", CALL)))
        return response("-ERR No such channel!\n")

    bench.peer.answers["api uuid_kill"] = too_early
    await bench.driver.originate(an_order(number=RINGS))
    assert await bench.driver.hangup(CALL)
    assert (await bench.told.ended(CALL)).hung_up_by is HungUpBy.DIALER


async def test_a_refused_hangup_is_no_missing_channel(bench: Bench) -> None:
    await bench.up()
    bench.peer.answers["api uuid_kill"] = lambda _: response("-ERR uuid_kill Command not found!\n")
    with pytest.raises(LinkLost, match="refused the hangup"):
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


async def test_an_answered_call_that_ended_with_the_link_is_not_taken_from_a_listing_that_lags(bench: Bench) -> None:
    """Its end was lost, and ``show channels`` has it a moment longer."""
    await bench.up()
    await bench.driver.originate(an_order(number="1202555010002"))
    await bench.told.heard(Answered, CALL)
    listing = bench.peer.answers["api show"]("api show channels as json") or b""
    assert CALL.encode() in listing, "it rang longer than the listing lags"
    mark = bench.told.mark
    bench.peer.cut()
    await bench.told.link(LinkUp, after=mark)
    bench.peer.answers["api show"] = lambda _: listing
    assert [channel.call_id for channel in await bench.driver.live()] == [CALL]
    bench.peer.answers["api uuid_exists"] = lambda _: response("false")
    mark = bench.told.mark
    bench.peer.cut()
    await bench.told.link(LinkUp, after=mark)
    assert await bench.driver.live() == ()
    assert bench.told.of(CALL)[-1] == Answered(CALL), "its end was heard"


async def test_a_call_that_the_listing_does_not_show_yet_is_asked_for(bench: Bench) -> None:
    """``show channels`` lags behind; ``uuid_exists`` does not."""
    await bench.up()
    bench.peer.answers["api show"] = lambda line: (
        response('{"row_count": 0}\n') if "channels" in line else bench.peer._show(line)
    )
    await bench.driver.originate(an_order())
    await bench.told.heard(Answered, CALL)
    assert [(each.call_id, each.state) for each in await bench.driver.live()] == [(CALL, ChannelState.UP)]
    bench.peer.calls.crash()
    assert await bench.driver.live() == ()


async def test_a_call_that_the_listing_still_shows_after_its_end_is_not_live(bench: Bench) -> None:
    await bench.up()
    bench.peer.answers["api show"] = lambda _: response(json.dumps({"row_count": 1, "rows": [ROW]}))
    assert await bench.driver.live() == ()
    assert f"api uuid_dump {CALL}" in bench.peer.commands


async def test_a_channel_that_hangs_up_slowly_is_ending_until_the_listing_lacks_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``uuid_exists`` hides it already, and its end is told behind a module that writes call records."""
    await bench.up()
    await bench.driver.originate(an_order())
    await bench.told.heard(Answered, CALL)
    assert not bench.driver.ending(CALL)
    mark = bench.told.mark
    bench.peer.cut()
    bench.peer.calls.crash()
    await bench.told.link(LinkUp, after=mark)
    bench.peer.answers["api show"] = lambda _: response(json.dumps({"row_count": 1, "rows": [ROW]}))
    assert await bench.driver.live() == ()
    assert bench.driver.ending(CALL)
    with monkeypatch.context() as patched:
        patched.setattr(freeswitch, "_HIDING_SECONDS", 0.0)
        assert not bench.driver.ending(CALL), "it may not hide for ever"
    bench.peer.answers["api show"] = lambda _: response('{"row_count": 0}\n')
    assert await bench.driver.live() == ()
    assert not bench.driver.ending(CALL)


async def test_an_order_whose_place_took_too_long_to_be_asked_for_is_not_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery may have given the call up meanwhile."""
    monkeypatch.setattr(freeswitch, "_PREPARE_SECONDS", -1.0)
    await bench.up()
    answer = await bench.driver.originate(an_order())
    assert isinstance(answer, Refused)
    assert answer.pbx_closed
    assert not [line for line in bench.peer.commands if "originate" in line]


async def test_a_call_that_was_answered_just_before_the_link_is_found_answered(bench: Bench) -> None:
    """``show channels`` says for some tenths of a second that it rings; nobody will tell of its answer again."""
    await bench.up()
    await bench.driver.originate(an_order(number=RINGS))
    await bench.told.heard(Ringing, CALL)
    bench.peer.calls.answer(CALL)
    await bench.told.heard(Answered, CALL)
    await bench.driver.stop()
    bench.peer.answers["api show"] = lambda _: response(json.dumps({"row_count": 1, "rows": [ROW]}))
    bench.told = Recorder()
    bench.settings()
    await bench.up()
    assert [(each.call_id, each.state) for each in await bench.driver.live()] == [(CALL, ChannelState.UP)]
    bench.peer.calls.far_end_hangs_up(CALL)
    ended = await bench.told.ended(CALL)
    assert bench.told.of(CALL) == [ended]
    assert ended.verdict.outcome is Outcome.ANSWERED


async def test_an_answer_while_the_link_was_away_is_found(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order(number=RINGS))
    await bench.told.heard(Ringing, CALL)
    mark = bench.told.mark
    bench.peer.cut()
    bench.peer.calls.answer(CALL)
    await bench.told.link(LinkUp, after=mark)
    assert [channel.state for channel in await bench.driver.live()] == [ChannelState.UP]
    assert Answered(CALL) not in bench.told.of(CALL), "the listing told it"
    await bench.driver.live()
    assert bench.peer.commands.count(f"api uuid_dump {CALL}") == 1


async def test_an_answer_that_is_told_behind_the_listing_stands(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order(number=RINGS))
    await bench.told.heard(Ringing, CALL)
    mark = bench.told.mark
    bench.peer.cut()
    await bench.told.link(LinkUp, after=mark)
    real = bench.peer.answers["api uuid_dump"]

    def answered_behind(line: str) -> bytes | None:
        rings = real(line)
        bench.peer.calls.answer(CALL)
        return rings

    bench.peer.answers["api uuid_dump"] = answered_behind
    bench.peer.answers["api show"] = lambda _: response(json.dumps({"row_count": 1, "rows": [ROW]}))
    assert [channel.state for channel in await bench.driver.live()] == [ChannelState.UP]
    assert bench.told.of(CALL)[-1] == Answered(CALL)


async def test_a_channel_that_hides_as_it_hangs_up_tells_its_end(bench: Bench) -> None:
    """FreeSWITCH says of it that there is none, before it tells CHANNEL_HANGUP_COMPLETE."""
    await bench.up()
    bench.peer.answers["api show"] = lambda _: response(json.dumps({"row_count": 1, "rows": [ROW]}))
    assert await bench.driver.live() == ()
    bench.peer.send(recordings.frame(recordings.event("answer_far_hangup", "CHANNEL_HANGUP_COMPLETE", CALL)))
    assert (await bench.told.ended(CALL)).verdict.outcome is Outcome.ANSWERED


async def test_a_channel_that_may_not_be_asked_is_not_guessed_about(bench: Bench) -> None:
    await bench.up()
    bench.peer.answers["api uuid_dump"] = lambda _: response("-ERR uuid_dump Command not found!\n")
    bench.peer.answers["api show"] = lambda _: response(json.dumps({"row_count": 1, "rows": [ROW]}))
    with pytest.raises(LinkLost, match="refused to tell a channel's state: -ERR uuid_dump Command not found"):
        await bench.driver.live()


async def test_a_thousand_calls_are_found_again(bench: Bench) -> None:
    await bench.up()
    calls = {f"0198c0de-0000-7000-8000-{number:012d}" for number in range(1000)}
    rows = [{"uuid": each, "presence_data": each, "callstate": "ACTIVE", "created_epoch": "1"} for each in calls]
    bench.peer.answers["api show"] = lambda _: response(json.dumps({"row_count": 1000, "rows": rows}))
    bench.peer.answers["api uuid_exists"] = lambda _: response("true")
    assert {channel.call_id for channel in await bench.driver.live()} == calls
    assert len(await bench.driver.live()) == 1000
    assert sum(command.startswith("api uuid_exists") for command in bench.peer.commands) == 1000, "asked once each"


@pytest.mark.parametrize(
    "answer",
    [
        *("-ERR SQL disabled, no data available!\n", "", "[]", '{"row_count": 1, "rows": [1]}', '{"row_count":3}'),
        pytest.param("[" * 200_000, id="nested"),
    ],
)
async def test_a_listing_that_is_none_is_no_empty_one(bench: Bench, answer: str) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    bench.peer.answers["api show"] = lambda _: response(answer)
    with pytest.raises(LinkLost, match="refused to list"):
        await bench.driver.live()


async def test_others_channels_are_none_of_ours(bench: Bench) -> None:
    await bench.up()
    rows = [
        {"uuid": CALL, "presence_data": "", "callstate": "ACTIVE", "created_epoch": "1"},
        {"uuid": OTHER, "presence_data": CALL, "callstate": "ACTIVE", "created_epoch": "1"},
        {"uuid": "x", "presence_data": "x", "callstate": "ACTIVE", "created_epoch": "1"},
    ]
    bench.peer.answers["api show"] = lambda _: response(json.dumps({"row_count": 3, "rows": rows}))
    assert await bench.driver.live() == ()


async def test_bridges_are_subscribed_to_once_a_queue_is_used(bench: Bench) -> None:
    await bench.up()
    await bench.driver.originate(an_order())
    assert not any("CHANNEL_BRIDGE" in command for command in bench.peer.commands)
    await bench.driver.originate(an_order(OTHER, place=Place(queue="sales@default"), hands_over=True))
    await bench.told.heard(HandedOver, OTHER)
    assert bench.peer.commands.count("event plain CHANNEL_BRIDGE") == 1
    mark = bench.told.mark
    bench.peer.cut()
    await bench.told.link(LinkUp, after=mark)
    subscriptions = [command for command in bench.peer.commands if command.startswith("event")]
    assert "CHANNEL_BRIDGE" in subscriptions[-1]


async def test_gateways_are_told_after_the_link_and_at_each_change(bench: Bench) -> None:
    await bench.up()
    up = [TrunkState("a", True, "gateway trunk is UP (NOREG)"), TrunkState("b", True, "gateway trunk is UP (NOREG)")]
    await bench.told.until(lambda event: event == up[1])
    assert bench.told.events[1:] == up
    bench.peer.gateway_state("trunk", "UP")
    bench.peer.gateway_state("other", "DOWN")
    bench.peer.gateway_state("trunk", "DOWN", phrase="Request%20Timeout")
    down = TrunkState("b", False, "gateway trunk is DOWN (NOREG): Request Timeout")
    await bench.told.until(lambda event: event == down)
    assert bench.told.events[3:] == [TrunkState("a", False, down.reason), down]
    mark = bench.told.mark
    bench.peer.cut()
    await bench.told.until(lambda event: isinstance(event, TrunkState), after=mark)
    assert not any(event.up for event in bench.told.events[mark:] if isinstance(event, TrunkState))


@pytest.mark.usefixtures("soon")
async def test_a_gateway_that_is_taken_away_and_comes_back_is_told_at_once(bench: Bench) -> None:
    """The next ping is hours away."""
    bench.settings(ping_every=9999.0)
    bench.peer.gateways["other"] = "UP"
    await bench.up()
    await bench.told.until(lambda event: isinstance(event, TrunkState) and event.trunk == "b")
    bench.peer.take_gateway_away("other")
    bench.peer.take_gateway_away("trunk")
    gone = TrunkState("b", False, "gateway trunk was taken away")
    await bench.told.until(lambda event: event == gone)
    mark = bench.told.mark
    bench.peer.add_gateway("trunk", "DOWN")
    await bench.peer.until(lambda: bench.peer.commands.count("api sofia status gateway trunk") == 2)
    bench.peer.gateway_state("trunk", "UP")
    await bench.told.until(lambda event: isinstance(event, TrunkState) and event.up, after=mark)


@pytest.mark.parametrize("gateway", ["carrier~1", "carrier%201", "g" * 80])
async def test_a_gateway_that_cannot_be_asked_for_costs_nothing_but_its_state(bench: Bench, gateway: str) -> None:
    odd = {"odd": f"sofia/gateway/{gateway}/{{number}}", **TRUNKS}
    bench.trunks = odd
    with capture_logs() as lines:
        bench.settings(ping_every=0.02)
        await bench.up()
        await bench.told.until(lambda event: isinstance(event, TrunkState) and event.trunk == "b")
        await bench.driver.watch(odd)
        await bench.peer.until(lambda: bench.peer.commands.count("api status") > 3)
    assert bench.downs() == []
    assert not any(event.trunk == "odd" for event in bench.told.events if isinstance(event, TrunkState))
    told = [line for line in lines if line["event"] == "trunk_not_watched"]
    assert [line["trunk"] for line in told] == ["odd"] * 2, "once for each list of trunks"
    assert await bench.driver.originate(an_order(dial=f"sofia/gateway/{gateway}/1202555010000")) == Accepted()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("happens", ["shutdown", "no channel"])
async def test_what_happens_makes_it_ask_at_once_whether_calls_are_taken(bench: Bench, happens: str) -> None:
    """A pause is told by no event: an order that became no channel is the first that is heard of it."""
    bench.settings(ping_every=9999.0)
    await bench.up()
    if happens == "shutdown":
        bench.peer.shut_down()
        words = "FreeSWITCH shuts down as soon as its calls have ended"
    else:
        bench.peer.checks.add("pause_check outbound")
        await bench.driver.originate(an_order(dial="sofia/gateway/dead/12025550100"))
        words = "FreeSWITCH is paused for outbound calls"
    await bench.told.until(lambda event: isinstance(event, Ceilings) and event.closed == words)
    bench.peer.checks.clear()
    await bench.told.until(lambda event: isinstance(event, Ceilings) and event.closed is None)


@pytest.mark.usefixtures("soon")
async def test_ceilings_are_of_calls_which_take_three_sessions_through_loopback(bench: Bench) -> None:
    bench.trunks = {"a": "loopback/{number}/out", "b": "loopback/{number}/other"}
    bench.settings(ping_every=9999.0)
    await bench.up()
    assert bench.told.events[0] == LinkUp("1.10.12-release", 333, 9.0)
    await bench.driver.watch(TRUNKS)
    await bench.told.until(lambda event: event == Ceilings(1000, 29.0))


async def test_a_gateways_change_that_no_event_told_is_found_by_the_next_ping(bench: Bench) -> None:
    bench.settings(ping_every=0.02)
    await bench.up()
    await bench.told.until(lambda event: isinstance(event, TrunkState) and event.trunk == "b")
    bench.peer.gateways["trunk"] = "DOWN"
    await bench.told.until(lambda event: isinstance(event, TrunkState) and not event.up)
    del bench.peer.gateways["trunk"]
    mark = len(bench.peer.commands)
    await bench.peer.until(lambda: bench.peer.commands[mark:].count("api sofia status gateway trunk") > 2)
    assert sum(isinstance(event, TrunkState) for event in bench.told.events) == 4, "an unknown one is down, too"


async def test_a_sink_that_raises_stops_nothing(bench: Bench) -> None:
    def raising(event: PbxEvent) -> None:
        bench.told(event)
        if event == Dialling(CALL):
            raise RuntimeError("the sink is at fault")

    await bench.driver.start(raising)
    await bench.told.link(LinkUp)
    await bench.driver.originate(an_order(number="1202555010010"))
    await bench.told.ended(CALL)
    assert bench.driver.counters["sink_errors"] == 1
    assert bench.downs() == []


async def test_a_fault_of_the_drivers_own_costs_the_connection_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        monkeypatch.undo()
        raise ZeroDivisionError

    monkeypatch.setattr("dialerd.pbx.freeswitch.read_status", fails)
    await bench.driver.start(bench.told)
    await bench.told.link(LinkUp)
    assert bench.downs() == [LinkDown("fault in the driver: ZeroDivisionError")]
    assert bench.driver.counters["sessions_failed"] == 1


@pytest.mark.slow
async def test_five_thousand_events_a_second_are_all_followed(bench: Bench) -> None:
    """Every recorded refusal, over and over, for three seconds; the event loop stays free meanwhile."""
    bench.settings(ping_deadline=5.0)
    await bench.up()
    bench.peer.answers["bgapi originate"] = lambda line: reply(f"+OK Job-UUID: {line.partition('Job-UUID: ')[2]}")
    names = sorted(recordings.REFUSALS.values())
    clock = SystemClock()
    calls = {f"0198c0de-0000-7000-8000-{number:012d}": names[number % len(names)] for number in range(5000)}
    for start in range(0, len(calls), 500):
        orders = [bench.driver.originate(an_order(call_id)) for call_id in list(calls)[start : start + 500]]
        assert set(await asyncio.gather(*orders)) == {Accepted()}
    frames = [
        recordings.frame(recordings.event(name, event, call_id))
        for call_id, name in calls.items()
        for event in ("CHANNEL_CREATE", "CHANNEL_HANGUP_COMPLETE", "BACKGROUND_JOB")
    ]
    began = clock.mono()
    late = 0.0
    for start in range(0, len(frames), 500):
        due = began + (start + 500) / 5000
        bench.peer.send(b"".join(frames[start : start + 500]))
        await clock.sleep(max(0.0, due - clock.mono()))
        late = max(late, clock.mono() - due)
    await bench.told.ended(list(calls)[-1])
    ends = {event.call_id: event for event in bench.told.events if isinstance(event, Ended)}
    assert ends.keys() == calls.keys()
    assert bench.downs() == []
    by_recording: dict[str, set[Verdict]] = {}
    for call_id, name in calls.items():
        by_recording.setdefault(name, set()).add(ends[call_id].verdict)
    assert all(len(verdicts) == 1 for verdicts in by_recording.values())
    assert by_recording["sip486_busy"] == {Verdict(Outcome.BUSY, Fault.CALLEE)}
    assert late < 1.0, f"the event loop stood still for {late:.2f} s"
