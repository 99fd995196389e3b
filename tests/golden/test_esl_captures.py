"""Every recorded FreeSWITCH conversation tells what it must, however its bytes arrive and whatever is subscribed to."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialerd.pbx.causes import FREESWITCH_CAUSES, SIP_CAUSES
from dialerd.pbx.driver import Ended
from dialerd.pbx.esl_events import EVENTS, EslCalls
from dialerd.pbx.esl_stream import EslStream
from tests.golden import captures, esl_captures
from tests.support.effort import some

EXPECTED = captures.EXPECTED[esl_captures.VERSION]
RECORDINGS = esl_captures.names()
WITHOUT_CHANNEL = ["endpoint_unknown", "gateway_down", "gateway_unknown", "no_app"]


def received(name: str) -> bytes:
    return b"".join(turn.data for turn in esl_captures.conversation(name) if isinstance(turn, esl_captures.Heard))


def test_every_recording_has_its_expectation() -> None:
    assert sorted(EXPECTED) == RECORDINGS


@pytest.mark.parametrize("name", RECORDINGS)
def test_recording(name: str) -> None:
    told, stream = esl_captures.replay(name, [])
    assert captures.in_words(told) == EXPECTED[name]
    assert stream.garbage == 0


@pytest.mark.parametrize("name", some(WITHOUT_CHANNEL))
def test_two_reads_that_part_anywhere(name: str) -> None:
    data = received(name)
    whole = EslStream().feed(data)
    for cut in range(1, len(data)):
        stream = EslStream()
        assert stream.feed(data[:cut]) + stream.feed(data[cut:]) == whole


@pytest.mark.parametrize("name", some(RECORDINGS))
def test_byte_by_byte(name: str) -> None:
    told, _ = esl_captures.replay(name, list(range(len(received(name)))))
    assert captures.in_words(told) == EXPECTED[name]


@given(st.sampled_from(RECORDINGS), st.lists(st.integers(1, 60_000), max_size=30))
def test_split_anywhere(name: str, cuts: list[int]) -> None:
    told, _ = esl_captures.replay(name, cuts)
    assert captures.in_words(told) == EXPECTED[name]


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_subscription_is_enough(name: str) -> None:
    """What the driver does not subscribe to changes nothing."""
    calls, told = EslCalls(), []
    for turn in esl_captures.conversation(name):
        if isinstance(turn, esl_captures.Sent):
            esl_captures.place(calls, turn)
    for event in esl_captures.events(name):
        if event.headers["Event-Name"] in EVENTS:
            told += calls.hear(*event)
    told += [ended for call_id in calls.take_doubts() for ended in calls.settle(call_id, exists=False)]
    assert captures.in_words(told)[0].partition(" by ")[0] == EXPECTED[name][0].partition(" by ")[0]


@pytest.mark.parametrize("name", RECORDINGS)
def test_only_calls_without_a_channel_must_be_asked_about(name: str) -> None:
    calls = EslCalls()
    (call_id,) = {event.headers["Job-UUID"] for event in esl_captures.events(name) if "Job-UUID" in event.headers}
    calls.begin(esl_captures.order(call_id))
    for event in esl_captures.events(name):
        calls.hear(*event)
    assert calls.take_doubts() == ((call_id,) if name in WITHOUT_CHANNEL else ())
    assert calls.take_doubts() == ()


@pytest.mark.parametrize("name", [name for name in RECORDINGS if name.startswith("sip")])
def test_the_table_of_sip_statuses_is_what_freeswitch_does(name: str) -> None:
    told, _ = esl_captures.replay(name, [])
    ended = told[-1]
    assert isinstance(ended, Ended)
    assert ended.sip_status == int(name[3:6])
    assert SIP_CAUSES[ended.sip_status][1] == FREESWITCH_CAUSES[ended.hangup_text or ""]


def test_the_table_of_sip_statuses_is_what_asterisk_does() -> None:
    """Asterisk 22 tells the status along with the cause."""
    seen = set()
    for name in captures.names("22"):
        for event in captures.replay("22", name, [])[0]:
            if isinstance(event, Ended) and event.sip_status is not None:
                seen.add(event.sip_status)
                assert SIP_CAUSES[event.sip_status][0] == event.hangup_cause
    assert len(seen) >= 8


def test_the_oddities_that_the_parser_is_built_for_are_in_the_recordings() -> None:
    """A header twice, an event with a body of its own, and a job's word before the end of its channel."""
    data = received("noanswer_180_timeout")
    complete = data[data.index(b"Event-Name: CHANNEL_HANGUP_COMPLETE") :].partition(b"\n\n")[0]
    assert complete.count(b"\nHangup-Cause: NO_ANSWER\n") == 2
    names = [event.headers["Event-Name"] for event in esl_captures.events("noanswer_180_timeout")]
    job, end = names.index("BACKGROUND_JOB"), names.index("CHANNEL_HANGUP_COMPLETE")
    assert job < end
    assert esl_captures.events("noanswer_180_timeout")[job].body == "-ERR NO_ANSWER\n"


def test_both_pbxs_agree_on_what_they_both_recorded() -> None:
    """The same far end, the same outcome and fault: whichever PBX a call leaves through."""
    same = {
        "answered_far_hangs_up": "answer_far_hangup",
        "busy_486": "sip486_busy",
        "decline_603": "sip603_decline",
        "addrincomplete_484": "sip484_incomplete",
        "notfound_404": "sip404_unallocated",
        "tempunavail_480": "sip480_unavail",
        "unavail_503": "sip503_unavailable",
        "error_500": "sip500_servererr",
        "noanswer_timeout": "noanswer_180_timeout",
        "noanswer_100_only_timeout": "noanswer_100only_timeout",
        "noreply_timeout_4s": "noanswer_silence_timeout",
        "hangup_while_ringing": "ringing_uuid_kill",
        "trunk_unreachable_notqualified": "gateway_dead_port",
        "trunk_no_contact": "gateway_unknown",
        "invalid_tech": "endpoint_unknown",
        "answered_bridged_agent": "agent_bridged",
        "answered_queue": "queue_handed_over",
        "local_out_answered": "loopback_answered",
        "local_out_busy": "loopback_busy",
        "local_out_noanswer": "loopback_noanswer",
    }
    for (asterisk, freeswitch), version in itertools.product(same.items(), captures.VERSIONS):
        one, other = captures.expected(version)[asterisk][0], EXPECTED[freeswitch][0]
        assert one.partition(" cause ")[0] == other.partition(" cause ")[0], (asterisk, freeswitch)
