"""The table of causes, against what each means to a dialer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dialerd.core.outcome import Fault, Outcome, Verdict
from dialerd.pbx.causes import CAUSES, FREESWITCH_CAUSES, SIP_CAUSES, UNREACHABLE, Ending, verdict
from tests.support import outcomes_page
from tests.support.outcomes_page import ASTERISK_16, ASTERISK_22, FREESWITCH, of_status

OUTCOMES_PAGE = Path(__file__).parents[2] / "docs" / "outcomes.md"

Q850_OF_ASTERISK = [
    *[1, 2, 3, 5, 6, 7, 8, 14, 16, 17, 18, 19, 20, 21, 22, 23, 26, 27, 28, 29, 30, 31, 34, 38, 41, 42, 43, 44, 50],
    *[52, 54, 57, 58, 65, 66, 69, 81, 88, 95, 96, 97, 98, 99, 100, 101, 102, 103, 111, 127],
]

FREESWITCH_NAMES = """
UNALLOCATED_NUMBER NO_ROUTE_TRANSIT_NET NO_ROUTE_DESTINATION CHANNEL_UNACCEPTABLE CALL_AWARDED_DELIVERED
NORMAL_CLEARING USER_BUSY NO_USER_RESPONSE NO_ANSWER SUBSCRIBER_ABSENT CALL_REJECTED NUMBER_CHANGED
REDIRECTION_TO_NEW_DESTINATION EXCHANGE_ROUTING_ERROR DESTINATION_OUT_OF_ORDER INVALID_NUMBER_FORMAT FACILITY_REJECTED
RESPONSE_TO_STATUS_ENQUIRY NORMAL_UNSPECIFIED NORMAL_CIRCUIT_CONGESTION NETWORK_OUT_OF_ORDER NORMAL_TEMPORARY_FAILURE
SWITCH_CONGESTION ACCESS_INFO_DISCARDED REQUESTED_CHAN_UNAVAIL PRE_EMPTED FACILITY_NOT_SUBSCRIBED OUTGOING_CALL_BARRED
INCOMING_CALL_BARRED BEARERCAPABILITY_NOTAUTH BEARERCAPABILITY_NOTAVAIL SERVICE_UNAVAILABLE BEARERCAPABILITY_NOTIMPL
CHAN_NOT_IMPLEMENTED FACILITY_NOT_IMPLEMENTED SERVICE_NOT_IMPLEMENTED INVALID_CALL_REFERENCE INCOMPATIBLE_DESTINATION
INVALID_MSG_UNSPECIFIED MANDATORY_IE_MISSING MESSAGE_TYPE_NONEXIST WRONG_MESSAGE IE_NONEXIST INVALID_IE_CONTENTS
WRONG_CALL_STATE RECOVERY_ON_TIMER_EXPIRE MANDATORY_IE_LENGTH_ERROR PROTOCOL_ERROR INTERWORKING ORIGINATOR_CANCEL
CRASH SYSTEM_SHUTDOWN LOSE_RACE MANAGER_REQUEST BLIND_TRANSFER ATTENDED_TRANSFER ALLOTTED_TIMEOUT USER_CHALLENGE
MEDIA_TIMEOUT PICKED_OFF USER_NOT_REGISTERED PROGRESS_TIMEOUT INVALID_GATEWAY GATEWAY_DOWN INVALID_URL INVALID_PROFILE
NO_PICKUP SRTP_READ_ERROR BOWOUT BUSY_EVERYWHERE DECLINE DOES_NOT_EXIST_ANYWHERE NOT_ACCEPTABLE UNWANTED NO_IDENTITY
BAD_IDENTITY_INFO UNSUPPORTED_CERTIFICATE INVALID_IDENTITY STALE_DATE REJECT_ALL
"""
"""Every hangup cause in FreeSWITCH 1.10's switch_types.h but NONE and SUCCESS."""

TABLE = [
    # cause, SIP status, progress, outcome, fault
    (17, 486, True, "busy", "callee"),
    (17, 600, False, "busy", "callee"),
    (17, None, False, "busy", "callee"),
    (1, 404, False, "invalid_number", "number"),
    (1, 604, False, "invalid_number", "number"),
    (3, None, False, "invalid_number", "number"),
    (22, 410, False, "invalid_number", "number"),
    (28, 484, False, "invalid_number", "number"),
    (19, 480, False, "no_answer", "callee"),
    (19, None, True, "no_answer", "callee"),
    (19, 483, False, "unreachable", "trunk"),
    (18, None, True, "no_answer", "callee"),
    (18, 480, False, "no_answer", "callee"),
    (18, 408, True, "no_answer", "callee"),
    (18, 408, False, "unreachable", "trunk"),
    (18, None, False, "unreachable", "trunk"),
    (102, None, False, "unreachable", "trunk"),
    (102, 504, False, "unreachable", "trunk"),
    (102, None, True, "no_answer", "callee"),
    (21, 603, False, "rejected", "callee"),
    (21, None, False, "rejected", "callee"),
    (21, 403, False, "rejected", "trunk"),
    (21, 401, False, "rejected", "trunk"),
    (21, 407, False, "rejected", "trunk"),
    (34, 503, False, "congestion", "trunk"),
    (42, None, False, "congestion", "trunk"),
    (38, 500, False, "congestion", "trunk"),
    (41, None, False, "congestion", "trunk"),
    (44, None, False, "congestion", "trunk"),
    (27, None, False, "unreachable", "trunk"),
    (27, 502, False, "congestion", "trunk"),
    (127, 405, False, "failed", "trunk"),
    (127, 607, False, "rejected", "callee"),
    (58, 488, False, "failed", "trunk"),
    (16, None, True, "failed", "pbx"),
    (None, None, True, "failed", "pbx"),
    (77, 299, True, "failed", "pbx"),
]


@pytest.mark.parametrize(("cause", "sip", "progress", "outcome", "fault"), TABLE)
def test_unanswered(cause: int | None, sip: int | None, progress: bool, outcome: str, fault: str) -> None:
    ending = Ending(progress=progress, cause=cause, sip_status=sip)
    assert verdict(ending) == Verdict(Outcome(outcome), Fault(fault))


@pytest.mark.parametrize("cause", Q850_OF_ASTERISK)
def test_every_cause_that_asterisk_uses_has_a_row(cause: int) -> None:
    assert cause in CAUSES or cause == 16


@pytest.mark.parametrize("cause", [None, *range(128)])
@pytest.mark.parametrize("asked", [True, False])
def test_answered_is_answered(cause: int | None, asked: bool) -> None:
    assert verdict(Ending(answered=True, cause=cause, asked=asked)) == Verdict(Outcome.ANSWERED, Fault.NONE)


@pytest.mark.parametrize("cause", [0, 4, 16, 32, 77, 126, None])
def test_the_callee_is_not_blamed_for_the_unknown(cause: int | None) -> None:
    for progress in (True, False):
        assert verdict(Ending(progress=progress, cause=cause)).fault not in (Fault.CALLEE, Fault.NUMBER)


@pytest.mark.parametrize(("cause", "sip"), [(19, 480), (None, None), (16, None)])
def test_our_own_timeout_is_judged_by_progress_alone(cause: int | None, sip: int | None) -> None:
    silent = Ending(timed_out=True, cause=cause, sip_status=sip)
    rang = Ending(timed_out=True, cause=cause, sip_status=sip, progress=True)
    assert verdict(silent) == Verdict(Outcome.UNREACHABLE, Fault.TRUNK)
    assert verdict(rang) == Verdict(Outcome.NO_ANSWER, Fault.CALLEE)


def test_a_dialplan_without_a_way_does_not_make_the_number_invalid() -> None:
    assert verdict(Ending(cause=3, through_dialplan=True)) == UNREACHABLE
    assert verdict(Ending(cause=1, through_dialplan=True)) == Verdict(Outcome.INVALID_NUMBER, Fault.NUMBER)


def test_without_a_channel_the_trunk_is_down() -> None:
    assert verdict(Ending(channel=False)) == Verdict(Outcome.UNREACHABLE, Fault.TRUNK)


def test_a_hangup_of_ours_cancels_unless_the_far_end_was_first() -> None:
    assert verdict(Ending(asked=True, cause=16, progress=True)) == Verdict(Outcome.CANCELLED, Fault.NONE)
    assert verdict(Ending(asked=True, cause=None)) == Verdict(Outcome.CANCELLED, Fault.NONE)
    assert verdict(Ending(asked=True, cause=17, sip_status=486)) == Verdict(Outcome.BUSY, Fault.CALLEE)


def test_a_dialplan_that_rang_out_says_normal_clearing() -> None:
    rang = Ending(cause=16, progress=True, through_dialplan=True)
    assert verdict(rang) == Verdict(Outcome.NO_ANSWER, Fault.CALLEE)
    silent = Ending(cause=16, through_dialplan=True)
    assert verdict(silent) == Verdict(Outcome.FAILED, Fault.PBX)


def test_every_cause_that_freeswitch_names_has_a_row_and_no_other_is_named() -> None:
    assert sorted(FREESWITCH_CAUSES) == sorted(FREESWITCH_NAMES.split())
    assert all(number in CAUSES or number == 16 for number in FREESWITCH_CAUSES.values())
    assert len(set(FREESWITCH_CAUSES.values())) == len(FREESWITCH_CAUSES)


@pytest.mark.parametrize("status", SIP_CAUSES)
@pytest.mark.parametrize("progress", [True, False])
def test_a_sip_status_means_the_same_whichever_pbx_heard_it(status: int, progress: bool) -> None:
    assert of_status(FREESWITCH, status, progress=progress) == of_status(ASTERISK_22, status, progress=progress)


def test_what_asterisk_16_cannot_tell_for_want_of_the_status() -> None:
    differs = {status for status in SIP_CAUSES if of_status(ASTERISK_16, status) != of_status(ASTERISK_22, status)}
    assert differs == {401, 402, 403, 407, 420, 428, 429, 437, 438, 482, 483, 501, 502, 513, 607, 608}


@pytest.mark.parametrize("cause", [*CAUSES, None])
def test_silence_blames_neither_callee_nor_number(cause: int | None) -> None:
    """A status that nobody sent: what FreeSWITCH writes down for a dead port, a name without address, a lost link."""
    told = verdict(Ending(cause=cause, sip_status=503, replied=False))
    assert told == UNREACHABLE or told.fault is Fault.PBX


@pytest.mark.parametrize("cause", [*CAUSES, 0, 16, 9999, None])
def test_without_a_channel_neither_callee_nor_number_is_to_blame(cause: int | None) -> None:
    told = verdict(Ending(channel=False, cause=cause))
    assert told.fault in (Fault.TRUNK, Fault.PBX)
    assert told.outcome in (Outcome.UNREACHABLE, Outcome.CONGESTION, Outcome.FAILED, Outcome.REJECTED)


def test_a_full_pbx_is_no_trunk_that_is_down() -> None:
    assert verdict(Ending(channel=False, cause=27)) == Verdict(Outcome.CONGESTION, Fault.PBX)
    assert verdict(Ending(channel=False, cause=808)) == verdict(Ending(channel=False, cause=809)) == UNREACHABLE


def test_a_place_that_the_pbx_does_not_know_abandons_the_callee() -> None:
    assert verdict(Ending(answered=True, place_refused=True)) == Verdict(Outcome.ABANDONED, Fault.PBX)


def test_the_page_of_outcomes_is_that_of_the_tables() -> None:
    if os.environ.get("UPDATE_DOCS"):
        OUTCOMES_PAGE.write_text(outcomes_page.page(), encoding="utf-8")
    written = OUTCOMES_PAGE.read_text(encoding="utf-8") if OUTCOMES_PAGE.exists() else None
    assert written == outcomes_page.page(), "make docs/outcomes.md anew: UPDATE_DOCS=1 pytest tests/unit/test_causes.py"
