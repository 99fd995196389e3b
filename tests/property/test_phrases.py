"""Whatever a PBX says, and however much: what is told of it is a line of text that every store can take."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialerd.pbx.ami_events import AmiCalls
from dialerd.pbx.ami_stream import AmiStream
from dialerd.pbx.driver import Ended
from dialerd.pbx.esl_events import EslCalls
from dialerd.pbx.esl_gateways import read_gateway, read_gateway_event
from dialerd.pbx.esl_status import read_status
from dialerd.pbx.esl_stream import EslFrame, parse_event
from dialerd.pbx.phrase import MOST, NOT_TEXT, phrase
from tests.support.asterisk_bench import CALL
from tests.support.freeswitch_bench import an_order

BANNER = b"Asterisk Call Manager/11.0.0\r\n"
SAID = st.text() | st.text(st.sampled_from("a \0\n\r\t\x1b\x85\u2028\ufffd"), max_size=400)


def storable(text: str | None) -> bool:
    """Whether PostgreSQL takes it, a log line shows it in one line, and a page has room for it."""
    return text is None or (
        len(text) <= MOST and not any(unicodedata.category(char) in NOT_TEXT for char in text) and text == text.strip()
    )


@given(st.text(st.characters()))
def test_a_phrase_is_a_line_of_text(said: str) -> None:
    assert storable(phrase(said))
    assert phrase(phrase(said)) == phrase(said)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=MOST))
def test_what_is_one_already_stays_as_it_is(said: str) -> None:
    assert phrase(said) == said.strip()


def test_what_is_no_text_is_a_blank_and_what_is_too_long_is_cut() -> None:
    assert phrase(" Normal\0Clearing\r\n") == "Normal Clearing"
    assert phrase("é" * 5_000_000) == "é" * MOST


def ami_ends(said: str) -> list[Ended]:
    """The ends of a call that hung up, and of one that was refused late, in these words."""
    lines = said.replace("\r\n", "\r")  # what ends a header is not in it
    messages = (
        f"Event: Newchannel\r\nUniqueid: {CALL}\r\nChannel: PJSIP/a-1\r\n\r\n"
        f"Event: Hangup\r\nUniqueid: {CALL}\r\nChannelState: 6\r\nCause: 16\r\nCause-txt: {lines}\r\n\r\n"
        f"Response: Error\r\nActionID: o:late\r\nMessage: {lines}\r\n\r\n"
    )
    calls, stream = AmiCalls(), AmiStream(1 << 22)
    calls.placed(CALL, f"o:{CALL}")
    calls.placed("late", "o:late")
    told = [
        event
        for message in stream.feed(BANNER + messages.encode(errors="surrogatepass"))
        for event in calls.take(message, 0.0)
    ]
    return [event for event in told if isinstance(event, Ended)]


def esl_ends(said: str) -> list[Ended]:
    """The ends of a call whose channel hung up, and of one whose job failed, in these words."""
    calls = EslCalls()
    for call_id in (CALL, "job"):
        calls.begin(an_order(call_id))
    cause = quote(said.encode(errors="surrogatepass"))
    hangup = f"Event-Name: CHANNEL_HANGUP_COMPLETE\nUnique-ID: {CALL}\nHangup-Cause: x{cause}\n\n"
    body = f"-ERR {said}".encode(errors="surrogatepass")
    job = f"Event-Name: BACKGROUND_JOB\nJob-UUID: job\nJob-Command: originate\nContent-Length: {len(body)}\n\n"
    told = calls.hear(*parse_event(hangup.encode()))
    told += calls.hear(*parse_event(job.encode() + body))
    told += [event for call_id in calls.take_doubts() for event in calls.settle(call_id, exists=False)]
    return [event for event in told if isinstance(event, Ended)]


@pytest.mark.parametrize("ends", [ami_ends, esl_ends])
@given(said=SAID)
def test_the_words_of_an_end_can_be_kept(ends: object, said: str) -> None:
    told = ends(said)  # type: ignore[operator]
    assert len(told) == 2
    assert all(storable(end.hangup_text) for end in told)


@pytest.mark.parametrize("ends", [ami_ends, esl_ends])
def test_however_much_is_said_little_is_kept(ends: object) -> None:
    for end in ends("x\0" * 500_000):  # type: ignore[operator]
        assert storable(end.hangup_text)
        assert len(end.hangup_text) >= MOST - 1


@given(said=SAID)
def test_the_words_of_a_trunk_and_of_the_pbx_itself_can_be_kept(said: str) -> None:
    event = {"Event-Subclass": "sofia::gateway_state", "Gateway": "a", "Ping-Status": "DOWN"}
    gateway = read_gateway_event(event | {"State": said, "Status": "403", "Phrase": said})
    assert gateway is not None
    assert storable(gateway.reason)
    assert storable(gateway.said)
    for answer in (said, f"State   \t{said}\nStatus  \tDOWN{said}\n"):
        reason = read_gateway("a", answer).reason.removeprefix("gateway a: ")
        assert storable(reason)
    status = read_status(f"FreeSWITCH (Version 1.10{said} git) is ready")
    assert status is None or storable(status.version)
    assert storable(EslFrame({}, said.encode(errors="surrogatepass")).phrase)
