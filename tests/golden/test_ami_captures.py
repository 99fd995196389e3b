"""Every recorded AMI conversation tells what it must, however its bytes arrive and whatever is filtered out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialerd.pbx.ami_events import AmiCalls
from dialerd.pbx.ami_stream import AmiStream
from tests.golden import captures

RECORDINGS = [(version, name) for version in captures.VERSIONS for name in captures.names(version)]
SPLIT_EVERYWHERE = ["busy_486", "invalid_endpoint", "noanswer_timeout"]

LEAST_EVENTS = frozenset(
    {
        *("OriginateResponse", "Newchannel", "Newstate", "DialState", "DialEnd", "Hangup"),
        *("UserEvent", "AgentConnect", "FullyBooted", "Shutdown"),
    }
)
"""The events that the event filter of asterisk-conf lets through."""


def test_every_recording_has_its_expectation() -> None:
    assert [
        (version, name) for version in captures.VERSIONS for name in sorted(captures.expected(version))
    ] == RECORDINGS


@pytest.mark.parametrize(("version", "name"), RECORDINGS)
def test_recording(version: str, name: str) -> None:
    told, stream = captures.replay(version, name, [])
    assert captures.in_words(told) == captures.expected(version)[name]
    assert stream.garbage == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SPLIT_EVERYWHERE)
@pytest.mark.parametrize("version", captures.VERSIONS)
def test_split_at_every_byte(version: str, name: str) -> None:
    """Byte by byte, and in two reads at each place: the messages are the same."""
    data = b"".join(turn.data for turn in captures.conversation(version, name) if isinstance(turn, captures.Heard))
    whole = AmiStream().feed(data)
    dripping = AmiStream()
    assert [message for byte in data for message in dripping.feed(bytes([byte]))] == whole
    for cut in range(1, len(data)):
        stream = AmiStream()
        assert stream.feed(data[:cut]) + stream.feed(data[cut:]) == whole
    told, _ = captures.replay(version, name, list(range(len(data))))
    assert captures.in_words(told) == captures.expected(version)[name]


@given(st.sampled_from(RECORDINGS), st.lists(st.integers(1, 20_000), max_size=30))
def test_split_anywhere(recording: tuple[str, str], cuts: list[int]) -> None:
    version, name = recording
    told, _ = captures.replay(version, name, cuts)
    assert captures.in_words(told) == captures.expected(version)[name]


@pytest.mark.parametrize(("version", "name"), RECORDINGS)
def test_filtered_events_tell_the_same_outcome(version: str, name: str) -> None:
    """Who hung up may go unheard through the filter; everything else does not."""
    calls, stream, told = AmiCalls(), AmiStream(), []
    for turn in captures.conversation(version, name):
        if isinstance(turn, captures.Sent):
            captures.place(calls, turn)
            continue
        for message in stream.feed(turn.data):
            if message.response or message.event in LEAST_EVENTS:
                told += calls.take(message, 0.0)
    told += calls.settle(float("inf"))
    without_by = [line.partition(" by ")[0] for line in captures.in_words(told)]
    assert without_by == [line.partition(" by ")[0] for line in captures.expected(version)[name]]


def test_a_repeated_header_and_a_blank_line_too_many_are_in_the_recordings() -> None:
    """The two oddities that the parser is built for do occur in real life."""
    headers = [message.headers for message in captures.messages("22", "answered_bridged_agent")]
    assert any(first == second for lines in headers for first, second in pairwise(name for name, _ in lines))
    turns = captures.conversation("22", "answered_bridged_agent")
    assert any(b"\r\n\r\n\r\n" in turn.data for turn in turns if isinstance(turn, captures.Heard))
