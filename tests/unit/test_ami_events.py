"""What AmiCalls does where events are missing, late or not ours; the ordinary is in tests/golden."""

from __future__ import annotations

import pytest

from dialerd.core.model import HungUpBy
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx import ami_events, causes
from dialerd.pbx.ami_events import AmiCalls
from dialerd.pbx.ami_stream import AmiMessage
from dialerd.pbx.driver import Answered, CallEvent, ChannelState, Dialling, Ended, HandedOver, Ringing
from dialerd.pbx.ended import REMEMBERED
from dialerd.pbx.strangers import MOST

CALL = "0198c0de-0000-7000-8000-000000000001"
STRANGER = "0198c0de-0000-7000-8000-00000000beef"


def event(name: str, **headers: object) -> AmiMessage:
    return AmiMessage((("Event", name), *((key.replace("_", "-"), str(value)) for key, value in headers.items())))


def newchannel(uniqueid: str = CALL, channel: str = "PJSIP/carrier-a-00000001") -> AmiMessage:
    return event("Newchannel", Channel=channel, ChannelState=0, Uniqueid=uniqueid)


def hangup(cause: int, uniqueid: str = CALL, state: int = 0, **headers: object) -> AmiMessage:
    return event("Hangup", Uniqueid=uniqueid, ChannelState=state, Cause=cause, Cause_txt="text", **headers)


def response(word: str, reason: int, action: str = "o:1", uniqueid: str = CALL) -> AmiMessage:
    return event("OriginateResponse", ActionID=action, Response=word, Reason=reason, Uniqueid=uniqueid)


def up(uniqueid: str = CALL) -> AmiMessage:
    return event("Newstate", Uniqueid=uniqueid, ChannelState=6)


def placed(**how: object) -> AmiCalls:
    calls = AmiCalls()
    calls.placed(CALL, "o:1", **how)  # type: ignore[arg-type]
    return calls


def tell(calls: AmiCalls, *messages: AmiMessage, now: float = 0.0) -> list[CallEvent]:
    return [told for message in messages for told in calls.take(message, now)]


def test_a_hangup_alone_is_settled_by_its_cause() -> None:
    calls = placed()
    assert tell(calls, newchannel(), hangup(17, TechCause=486), now=100.0) == [Dialling(CALL)]
    assert calls.due == 100.0 + ami_events.RESPONSE_WAIT
    assert calls.settle(calls.due - 0.01) == []
    busy = Ended(CALL, Verdict(Outcome.BUSY, Fault.CALLEE), 17, "text", 486, HungUpBy.CALLEE)
    assert calls.settle(calls.due) == [busy]
    assert calls.due is None
    assert tell(calls, response("Failure", 0), hangup(17), newchannel()) == []
    assert calls.late == 2


def test_a_failed_response_alone_waits_for_a_channel_and_then_there_was_none() -> None:
    calls = placed()
    assert tell(calls, response("Failure", 0), now=50.0) == []
    assert calls.due == 50.0 + ami_events.CHANNEL_WAIT
    never = Ended(CALL, Verdict(Outcome.UNREACHABLE, Fault.TRUNK), channel=False)
    assert calls.settle(calls.due) == [never]


def test_a_channel_that_comes_behind_its_failed_response_counts() -> None:
    calls = placed()
    tell(calls, response("Failure", 0), now=50.0)
    assert tell(calls, newchannel(), now=50.1) == [Dialling(CALL)]
    assert calls.due == 50.0 + ami_events.HANGUP_WAIT
    assert tell(calls, hangup(1, TechCause=404), now=50.2)[0].call_id == CALL
    assert len(calls) == 0


def test_a_channel_whose_hangup_never_comes_is_given_up() -> None:
    calls = placed()
    ringing = event("DialState", DestUniqueid=CALL, DialStatus="RINGING")
    assert tell(calls, newchannel(), ringing, response("Failure", 3), now=0.0) == [Dialling(CALL), Ringing(CALL)]
    (ended,) = calls.settle(ami_events.HANGUP_WAIT)
    assert ended == Ended(CALL, Verdict(Outcome.NO_ANSWER, Fault.CALLEE), hung_up_by=HungUpBy.PBX)


def test_the_refused_duplicate_of_a_live_call_does_not_end_it() -> None:
    """It bears the live call's Uniqueid; only the ActionID is another."""
    for so_far in ([newchannel()], [newchannel(), up()], []):
        calls = placed()
        tell(calls, *so_far)
        assert tell(calls, response("Failure", 0, action="another")) == []
        assert CALL in calls
        assert calls.due is None


def test_a_lost_link_forbids_conclusions_from_silence() -> None:
    """Newchannel and Hangup may have gone by unheard: that no channel was made is not known, and not said."""
    calls = placed()
    calls.link_lost()
    assert tell(calls, response("Failure", 0)) == []
    assert calls.due is None
    assert calls.settle(float("inf")) == []
    calls.forget(CALL)
    assert len(calls) == 0


def test_a_refusal_after_the_deadline_ends_the_call() -> None:
    calls = placed()
    refused = AmiMessage((("Response", "Error"), ("ActionID", "o:1"), ("Message", "Originate failed")))
    (ended,) = tell(calls, refused)
    assert ended == Ended(CALL, Verdict(Outcome.FAILED, Fault.PBX), hangup_text="Originate failed", channel=False)
    assert tell(calls, refused) == []


def test_an_adopted_channel_goes_on_from_its_state() -> None:
    calls = AmiCalls()
    calls.adopt(CALL, ChannelState.RINGING)
    assert tell(calls, up()) == [Answered(CALL)]
    (ended,) = tell(calls, hangup(0, state=6))
    assert ended == Ended(CALL, Verdict(Outcome.ANSWERED, Fault.NONE))
    calls.adopt(CALL, ChannelState.UP)
    assert len(calls) == 0, "an ended call is not revived by a listing"


def test_an_adopted_call_hears_the_response_to_its_originate() -> None:
    calls = AmiCalls()
    calls.adopt(CALL, ChannelState.RINGING)
    (ended,) = tell(calls, hangup(0, state=5), response("Failure", 3, action=ami_events.action_id(CALL)))
    assert isinstance(ended, Ended)
    assert ended.verdict == Verdict(Outcome.NO_ANSWER, Fault.CALLEE)


def test_a_late_channel_with_an_id_of_our_shape_is_adopted() -> None:
    calls = AmiCalls()
    assert tell(calls, newchannel(STRANGER)) == [Dialling(STRANGER)]
    assert tell(calls, newchannel("1795372142.60"), newchannel(STRANGER + ";2")) == []
    calls.keep({STRANGER})
    calls.keep(())
    assert STRANGER in calls
    calls.keep(())
    assert STRANGER not in calls, "missing from two listings"


def test_what_was_placed_is_kept_however_often_it_is_not_listed() -> None:
    calls = placed()
    for _ in range(3):
        calls.keep(())
    assert CALL in calls


def test_events_of_others_are_nothing() -> None:
    calls = placed()
    others = [up("1795372142.60"), hangup(16, "1795372142.60"), event("DialEnd", Uniqueid="x", DialStatus="ANSWER")]
    assert tell(calls, *others, event("UserEvent", UserEvent="Other", Uniqueid=CALL), event("Cdr", UniqueID=CALL)) == []


def test_handed_over_by_each_of_its_signs() -> None:
    for sign in (
        event("DialEnd", Uniqueid=CALL, DestUniqueid="1795372142.61", DialStatus="ANSWER"),
        event("AgentConnect", Uniqueid=CALL, DestUniqueid="1795372142.61"),
        event("UserEvent", UserEvent="DialerdHandedOver", Uniqueid=CALL),
    ):
        calls = placed()
        assert tell(calls, newchannel(), up(), sign, sign) == [Dialling(CALL), Answered(CALL), HandedOver(CALL)]
    calls = placed()
    busy = event("DialEnd", Uniqueid=CALL, DestUniqueid="1795372142.61", DialStatus="BUSY")
    assert tell(calls, newchannel(), up(), busy) == [Dialling(CALL), Answered(CALL)]


def test_the_dialplan_may_say_that_a_machine_answered() -> None:
    machine = event("UserEvent", UserEvent="DialerdMachine", Uniqueid=CALL)
    calls = placed()
    *told, end = tell(calls, newchannel(), up(), machine, hangup(16))
    assert told == [Dialling(CALL), Answered(CALL)]
    assert isinstance(end, Ended)
    assert end.verdict == causes.MACHINE
    calls = placed()
    others = event("UserEvent", UserEvent="DialerdMachine", Uniqueid="1795372142.61")
    *_, end = tell(calls, newchannel(), up(), others, hangup(16))
    assert isinstance(end, Ended)
    assert end.verdict == causes.ANSWERED


def test_early_media_behind_a_local_channel_is_progress() -> None:
    calls = placed()
    progress = event("DialState", DestUniqueid="1795372142.61", DestLinkedid=CALL, DialStatus="PROGRESS")
    assert tell(calls, newchannel(channel="Local/1@out-1;1"), progress) == [Dialling(CALL), Ringing(CALL)]
    calls = placed()
    assert tell(calls, newchannel(), progress) == [Dialling(CALL)], "a leg of the place is not the callee"


def test_who_hung_up_an_answered_call() -> None:
    def by(calls: AmiCalls, *messages: AmiMessage, now: float = 10.0) -> HungUpBy | None:
        ended = tell(calls, newchannel(), up(), *messages, now=now)[-1]
        assert isinstance(ended, Ended)
        return ended.hung_up_by

    assert by(placed(), hangup(0, state=6)) is HungUpBy.CALLEE
    assert by(placed(application=True), hangup(0, state=6)) is None
    assert by(placed(), hangup(16, state=6)) is None
    assert by(placed(), event("HangupRequest", Uniqueid=CALL), hangup(16, state=6)) is HungUpBy.CALLEE
    assert by(placed(), event("SoftHangupRequest", Uniqueid=CALL), hangup(16, state=6)) is HungUpBy.PBX
    assert by(placed(limit_at=90.0), hangup(0, state=6), now=89.9) is HungUpBy.PBX
    assert by(placed(limit_at=90.0), hangup(0, state=6), now=80.0) is HungUpBy.CALLEE
    asked = placed()
    asked.asked(CALL)
    assert by(asked, hangup(16, state=6)) is HungUpBy.DIALER


def test_numbers_that_are_none_are_no_cause() -> None:
    calls = placed()
    (ended,) = tell(calls, up(), event("Hangup", Uniqueid=CALL, Cause="²", TechCause="SIP 486"))[-1:]
    assert isinstance(ended, Ended)
    assert (ended.hangup_cause, ended.sip_status) == (None, None)


def test_memory_of_ended_calls_is_bounded() -> None:
    calls = AmiCalls()
    for number in range(REMEMBERED + 10):
        calls.placed(f"call-{number}", f"o:{number}")
        tell(calls, up(f"call-{number}"), hangup(16, f"call-{number}", state=6))
    assert len(calls) == 0
    assert not calls.has_channel("call-9")
    assert calls.has_channel("call-10")


def test_a_listing_is_read() -> None:
    line = event("CoreShowChannel", Uniqueid=CALL, ChannelState=6, Duration="01:02:03")
    assert (ami_events.listed_state(line), ami_events.listed_seconds(line)) == (ChannelState.UP, 3723.0)
    odd = event("CoreShowChannel", Uniqueid=CALL, ChannelState=0, Duration="soon")
    assert (ami_events.listed_state(odd), ami_events.listed_seconds(odd)) == (ChannelState.DIALLING, 0.0)


@pytest.mark.parametrize("duration", ["", "1:2", "1:2:3:4", "\u00b2:0:0", "\u0661:0:0", "-1:0:0", f"{'9' * 5000}:0:0"])
def test_an_age_that_cannot_be_read_is_none(duration: str) -> None:
    assert ami_events.listed_seconds(event("CoreShowChannel", Duration=duration)) == 0.0


def test_strangers_whose_end_never_comes_are_let_go_of_the_oldest_first() -> None:
    """No call of ours is in flight, so nobody asks for a listing that would drop them."""
    calls = placed()
    ids = [f"0198c0de-0000-7000-8000-{index:012x}" for index in range(2, MOST + 12)]
    for uniqueid in ids:
        tell(calls, newchannel(uniqueid))
    assert len(calls) == MOST + 1
    assert [uniqueid in calls for uniqueid in (CALL, ids[9], ids[10], ids[-1])] == [True, False, True, True]
    assert calls.strangers.dropped == 10
    assert tell(calls, up(ids[0]), hangup(16, ids[0])) == []
    assert calls.late == 0


def test_strangers_that_ended_or_were_listed_make_room_for_none() -> None:
    """A process before us may have had as many; what a listing shows is dropped by listings alone."""
    calls = AmiCalls()
    ids = [f"0198c0de-0000-7000-8000-{index:012x}" for index in range(3 * MOST)]
    for uniqueid in ids[:MOST]:
        calls.adopt(uniqueid, ChannelState.UP)
    for uniqueid in ids[MOST:]:
        tell(calls, newchannel(uniqueid), up(uniqueid), hangup(16, uniqueid))
    assert len(calls) == MOST
    assert calls.strangers.dropped == 0
