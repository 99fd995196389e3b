"""Whatever the order and number of a call's events, and whatever bytes arrive: one end, and the same verdict."""

from __future__ import annotations

import functools
from itertools import pairwise
from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st

from dialerd.pbx.driver import Answered, CallEvent, Dialling, Ended, HandedOver, Ringing
from dialerd.pbx.esl_events import EVENTS, EslCalls
from dialerd.pbx.esl_stream import EslEvent, EslStream, EslStreamError, parse_event
from tests.golden import esl_captures
from tests.golden.captures import pieces

WITH_CHANNEL = [
    name
    for name in esl_captures.names()
    if name not in ("endpoint_unknown", "gateway_down", "gateway_unknown", "no_app")
]
ORDER = [Dialling, Ringing, Answered, HandedOver, Ended]

NAME = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,12}", fullmatch=True)
VALUE = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
HEADERS = st.dictionaries(NAME.filter(lambda name: name != "Content-Length"), VALUE, min_size=1, max_size=6)
BODY = st.binary(max_size=40)


@functools.cache
def recorded(name: str) -> tuple[list[esl_captures.Sent], list[EslEvent], list[CallEvent]]:
    """A recording's commands, its events, and what it tells in its own order."""
    sent = [turn for turn in esl_captures.conversation(name) if isinstance(turn, esl_captures.Sent)]
    return sent, esl_captures.events(name), esl_captures.replay(name, [])[0]


def written(headers: dict[str, str], body: bytes = b"") -> bytes:
    """An event as FreeSWITCH writes it."""
    lines = [f"{name}: {quote(value)}" for name, value in headers.items()]
    return "\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def framed(event: bytes) -> bytes:
    return b"Content-Length: %d\nContent-Type: text/event-plain\n\n%b" % (len(event), event)


@given(st.sampled_from(WITH_CHANNEL), st.data())
def test_any_order_and_any_repetition(name: str, data: st.DataObject) -> None:
    """Events of one channel may come in any order and several times: FreeSWITCH hands them on by many threads."""
    sent, events, in_order = recorded(name)
    repeated = data.draw(st.lists(st.sampled_from(events), max_size=10))
    calls = EslCalls()
    for command in sent:
        esl_captures.place(calls, command)
    told = [event for heard in data.draw(st.permutations(events + repeated)) for event in calls.hear(*heard)]
    assert told == in_order
    assert (len(calls), calls.take_doubts()) == (0, ())


@given(st.sampled_from(WITH_CHANNEL), st.sets(st.integers(0, 40), max_size=40))
def test_lost_events_never_change_the_end(name: str, lost: set[int]) -> None:
    """Whatever else was lost, CHANNEL_HANGUP_COMPLETE alone tells the same end."""
    sent, events, in_order = recorded(name)
    calls = EslCalls()
    for command in sent:
        esl_captures.place(calls, command)
    told = []
    for number, event in enumerate(events):
        if number not in lost or event.headers["Event-Name"] == "CHANNEL_HANGUP_COMPLETE":
            told += calls.hear(*event)
    assert told == in_order


@given(st.lists(st.tuples(HEADERS, BODY), max_size=6), st.lists(st.integers(1, 2000), max_size=20))
def test_what_is_written_is_read_however_it_is_cut(events: list[tuple[dict[str, str], bytes]], cuts: list[int]) -> None:
    data = b"".join(framed(written(headers, body)) for headers, body in events)
    stream = EslStream()
    read = [parse_event(frame.body) for piece in pieces(data, cuts) for frame in stream.feed(piece)] if data else []
    assert [event.body for event in read] == [body.decode(errors="replace") for _, body in events]
    for event, (headers, body) in zip(read, events, strict=True):
        assert event.headers == {**headers, "Content-Length": str(len(body))}
    assert stream.garbage == 0


@given(VALUE)
@example("\nHangup-Cause: USER_BUSY")
@example("\r\n\r\nEvent-Name: CHANNEL_HANGUP_COMPLETE")
def test_a_value_from_outside_changes_nothing(value: str) -> None:
    """What a caller's name or a contact's field holds stays in its header."""
    headers = {
        "Event-Name": "CHANNEL_PROGRESS",
        "Caller-Callee-ID-Name": value,
        "Unique-ID": "11111111-2222-3333-4444-555555555555",
        "variable_CONTACT_NOTE": value,
    }
    calls = EslCalls()
    calls.begin(esl_captures.order(headers["Unique-ID"]))
    read = parse_event(written(headers))
    assert read.headers == {**headers, "Content-Length": "0"}
    assert calls.hear(*read) == [Dialling(headers["Unique-ID"]), Ringing(headers["Unique-ID"])]


@given(st.lists(st.binary(max_size=80), max_size=10))
def test_any_bytes_are_frames_or_the_one_known_error(chunks: list[bytes]) -> None:
    stream, calls = EslStream(), EslCalls()
    try:
        for chunk in chunks:
            for frame in stream.feed(chunk):
                assert calls.hear(*parse_event(frame.body)) == []
    except EslStreamError:
        pass


@given(st.data())
def test_damaged_bytes_never_raise_and_never_end_a_call_twice(data: st.DataObject) -> None:
    """A real conversation with bytes changed, doubled or missing: whatever is told is in order, and ends once."""
    name = data.draw(st.sampled_from(WITH_CHANNEL))
    sent, _, _ = recorded(name)
    turns = [turn.data for turn in esl_captures.conversation(name) if isinstance(turn, esl_captures.Heard)]
    wire = bytearray(b"".join(turns))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(wire) - 1))
        wire[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    calls, stream, told = EslCalls(), EslStream(), list[CallEvent]()
    for command in sent:
        esl_captures.place(calls, command)
    try:
        for frame in stream.feed(bytes(wire)):
            told += calls.hear(*parse_event(frame.body))
    except EslStreamError:
        pass
    kinds = [type(event) for event in told]
    assert all(ORDER.index(one) < ORDER.index(next_one) for one, next_one in pairwise(kinds))


@given(st.sampled_from([*EVENTS, "CUSTOM"]), HEADERS, VALUE)
def test_events_of_nobody_tell_nothing(name: str, headers: dict[str, str], body: str) -> None:
    calls = EslCalls()
    calls.begin(esl_captures.order("11111111-2222-3333-4444-555555555555"))
    assert calls.hear({**headers, "Event-Name": name}, body) == []
    assert len(calls) == 1
