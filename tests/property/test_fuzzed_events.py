"""Several calls' conversations at once, cut, lost in part, repeated, mixed up, spoilt: each is told as if alone.

Never an exception, never two ends of a call, never an event of one call that another's messages told, and never more
memory than the calls and the bounds of the streams ask for.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from dialerd.pbx.ami_events import AmiCalls
from dialerd.pbx.ami_stream import AmiMessage, AmiStream, AmiStreamError
from dialerd.pbx.driver import Answered, CallEvent, Dialling, Ended, HandedOver, Ringing
from dialerd.pbx.esl_events import EslCalls
from dialerd.pbx.esl_stream import EslStream, EslStreamError, parse_event
from tests.golden import captures, esl_captures
from tests.support.effort import examples

T = TypeVar("T")

ORDER = (Dialling, Ringing, Answered, HandedOver, Ended)
BANNER = b"Asterisk Call Manager/11.0.0\r\n"
BOUND = 4096
"""Bytes of a message at most, in these tests."""
AMI = [(version, name) for version in captures.VERSIONS for name in captures.names(version)]
ESL = esl_captures.names()


def by_call(told: Sequence[CallEvent]) -> dict[str, list[CallEvent]]:
    """What was told of each call; each step at most once, in order, and nothing after the end."""
    calls: dict[str, list[CallEvent]] = defaultdict(list)
    for event in told:
        calls[event.call_id].append(event)
    for events in calls.values():
        ranks = [ORDER.index(type(event)) for event in events]
        assert ranks == sorted(set(ranks)), events
    return calls


def drawn_mess(data: st.DataObject, conversations: list[list[T]]) -> list[tuple[int, T]]:
    """All messages of some conversations with the index of each: shuffled among one another, lost in part, repeated."""
    left = [[(index, message) for message in messages] for index, messages in enumerate(conversations)]
    kept = [pair for pairs in left for pair in pairs if not data.draw(st.sampled_from([False] * 9 + [True]))]
    for _ in range(data.draw(st.integers(0, 6))):
        if kept:
            kept.insert(data.draw(st.integers(0, len(kept))), data.draw(st.sampled_from(kept)))
    twice: bool = data.draw(st.booleans())
    if kept and twice:
        # All of a call once more, as a link tells it that repeats itself.
        again = data.draw(st.sampled_from(kept))[0]
        kept += [pair for pair in kept if pair[0] == again]
    shuffle: bool = data.draw(st.booleans())
    if shuffle:
        shuffled: list[tuple[int, T]] = data.draw(st.permutations(kept))
        return shuffled
    mixed: list[tuple[int, T]] = []
    turns = [[pair for pair in kept if pair[0] == index] for index in range(len(conversations))]
    while any(turns):
        mixed.append(data.draw(st.sampled_from([each for each in turns if each])).pop(0))
    return mixed


# -- AMI --------------------------------------------------------------------------------------------------------------


def shaped(name: str) -> str:
    """An id of the shape of ours."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))


@functools.cache
def ami_recording(recording: tuple[str, str]) -> tuple[list[captures.Sent], list[AmiMessage]]:
    """A recording's actions and messages, with ids of our shape and ActionIDs of its own: two clients counted alike."""
    text = (captures.ROOT / recording[0] / f"{recording[1]}.txt").read_text("utf-8")
    ids = {each: shaped(each) for each in re.findall(r"ChannelId: (\S+)", text)}

    def own(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        renamed = []
        for name, value in headers:
            for theirs, ours in ids.items():
                value = value.replace(theirs, ours)  # noqa: PLW2901 - one id after the other
            renamed.append((name, f"{'/'.join(recording)}/{value}" if name == "ActionID" else value))
        return renamed

    turns = captures.conversation(*recording)
    sent = [captures.Sent(dict(own(turn.headers.items()))) for turn in turns if isinstance(turn, captures.Sent)]
    return sent, [AmiMessage(tuple(own(message.headers))) for message in captures.messages(*recording)]


def ami_bytes(messages: Sequence[AmiMessage]) -> bytes:
    lines = ("".join(f"{name}: {value}\r\n" for name, value in message.headers) + "\r\n" for message in messages)
    return "".join(lines).encode()


def ami_told(sent: Sequence[captures.Sent], messages: Sequence[AmiMessage], cuts: list[int]) -> list[CallEvent]:
    """What is told when these orders went out and these messages come, in reads cut at these places."""
    calls, stream = AmiCalls(), AmiStream()
    for action in sent:
        captures.place(calls, action)
    told: list[CallEvent] = []
    for piece in captures.pieces(BANNER + ami_bytes(messages), cuts):
        for message in stream.feed(piece):
            told += calls.take(message, 0.0)
    told += calls.settle(float("inf"))
    assert calls.due is None
    return told


@settings(max_examples=examples(150))
@given(st.lists(st.sampled_from(AMI), min_size=2, max_size=4, unique=True), st.lists(st.integers(0, 60_000)), st.data())
def test_calls_on_one_ami_link_do_not_touch_each_other(
    recordings: list[tuple[str, str]], cuts: list[int], data: st.DataObject
) -> None:
    recorded = [ami_recording(each) for each in recordings]
    mess = drawn_mess(data, [messages for _, messages in recorded])
    together = by_call(
        ami_told([action for sent, _ in recorded for action in sent], [message for _, message in mess], cuts)
    )
    alone: dict[str, list[CallEvent]] = {}
    for index, (sent, _) in enumerate(recorded):
        alone |= by_call(ami_told(sent, [message for theirs, message in mess if theirs == index], []))
    assert together == alone


@settings(max_examples=examples(150))
@given(
    st.lists(st.sampled_from(AMI), min_size=1, max_size=3, unique=True),
    st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 300), st.binary(max_size=60)), max_size=8),
    st.lists(st.integers(0, 60_000), max_size=30),
)
def test_spoilt_bytes_on_an_ami_link(
    recordings: list[tuple[str, str]], spoilt: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    """The one error that a stream may raise costs the link; what its bytes had told before is told, and not again."""
    recorded = [ami_recording(each) for each in recordings]
    calls, stream = AmiCalls(), AmiStream(BOUND)
    for sent, _ in recorded:
        for action in sent:
            captures.place(calls, action)
    placed = len(calls)
    told: list[CallEvent] = []
    spoilt_bytes = spoil(ami_bytes([message for _, messages in recorded for message in messages]), spoilt)
    for piece in captures.pieces(BANNER + spoilt_bytes, cuts):
        try:
            read = stream.feed(piece)
        except AmiStreamError:
            stream = AmiStream(BOUND)
            stream.feed(BANNER)
            calls.link_lost()
            read = []
        assert len(stream._buffer) <= BOUND + 4 + len(piece)
        for message in read:
            told += calls.take(message, 0.0)
    told += calls.settle(float("inf"))
    by_call(told)
    # Spoilt ids may look like another's calls; two listings without them, and nothing of them is left.
    calls.keep(())
    calls.keep(())
    assert len(calls) <= placed
    assert calls.due is None


def spoil(data: bytes, spoilt: list[tuple[int, int, bytes]]) -> bytes:
    """Put other bytes in the place of some."""
    for at, length, instead in spoilt:
        data = data[:at] + instead + data[at + length :]
    return data


# -- ESL --------------------------------------------------------------------------------------------------------------

Frame = bytes


@functools.cache
def esl_recording(name: str) -> tuple[list[esl_captures.Sent], list[Frame]]:
    """A recording's commands, and the bodies of its events."""
    turns = esl_captures.conversation(name)
    stream = EslStream()
    heard = [frame for turn in turns if isinstance(turn, esl_captures.Heard) for frame in stream.feed(turn.data)]
    bodies = [frame.body for frame in heard if frame.content_type == "text/event-plain"]
    return [turn for turn in turns if isinstance(turn, esl_captures.Sent)], bodies


def esl_bytes(bodies: Sequence[Frame]) -> bytes:
    head = b"Content-Length: %d\nContent-Type: text/event-plain\n\n%b"
    return b"".join(head % (len(body), body) for body in bodies)


def esl_told(sent: Sequence[esl_captures.Sent], bodies: Sequence[Frame], cuts: list[int]) -> list[CallEvent]:
    calls, stream = EslCalls(), EslStream()
    for command in sent:
        esl_captures.place(calls, command)
    told: list[CallEvent] = []
    for piece in captures.pieces(esl_bytes(bodies), cuts) if bodies else ():
        for frame in stream.feed(piece):
            told += calls.hear(*parse_event(frame.body))
    for call_id in calls.take_doubts():
        told += calls.settle(call_id, exists=False)
    return told


@settings(max_examples=examples(100))
@given(st.lists(st.sampled_from(ESL), min_size=2, max_size=3, unique=True), st.lists(st.integers(0, 60_000)), st.data())
def test_calls_on_one_esl_link_do_not_touch_each_other(names: list[str], cuts: list[int], data: st.DataObject) -> None:
    recorded = [esl_recording(each) for each in names]
    mess = drawn_mess(data, [bodies for _, bodies in recorded])
    together = by_call(esl_told([each for sent, _ in recorded for each in sent], [body for _, body in mess], cuts))
    alone: dict[str, list[CallEvent]] = {}
    for index, (sent, _) in enumerate(recorded):
        alone |= by_call(esl_told(sent, [body for theirs, body in mess if theirs == index], []))
    assert together == alone


@settings(max_examples=examples(100))
@given(
    st.lists(st.sampled_from(ESL), min_size=1, max_size=2, unique=True),
    st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 300), st.binary(max_size=60)), max_size=8),
    st.lists(st.integers(0, 60_000), max_size=30),
)
def test_spoilt_bytes_on_an_esl_link(names: list[str], spoilt: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    recorded = [esl_recording(each) for each in names]
    bound = 64 * 1024
    calls, stream = EslCalls(), EslStream(bound)
    for sent, _ in recorded:
        for command in sent:
            esl_captures.place(calls, command)
    placed = len(calls)
    told: list[CallEvent] = []
    data = spoil(esl_bytes([body for _, bodies in recorded for body in bodies]), spoilt)
    for piece in captures.pieces(data, cuts) if data else ():
        try:
            frames = stream.feed(piece)
        except EslStreamError:
            stream = EslStream(bound)
            calls.link_lost()
            frames = []
        assert len(stream._buffer) <= 2 * bound + len(piece)
        for frame in frames:
            told += calls.hear(*parse_event(frame.body))
    for call_id in calls.take_doubts():
        told += calls.settle(call_id, exists=False)
    by_call(told)
    calls.keep(())
    calls.keep(())
    assert len(calls) <= placed


def test_the_recordings_are_of_calls_of_their_own() -> None:
    """Or telling them apart would prove nothing."""
    ami = [(captures.ROOT / version / f"{name}.txt").read_text("utf-8") for version, name in AMI]
    esl = [(esl_captures.ROOT / f"{name}.txt").read_text("utf-8") for name in ESL]
    ids = [set(re.findall(r"ChannelId: (\S+)", text)) for text in ami]
    ids += [set(re.findall(r"origination_uuid=([0-9a-f-]+)", text)) for text in esl]
    assert sum(map(len, ids)) == len(set().union(*ids)) > 60
