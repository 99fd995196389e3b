"""Whatever the order and number of a call's events, and whatever bytes arrive: one end, and the same verdict."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialerd.pbx.ami_events import AmiCalls
from dialerd.pbx.ami_stream import AmiMessage, AmiStream, AmiStreamError
from dialerd.pbx.driver import Answered, CallEvent, Dialling, Ended, HandedOver, Ringing
from tests.golden import captures

ONE_CALL = [
    (version, name)
    for version in captures.VERSIONS
    for name in captures.names(version)
    if not name.startswith("core_re") and name != "invalid_context"
]
ORDER = [Dialling, Ringing, Answered, HandedOver, Ended]
BANNER = b"Asterisk Call Manager/11.0.0\r\n"

NAME = st.from_regex(r"[A-Za-z][A-Za-z0-9()-]{0,12}", fullmatch=True)
VALUE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30)
MESSAGE = st.builds(
    lambda event, headers: AmiMessage((("Event", event), *headers)), NAME, st.lists(st.tuples(NAME, VALUE), max_size=6)
)


@functools.cache
def recorded(version: str, name: str) -> tuple[list[captures.Sent], list[AmiMessage], list[CallEvent]]:
    """A recording's client actions, its events, and what it tells in its own order."""
    sent = [turn for turn in captures.conversation(version, name) if isinstance(turn, captures.Sent)]
    events = [message for message in captures.messages(version, name) if message.event]
    return sent, events, captures.replay(version, name, [])[0]


def tell(sent: list[captures.Sent], events: list[AmiMessage]) -> list[CallEvent]:
    calls = AmiCalls()
    for action in sent:
        captures.place(calls, action)
    told = [event for message in events for event in calls.take(message, 0.0)]
    told += calls.settle(float("inf"))
    told += [event for message in events for event in calls.take(message, 1.0)]  # all of it once more
    assert not len(calls)
    assert calls.due is None
    return told


@given(st.sampled_from(ONE_CALL), st.data())
def test_any_order_and_any_repetition(recording: tuple[str, str], data: st.DataObject) -> None:
    """After Newchannel, the events of a call may come in any order and several times."""
    sent, events, in_order = recorded(*recording)
    repeated = data.draw(st.lists(st.sampled_from(events), max_size=10))
    shuffled = data.draw(st.permutations(events + repeated))
    shuffled.sort(key=lambda message: message.event != "Newchannel")
    told = tell(sent, shuffled)
    assert [type(event) for event in told] == sorted({type(event) for event in told}, key=ORDER.index)
    ended, expected = told[-1], in_order[-1]
    assert isinstance(ended, Ended)
    assert isinstance(expected, Ended)
    assert (ended.verdict, ended.channel, ended.hangup_cause) == (
        expected.verdict,
        expected.channel,
        expected.hangup_cause,
    )
    assert any(isinstance(event, Answered) for event in told) == any(isinstance(event, Answered) for event in in_order)


@given(st.sampled_from(ONE_CALL), st.integers(0, 60))
def test_events_that_never_came(recording: tuple[str, str], missing: int) -> None:
    """Without one of its events a call is told once at most, in order, and is never answered out of the blue."""
    sent, events, in_order = recorded(*recording)
    missing %= len(events)
    calls = AmiCalls()
    for action in sent:
        captures.place(calls, action)
    told = [event for message in events[:missing] + events[missing + 1 :] for event in calls.take(message, 0.0)]
    told += calls.settle(float("inf"))
    assert [type(event) for event in told] == sorted({type(event) for event in told}, key=ORDER.index)
    was_answered = any(isinstance(event, Answered) for event in in_order)
    assert was_answered or not any(isinstance(event, Answered) for event in told)


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes(reads: list[bytes]) -> None:
    """Any bytes become messages or the one known error, and no message tells anything of a call that nobody placed."""
    stream, calls = AmiStream(max_message=1000), AmiCalls()
    try:
        for read in [BANNER, *reads]:
            for message in stream.feed(read):
                assert calls.take(message, 0.0) == []
    except AmiStreamError:
        assert sum(map(len, reads)) > 1000


@given(st.binary(max_size=300))
def test_back_in_step_after_rubbish(rubbish: bytes) -> None:
    """The next well-formed message after rubbish and an empty line is read."""
    stream = AmiStream()
    read = stream.feed(BANNER + rubbish + b"\r\n\r\nEvent: Hangup\r\nCause: 17\r\n\r\n")
    assert read[-1] == AmiMessage((("Event", "Hangup"), ("Cause", "17")))


@given(st.binary(max_size=100).filter(lambda data: not data.startswith(b"Asterisk Call Manager/"[: len(data)])))
def test_a_stranger_is_told_at_its_first_line(data: bytes) -> None:
    with pytest.raises(AmiStreamError, match="no Asterisk manager"):
        AmiStream().feed(data)


@given(st.lists(MESSAGE, max_size=6), st.lists(st.integers(0, 2000), max_size=12), st.integers(0, 2))
def test_messages_survive_every_cut(messages: list[AmiMessage], cuts: list[int], blanks: int) -> None:
    """Repeated headers, characters of several bytes and blank lines too many, through reads of any length."""
    data = BANNER + b"".join(
        "".join(f"{name}: {value}\r\n" for name, value in message.headers).encode() + b"\r\n" + b"\r\n" * blanks
        for message in messages
    )
    stream = AmiStream()
    assert [message for piece in captures.pieces(data, cuts) for message in stream.feed(piece)] == messages
    assert stream.garbage == 0
    assert stream.version == "11.0.0"


@given(st.integers(0, 50), st.integers(1, 64))
def test_a_message_without_end_is_bounded(headers: int, size: int) -> None:
    stream = AmiStream(max_message=256)
    content = b"\r\n".join([b"Event: E", *[b"X: " + b"y" * size] * headers])
    stream.feed(BANNER)

    def drip() -> list[AmiMessage]:
        return [message for byte in content + b"\r\n\r\n" for message in stream.feed(bytes([byte]))]

    if len(content) > 256:
        with pytest.raises(AmiStreamError, match="256 bytes"):
            drip()
    else:
        assert [len(message.headers) for message in drip()] == [1 + headers]
