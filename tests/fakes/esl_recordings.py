"""The recorded conversations with a real FreeSWITCH, cut into events that can be told again with other ids."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from dialerd.pbx.esl_stream import EslStream, parse_event
from tests.golden.esl_captures import Heard, Sent, conversation

_DUMP = Path(__file__).parents[1] / "golden" / "esl_answers" / "uuid_dump.txt"

REFUSALS = {
    403: "sip403_forbidden",
    404: "sip404_unallocated",
    408: "sip408_reqtimeout",
    410: "sip410_gone",
    480: "sip480_unavail",
    484: "sip484_incomplete",
    486: "sip486_busy",
    488: "sip488_notacceptable",
    500: "sip500_servererr",
    502: "sip502_badgw",
    503: "sip503_unavailable",
    504: "sip504_gwtimeout",
    600: "sip600_busyall",
    603: "sip603_decline",
    604: "sip604_nowhere",
    607: "sip607_unwanted",
}
"""The recording of each final refusal."""


@functools.cache
def _events(recording: str) -> tuple[str, dict[str, bytes]]:
    """The call's id in a recording, and its events by their names, the first of each."""
    turns = conversation(recording)
    found: dict[str, bytes] = {}
    call_id = ""
    stream = EslStream()
    for turn in turns:
        if isinstance(turn, Sent):
            if turn.command.startswith("bgapi originate {origination_uuid="):
                call_id = turn.command.removeprefix("bgapi originate {origination_uuid=")[:36]
            continue
        assert isinstance(turn, Heard)
        for frame in stream.feed(turn.data):
            if frame.content_type == "text/event-plain":
                headers = parse_event(frame.body).headers
                found.setdefault(headers["Event-Name"], frame.body)
    assert call_id, f"no order in {recording}"
    return call_id, found


def event(recording: str, name: str, call_id: str) -> bytes:
    """An event of a recording as the call with this id would have it: its id, its job's id and its mark are put in."""
    recorded, events = _events(recording)
    return (
        events[name]
        .replace(b"att-" + recorded[:8].encode(), call_id.encode())
        .replace(recorded.encode(), call_id.encode())
    )


def bridge(call_id: str, other_id: str) -> bytes:
    """A queue's CHANNEL_BRIDGE: of this call, and the leg of the member who took it."""
    recorded = event("queue_handed_over", "CHANNEL_BRIDGE", call_id)
    member = parse_event(recorded).headers["Bridge-B-Unique-ID"]
    return recorded.replace(member.encode(), other_id.encode())


@functools.cache
def recorded_dump() -> bytes:
    """What a real FreeSWITCH 1.10.12 answered to ``uuid_dump``, right after the call's answer."""
    return _DUMP.read_bytes()


def dump(call_id: str, callstate: str, moments: Mapping[str, int]) -> bytes:
    """The answer to ``uuid_dump`` as this call would have it. ``moments``: ``Answered``, …, in µs since 1970, or 0."""
    recorded = recorded_dump()
    told = recorded.replace(parse_event(recorded).headers["Unique-ID"].encode(), call_id.encode())
    changes = {"Channel-Call-State": callstate, "Answer-State": "answered" if moments["Answered"] else "ringing"}
    changes |= {f"Caller-Channel-{name}-Time": str(moment) for name, moment in moments.items()}
    for name, value in changes.items():
        told, count = re.subn(rb"(?m)^%s: .*$" % name.encode(), f"{name}: {value}".encode(), told)
        assert count == 1, name
    return told


def frame(body: bytes) -> bytes:
    """Write an event as mod_event_socket does."""
    return f"Content-Length: {len(body)}\nContent-Type: text/event-plain\n\n".encode() + body
