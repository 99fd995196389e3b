"""What EslCalls does where events are missing, late, forged or not ours; the ordinary is in tests/golden."""

from __future__ import annotations

import pytest

from dialerd.core.model import HungUpBy
from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx import causes
from dialerd.pbx.driver import (
    Answered,
    CallEvent,
    ChannelState,
    Dialling,
    Ended,
    HandedOver,
    LiveChannel,
    Originate,
    Place,
    Ringing,
)
from dialerd.pbx.ended import REMEMBERED
from dialerd.pbx.esl_events import EslCalls, job_id
from dialerd.pbx.esl_stream import parse_event
from dialerd.pbx.strangers import MOST
from tests.fakes import esl_recordings as recordings

CALL = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"
MOMENT = "1795363746921554"


def order(call_id: str = CALL) -> Originate:
    return Originate(call_id, "sofia/gateway/carrier/49301", None, Place(context="dialerd", exten="answered"), 30.0, 60)


def begun() -> EslCalls:
    calls = EslCalls()
    calls.begin(order())
    return calls


def hear(calls: EslCalls, name: str, unique_id: str = CALL, **headers: str) -> list[CallEvent]:
    named = {key.replace("__", "-"): value for key, value in headers.items()}
    return calls.hear({"Event-Name": name, "Unique-ID": unique_id, **named})


def hang_up(
    calls: EslCalls, cause: str, *, sofia: bool = True, replied: bool = True, **headers: str
) -> list[CallEvent]:
    return hear(
        calls,
        "CHANNEL_HANGUP_COMPLETE",
        Channel__Name="sofia/external/49301" if sofia else "loopback/49301-a",
        Hangup__Cause=cause,
        **({"variable_sip_reply_host": "192.0.2.7"} if replied else {}),
        **headers,
    )


def job(calls: EslCalls, body: str, call_id: str = CALL, command: str = "originate") -> list[CallEvent]:
    return calls.hear({"Event-Name": "BACKGROUND_JOB", "Job-UUID": job_id(call_id), "Job-Command": command}, body)


def ended(told: list[CallEvent]) -> Ended:
    assert isinstance(told[-1], Ended)
    return told[-1]


def verdict_of(told: list[CallEvent]) -> Verdict:
    return ended(told).verdict


def test_the_end_alone_tells_the_whole_call() -> None:
    told = hang_up(
        begun(),
        "NORMAL_CLEARING",
        Caller__Channel__Progress__Time=MOMENT,
        Caller__Channel__Answered__Time=MOMENT,
        Caller__Channel__Bridged__Time=MOMENT,
        variable_billmsec="1020",
        variable_sip_hangup_disposition="recv_bye",
        variable_current_application="bridge",
    )
    assert told == [
        Dialling(CALL),
        Ringing(CALL),
        Answered(CALL),
        HandedOver(CALL),
        Ended(CALL, causes.ANSWERED, 16, "NORMAL_CLEARING", None, HungUpBy.CALLEE, talk_seconds=1.02),
    ]


@pytest.mark.parametrize(("said", "verdict"), [("true", causes.MACHINE), ("false", causes.ANSWERED)])
def test_the_dialplan_may_say_that_a_machine_answered(said: str, verdict: Verdict) -> None:
    answered = hang_up(
        begun(), "NORMAL_CLEARING", Caller__Channel__Answered__Time=MOMENT, variable_dialerd_machine=said
    )
    assert verdict_of(answered) == verdict
    unanswered = hang_up(begun(), "USER_BUSY", variable_dialerd_machine=said)
    assert verdict_of(unanswered) == causes.BUSY


def test_each_is_told_once() -> None:
    calls = begun()
    names = ["CHANNEL_CREATE", "CHANNEL_PROGRESS", "CHANNEL_PROGRESS_MEDIA", "CHANNEL_ANSWER", "CHANNEL_BRIDGE"]
    told = [event for name in names + names for event in hear(calls, name)]
    assert told == [Dialling(CALL), Ringing(CALL), Answered(CALL), HandedOver(CALL)]


def test_early_media_after_the_answer_does_not_ring() -> None:
    calls = begun()
    hear(calls, "CHANNEL_ANSWER")
    assert hear(calls, "CHANNEL_PROGRESS_MEDIA") == []


def test_a_bridge_before_the_answer_hands_nothing_over_yet() -> None:
    calls = begun()
    assert hear(calls, "CHANNEL_BRIDGE") == [Dialling(CALL)]
    assert hear(calls, "CHANNEL_ANSWER") == [Answered(CALL), HandedOver(CALL)]


@pytest.mark.parametrize("leg", ["Bridge-A-Unique-ID", "Bridge-B-Unique-ID"])
def test_a_bridge_is_told_from_either_leg(leg: str) -> None:
    """A queue bridges from its member's leg to ours, or from ours to its member's."""
    calls = begun()
    hear(calls, "CHANNEL_ANSWER")
    assert calls.hear({"Event-Name": "CHANNEL_BRIDGE", "Unique-ID": OTHER, leg: CALL}) == [HandedOver(CALL)]


def test_other_channels_and_ids_in_other_headers_are_nobody() -> None:
    calls = begun()
    for name in ("CHANNEL_CREATE", "CHANNEL_ANSWER", "CHANNEL_HANGUP_COMPLETE"):
        mentioned = {"Other-Leg-Unique-ID": CALL, "Channel-Call-UUID": CALL, "variable_uuid": CALL, "Core-UUID": CALL}
        assert calls.hear({"Event-Name": name, "Unique-ID": OTHER, "Channel-Presence-Data": CALL, **mentioned}) == []
        assert calls.hear({"Event-Name": name, **mentioned}) == []
        assert calls.hear({"Event-Name": name, "Unique-ID": "", **mentioned}) == []
    assert calls.hear({}) == []
    assert list(map(calls.__contains__, (CALL, OTHER))) == [True, False]
    assert calls.late == 0


def test_a_channel_that_bears_our_mark_is_followed_though_nobody_here_placed_it() -> None:
    calls = EslCalls()
    assert hear(calls, "CHANNEL_ANSWER", Channel__Presence__Data=CALL) == []
    assert hear(calls, "CHANNEL_CREATE", Channel__Presence__Data=CALL) == [Dialling(CALL)]
    assert verdict_of(hang_up(calls, "USER_BUSY", variable_sip_term_status="486")) == causes.BUSY


def test_nothing_is_told_after_the_end() -> None:
    calls = begun()
    hang_up(calls, "USER_BUSY")
    for name in ("CHANNEL_CREATE", "CHANNEL_ANSWER", "CHANNEL_HANGUP_COMPLETE"):
        assert hear(calls, name, Channel__Presence__Data=CALL) == []
    assert job(calls, "-ERR USER_BUSY\n") == []
    calls.adopt(LiveChannel(CALL, ChannelState.UP, 1.0))
    assert calls.settle(CALL, exists=False) == []
    assert (len(calls), calls.late, calls.take_doubts(), calls.has_channel(CALL)) == (0, 3, (), True)


def test_ends_are_remembered_to_a_bound() -> None:
    calls = EslCalls()
    for number in range(REMEMBERED + 1):
        calls.begin(order(str(number)))
        hear(calls, "CHANNEL_HANGUP_COMPLETE", str(number))
    hear(calls, "CHANNEL_ANSWER", "0")
    hear(calls, "CHANNEL_ANSWER", "1")
    assert calls.late == 1


def test_a_forgotten_call_tells_nothing_and_is_not_asked_about() -> None:
    calls = begun()
    job(calls, "-ERR INVALID_GATEWAY\n")
    calls.forget(CALL)
    assert calls.take_doubts() == ()
    assert calls.settle(CALL, exists=False) == hang_up(calls, "USER_BUSY") == []


# The job's word.


def test_a_refusal_without_a_channel_is_asked_about_and_then_decides() -> None:
    calls = begun()
    assert job(calls, "-ERR GATEWAY_DOWN\n") == []
    assert calls.take_doubts() == (CALL,)
    assert calls.settle(CALL, exists=False) == [
        Ended(CALL, causes.UNREACHABLE, hangup_text="GATEWAY_DOWN", channel=False)
    ]


def test_a_channel_that_is_heard_of_after_the_refusal_is_no_doubt() -> None:
    calls = begun()
    job(calls, "-ERR NO_ANSWER\n")
    assert hear(calls, "CHANNEL_PROGRESS") == [Dialling(CALL), Ringing(CALL)]
    assert calls.take_doubts() == ()


def test_a_channel_that_exists_tells_its_end_itself() -> None:
    calls = begun()
    job(calls, "-ERR DESTINATION_OUT_OF_ORDER\n")
    calls.take_doubts()
    assert calls.settle(CALL, exists=True) == [Dialling(CALL)]
    assert calls.settle(CALL, exists=False) == []
    assert verdict_of(hang_up(calls, "USER_BUSY", variable_sip_term_status="486")) == causes.BUSY


def test_a_channel_heard_of_between_question_and_answer_waits_for_its_end() -> None:
    calls = begun()
    job(calls, "-ERR USER_BUSY\n")
    calls.take_doubts()
    hear(calls, "CHANNEL_CREATE")
    assert calls.settle(CALL, exists=False) == []
    assert CALL in calls


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("-ERR INVALID_GATEWAY\n", causes.UNREACHABLE),
        ("-ERR CHAN_NOT_IMPLEMENTED\n", causes.UNREACHABLE),
        ("-ERR DESTINATION_OUT_OF_ORDER\n", causes.PBX_FULL),
        ("-ERR SYSTEM_SHUTDOWN\n", causes.FAILED_BY_PBX),
        ("-ERR USER_NOT_REGISTERED\n", causes.UNREACHABLE),
        ("-ERR SUBSCRIBER_ABSENT\n", causes.UNREACHABLE),
        ("-ERR UNALLOCATED_NUMBER\n", causes.UNREACHABLE),
        ("-USAGE: <call url> <exten>\n", causes.FAILED_BY_PBX),
        ("-ERR originate Command not found!\n", causes.FAILED_BY_PBX),
        ("", causes.FAILED_BY_PBX),
        ("\0�" * 5000, causes.FAILED_BY_PBX),
    ],
)
def test_what_a_refusal_without_a_channel_means(body: str, verdict: Verdict) -> None:
    """Never the callee's or the number's fault: nothing left towards them."""
    calls = begun()
    job(calls, body)
    end = ended(calls.settle(CALL, exists=False))
    assert (end.verdict, end.channel, end.hung_up_by) == (verdict, False, None)
    assert len(end.hangup_text or "") <= 200


def test_other_jobs_and_good_news_say_nothing() -> None:
    calls = begun()
    assert job(calls, "-ERR no such channel\n", command="uuid_kill") == job(calls, "+OK " + CALL) == []
    assert job(calls, "-ERR USER_BUSY\n", call_id=OTHER) == []
    assert calls.take_doubts() == ()
    assert calls.settle(CALL, exists=False) == []


# How it ended.


@pytest.mark.parametrize("cause", ["NO_ANSWER", "ALLOTTED_TIMEOUT"])
def test_our_own_timeout_is_judged_by_progress(cause: str) -> None:
    silent = hang_up(begun(), cause, replied=False, variable_sip_hangup_disposition="send_cancel")
    assert verdict_of(silent) == causes.UNREACHABLE
    rang = hang_up(begun(), cause, Caller__Channel__Progress__Time=MOMENT)
    assert verdict_of(rang) == causes.NO_ANSWER
    assert ended(silent).hung_up_by is ended(rang).hung_up_by is HungUpBy.PBX


def test_a_far_end_that_says_no_answer_itself_is_no_timeout_of_ours() -> None:
    """By a Reason header with Q.850 cause 19 in its refusal."""
    told = hang_up(begun(), "NO_ANSWER", variable_sip_term_status="480", variable_sip_hangup_disposition="recv_refuse")
    assert (verdict_of(told), ended(told).hung_up_by) == (causes.NO_ANSWER, HungUpBy.CALLEE)


def test_a_status_that_nobody_sent_is_not_told() -> None:
    told = hang_up(begun(), "NORMAL_TEMPORARY_FAILURE", replied=False, variable_sip_term_status="503")
    assert (verdict_of(told), ended(told).sip_status) == (causes.UNREACHABLE, None)
    told = hang_up(begun(), "NORMAL_TEMPORARY_FAILURE", variable_sip_term_status="503")
    assert (verdict_of(told), ended(told).sip_status) == (causes.CONGESTION, 503)


def test_a_redirect_that_is_not_followed_is_the_trunks_fault() -> None:
    """outbound_redirect_fatal: the status stands only in the second variable."""
    told = hang_up(
        begun(),
        "REQUESTED_CHAN_UNAVAIL",
        variable_proto_specific_hangup_cause="sip:302",
        variable_sip_hangup_disposition="send_cancel",
    )
    assert (verdict_of(told), ended(told).sip_status, ended(told).hung_up_by) == (causes.FAILED_BY_TRUNK, 302, None)


@pytest.mark.parametrize("status", ["200", "487x", "٤٨٦", "", "-486", "4860"])
def test_what_is_no_final_status_is_none(status: str) -> None:
    assert ended(hang_up(begun(), "USER_BUSY", variable_sip_term_status=status)).sip_status is None


def test_through_loopback_the_cause_alone_tells() -> None:
    """No SIP variables on loopback's own channel; the dialplan behind it hands the cause up."""
    told = hang_up(begun(), "USER_BUSY", sofia=False, replied=False)
    assert (verdict_of(told), ended(told).hung_up_by) == (causes.BUSY, HungUpBy.CALLEE)
    told = hang_up(begun(), "NORMAL_TEMPORARY_FAILURE", sofia=False, replied=False)
    assert verdict_of(told) == causes.CONGESTION
    told = hang_up(begun(), "NO_ROUTE_DESTINATION", sofia=False, replied=False)
    assert verdict_of(told) == causes.UNREACHABLE
    rang = hang_up(begun(), "NO_ANSWER", sofia=False, replied=False, Caller__Channel__Progress__Media__Time=MOMENT)
    assert verdict_of(rang) == causes.NO_ANSWER


@pytest.mark.parametrize("cause", ["NORMAL_CLEARING", "ORIGINATOR_CANCEL", "MANAGER_REQUEST"])
def test_our_own_hangup_cancels_and_anybody_elses_does_not(cause: str) -> None:
    calls = begun()
    calls.asked(CALL)
    told = hang_up(calls, cause, variable_sip_hangup_disposition="send_cancel")
    assert (verdict_of(told), ended(told).hung_up_by) == (causes.CANCELLED, HungUpBy.DIALER)
    told = hang_up(begun(), cause, variable_sip_hangup_disposition="send_cancel")
    assert (verdict_of(told), ended(told).hung_up_by) == (causes.FAILED_BY_PBX, HungUpBy.PBX)


def test_a_hangup_that_the_pbx_refused_was_not_ours() -> None:
    calls = begun()
    calls.asked(CALL)
    calls.asked(CALL, asked=False)
    assert verdict_of(hang_up(calls, "NORMAL_CLEARING")) == causes.FAILED_BY_PBX


def test_who_hung_up_first_after_the_answer() -> None:
    for disposition, asked, by in [
        ("recv_bye", False, HungUpBy.CALLEE),
        ("recv_bye", True, HungUpBy.CALLEE),
        ("send_bye", True, HungUpBy.DIALER),
        ("send_bye", False, HungUpBy.PBX),
        ("", False, None),
    ]:
        calls = begun()
        hear(calls, "CHANNEL_ANSWER")
        calls.asked(CALL, asked)
        told = hang_up(
            calls, "NORMAL_CLEARING", variable_sip_hangup_disposition=disposition, variable_current_application="park"
        )
        assert (verdict_of(told), ended(told).hung_up_by) == (causes.ANSWERED, by)


@pytest.mark.parametrize("cause", ["NO_ROUTE_DESTINATION", "DESTINATION_OUT_OF_ORDER"])
def test_an_unknown_place_abandons_the_callee_by_the_pbxs_fault(cause: str) -> None:
    def told(*, bridged: bool = False, asked: bool = False, **headers: str) -> Ended:
        calls = begun()
        hear(calls, "CHANNEL_ANSWER")
        if bridged:
            hear(calls, "CHANNEL_BRIDGE")
        calls.asked(CALL, asked)
        headers.setdefault("variable_sip_hangup_disposition", "send_bye")
        return ended(hang_up(calls, cause, sofia=True, replied=True, **headers))

    # The limit that the order sets at the answer is executed even then.
    for unknown in (told(), told(variable_current_application="sched_hangup")):
        assert (unknown.verdict, unknown.place_refused) == (Verdict(Outcome.ABANDONED, Fault.PBX), True)
    for other in (
        told(variable_current_application="bridge"),
        told(bridged=True),
        told(asked=True),
        told(variable_sip_hangup_disposition="recv_bye"),
    ):
        assert (other.verdict, other.place_refused) == (causes.ANSWERED, False)


def test_a_cause_that_no_table_knows_blames_nobody_outside() -> None:
    told = hang_up(begun(), "SOMETHING_NEW")
    assert (verdict_of(told), ended(told).hangup_cause, ended(told).hangup_text) == (
        causes.FAILED_BY_PBX,
        None,
        "SOMETHING_NEW",
    )


@pytest.mark.parametrize("value", ["", "-5", "abc", "99999999999", "1.5"])
def test_talk_time_that_is_no_number(value: str) -> None:
    calls = begun()
    hear(calls, "CHANNEL_ANSWER")
    assert ended(hang_up(calls, "NORMAL_CLEARING", variable_billmsec=value)).talk_seconds is None


# After a restart or a lost link.


def test_a_listed_channel_is_followed_from_its_state_on() -> None:
    calls = EslCalls()
    calls.adopt(LiveChannel(CALL, ChannelState.RINGING, 3.0))
    assert calls.has_channel(CALL)
    assert hear(calls, "CHANNEL_PROGRESS") == []
    assert hear(calls, "CHANNEL_ANSWER") == [Answered(CALL)]
    up = EslCalls()
    up.adopt(LiveChannel(CALL, ChannelState.UP, 3.0))
    told = hang_up(
        up, "NORMAL_CLEARING", variable_sip_hangup_disposition="recv_bye", Caller__Channel__Answered__Time=MOMENT
    )
    assert [type(event) for event in told] == [Ended]


def test_a_found_channel_is_asked_itself_whether_it_was_answered() -> None:
    """A listing is behind: it rings there, though its answer was told before anybody listened."""
    calls = begun()
    calls.adopt(LiveChannel(OTHER, ChannelState.DIALLING, 0.2))
    assert (calls.unheard(OTHER), calls.unheard(CALL)) == (True, False)
    calls.look(
        parse_event(recordings.dump(OTHER, "ACTIVE", {"Answered": 7, "Progress": 5, "Progress-Media": 0})).headers
    )
    assert not calls.unheard(OTHER)
    assert {call.call_id: call.state for call in calls.followed()}[OTHER] is ChannelState.UP
    for name in ("CHANNEL_PROGRESS", "CHANNEL_ANSWER"):
        assert calls.hear({"Event-Name": name, "Unique-ID": OTHER}) == []


def test_a_channel_that_was_asked_before_its_answer_tells_it() -> None:
    calls = begun()
    calls.link_lost()
    calls.look(parse_event(recordings.dump(CALL, "EARLY", {"Answered": 0, "Progress": 0, "Progress-Media": 5})).headers)
    assert not calls.unheard(CALL), "what comes will be heard"
    assert [call.state for call in calls.followed()] == [ChannelState.RINGING]
    assert hear(calls, "CHANNEL_ANSWER") == [Answered(CALL)]
    calls.adopt(LiveChannel(CALL, ChannelState.RINGING, 0.2))
    assert [call.state for call in calls.followed()] == [ChannelState.UP], "no listing takes back what was heard"
    calls.link_lost()
    assert not calls.unheard(CALL)


def test_a_listing_settles_a_doubt() -> None:
    calls = begun()
    job(calls, "-ERR DESTINATION_OUT_OF_ORDER\n")
    calls.adopt(LiveChannel(CALL, ChannelState.DIALLING, 0.0))
    assert calls.take_doubts() == ()
    assert calls.settle(CALL, exists=False) == []


def test_behind_a_lost_link_that_no_channel_exists_proves_nothing() -> None:
    """The call may have lived and ended unheard: recovery asks."""
    calls = begun()
    job(calls, "-ERR NO_ANSWER\n")
    calls.take_doubts()
    calls.link_lost()
    assert calls.settle(CALL, exists=False) == []
    assert CALL in calls


def test_strangers_that_two_listings_miss_are_dropped_and_our_own_are_not() -> None:
    calls = begun()
    calls.adopt(LiveChannel(OTHER, ChannelState.UP, 1.0))
    for listed in ([], [OTHER], []):
        calls.keep(listed)
        assert OTHER in calls
    calls.keep([])
    assert OTHER not in calls
    assert CALL in calls


def test_has_channel() -> None:
    calls = begun()
    assert not calls.has_channel(CALL)
    hear(calls, "CHANNEL_CREATE")
    assert calls.has_channel(CALL)
    assert not calls.has_channel(OTHER)


def made(calls: EslCalls, call_id: str) -> list[CallEvent]:
    return hear(calls, "CHANNEL_CREATE", call_id, Channel__Presence__Data=call_id)


def test_strangers_whose_end_never_comes_are_let_go_of_the_oldest_first() -> None:
    """No call of ours is in flight, so nobody asks for a listing that would drop them."""
    calls = begun()
    ids = [f"0198c0de-0000-7000-8000-{index:012x}" for index in range(MOST + 10)]
    for call_id in ids:
        assert made(calls, call_id) == [Dialling(call_id)]
    assert len(calls) == MOST + 1
    assert [call_id in calls for call_id in (CALL, ids[9], ids[10], ids[-1])] == [True, False, True, True]
    assert calls.strangers.dropped == 10


def test_strangers_that_ended_or_were_listed_make_room_for_none() -> None:
    calls = EslCalls()
    ids = [f"0198c0de-0000-7000-8000-{index:012x}" for index in range(3 * MOST)]
    for call_id in ids[:MOST]:
        calls.adopt(LiveChannel(call_id, ChannelState.UP, 1.0))
    for call_id in ids[MOST:]:
        made(calls, call_id)
        hear(calls, "CHANNEL_HANGUP_COMPLETE", call_id, Hangup__Cause="NORMAL_CLEARING")
    assert len(calls) == MOST
    assert calls.strangers.dropped == 0


@pytest.mark.parametrize("unique_id", ["x", CALL.replace("-", ""), CALL + "0", "a\0b", "x" * 100_000])
def test_a_channel_whose_id_is_not_of_our_shape_is_no_stranger(unique_id: str) -> None:
    calls = EslCalls()
    assert made(calls, unique_id) == []
    assert len(calls) == 0
