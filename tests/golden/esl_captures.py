"""Recorded event socket conversations with a real FreeSWITCH, and what they tell when they are replayed.

A recording's lines begin with ``<<< `` (from FreeSWITCH) or ``>>> `` (from the client, an empty one after each
command), in the order in which they crossed the wire; each stands for its text and a line feed. CHANNEL_STATE,
CHANNEL_CALLSTATE, CHANNEL_ORIGINATE and CHANNEL_OUTGOING, which the driver does not read, are left out. Where a frame's
body ends without a line feed, the recording has one more.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from dialerd.pbx.driver import CallEvent, Originate, Place
from dialerd.pbx.esl_events import EslCalls, job_id
from dialerd.pbx.esl_stream import EslEvent, EslFrame, EslStream, parse_event
from tests.golden.captures import pieces

ROOT = Path(__file__).parent / "esl"
VERSION = "freeswitch-1.10"

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@dataclass(frozen=True)
class Heard:
    """What FreeSWITCH sent, from the client's last command to its next."""

    data: bytes


@dataclass(frozen=True)
class Sent:
    """A command of the client, with its header lines, without the closing empty line."""

    command: str


def names() -> list[str]:
    return sorted(path.stem for path in ROOT.glob("*.txt"))


def conversation(name: str, root: Path = ROOT) -> list[Heard | Sent]:
    """Read a recording, in order, with the ids that dialerd would have given: the job's is the call's."""
    text = (root / f"{name}.txt").read_text(encoding="utf-8")
    for job, call in zip(re.findall(rf"<<< Job-UUID: ({_UUID})", text), _call_ids(text), strict=False):
        text = text.replace(job, job_id(call))
    turns: list[Heard | Sent] = []
    heard: list[str] = []
    command: list[str] = []
    for line in text.removesuffix("\n").split("\n"):
        mark, said = line[:4], line[4:]
        if mark == "<<< ":
            heard.append(said + "\n")
        elif said:
            command.append(said)
        else:
            turns += [Heard("".join(heard).encode()), Sent("\n".join(command))]
            heard, command = [], []
    return [*turns, Heard("".join(heard).encode())]


def _call_ids(text: str) -> list[str]:
    return re.findall(rf"^>>> bgapi originate {{origination_uuid=({_UUID})", text, re.MULTILINE)


def order(call_id: str) -> Originate:
    """An order as the driver would have had it; only its id is of importance here."""
    return Originate(call_id, "sofia/gateway/trunk/1001", None, Place(application="park"), 5.0, 60)


def place(calls: EslCalls, sent: Sent) -> None:
    """Let the follower know of the client's command, as the driver would."""
    if found := re.match(rf"bgapi originate {{origination_uuid=({_UUID})", sent.command):
        calls.begin(order(found[1]))
    elif found := re.match(rf"(?:api uuid_kill|sendmsg) ({_UUID})", sent.command):
        calls.asked(found[1])


def event_of(frame: EslFrame) -> EslEvent | None:
    """The event in a frame. One recording is in JSON, which the driver never asks for; its events are the same."""
    if frame.content_type == "text/event-plain":
        return parse_event(frame.body)
    if frame.content_type == "text/event-json":
        headers = json.loads(frame.body)
        return EslEvent(headers, headers.pop("_body", ""))
    return None


def replay(name: str, cuts: list[int]) -> tuple[list[CallEvent], EslStream]:
    """Replay a recording, its reads cut at these places of each turn. No channel that is asked about exists."""
    calls, stream, told = EslCalls(), EslStream(), list[CallEvent]()
    for turn in conversation(name):
        if isinstance(turn, Sent):
            place(calls, turn)
            continue
        for piece in pieces(turn.data, cuts):
            for frame in stream.feed(piece):
                if (event := event_of(frame)) is not None:
                    told += calls.hear(*event)
        for call_id in calls.take_doubts():
            told += calls.settle(call_id, exists=False)
    assert not len(calls)
    return told, stream


def events(name: str) -> list[EslEvent]:
    """All events of a recording, whole."""
    stream = EslStream()
    frames = [frame for turn in conversation(name) if isinstance(turn, Heard) for frame in stream.feed(turn.data)]
    return [event for frame in frames if (event := event_of(frame)) is not None]
