"""Recorded AMI conversations with real Asterisks, and what they tell when they are replayed.

A recording's lines begin with ``<<< `` (from Asterisk) or ``>>> `` (from the client), in the order in which they
crossed the wire. Recordings under tests/golden/ami hold every event class but a few chatty ones that no driver reads.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from dialerd.pbx.ami_events import AmiCalls
from dialerd.pbx.ami_stream import AmiMessage, AmiStream
from dialerd.pbx.driver import CallEvent, Ended

ROOT = Path(__file__).parent / "ami"
VERSIONS = ("22", "16")
EXPECTED: dict[str, dict[str, list[str]]] = tomllib.loads(Path(__file__).with_name("expected.toml").read_text("utf-8"))
"""What each recording must tell, of both kinds of PBX."""


def expected(version: str) -> dict[str, list[str]]:
    return EXPECTED[f"asterisk-{version}"]


@dataclass(frozen=True)
class Heard:
    """What Asterisk sent, from the client's last action to its next."""

    data: bytes


@dataclass(frozen=True)
class Sent:
    """An action of the client."""

    headers: dict[str, str]


def names(version: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / version).glob("*.txt"))


def conversation(version: str, name: str) -> list[Heard | Sent]:
    """Read a recording, in order."""
    turns: list[Heard | Sent] = []
    heard: list[str] = []
    action: dict[str, str] = {}
    for line in (ROOT / version / f"{name}.txt").read_text(encoding="utf-8").split("\n"):
        mark, text = line[:4], line[4:]
        if mark == "<<< ":
            heard.append(text + "\r\n")
            continue
        if mark != ">>> ":
            continue
        if text:
            key, _, value = text.partition(": ")
            action[key] = value
            continue
        turns += [Heard("".join(heard).encode()), Sent(action)]
        heard, action = [], {}
    return [*turns, Heard("".join(heard).encode())]


def place(calls: AmiCalls, sent: Sent) -> None:
    """Let the follower know of the client's action, as the driver would."""
    headers = sent.headers
    if headers["Action"] == "Originate" and headers["ChannelId"] not in calls:
        calls.placed(headers["ChannelId"], headers["ActionID"], "Application" in headers)
    if headers["Action"] == "Hangup":
        calls.asked(headers["Channel"])


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(data)), len(data)]
    for begin, end in pairwise(edges):
        yield data[begin:end]


def replay(version: str, name: str, cuts: list[int]) -> tuple[list[CallEvent], AmiStream]:
    """Replay a recording, its reads cut at these places of each turn; at the end nothing is waited for any longer."""
    calls, stream, told = AmiCalls(), AmiStream(), list[CallEvent]()
    for turn in conversation(version, name):
        if isinstance(turn, Sent):
            place(calls, turn)
            continue
        for piece in pieces(turn.data, cuts):
            for message in stream.feed(piece):
                told += calls.take(message, 0.0)
    told += calls.settle(float("inf"))
    assert calls.due is None
    return told, stream


def messages(version: str, name: str) -> list[AmiMessage]:
    """All messages of a recording, whole."""
    stream = AmiStream()
    return [
        message for turn in conversation(version, name) if isinstance(turn, Heard) for message in stream.feed(turn.data)
    ]


def in_words(told: list[CallEvent]) -> list[str]:
    """Write down what was told: a line per call, in the order of their first events."""
    lines: dict[str, str] = {}
    for event in told:
        words = type(event).__name__.lower()
        if isinstance(event, Ended):
            sip = event.sip_status or "-"
            by = event.hung_up_by.value if event.hung_up_by else "-"
            cause = event.hangup_cause or "-"
            verdict = f"{event.verdict.outcome.value}/{event.verdict.fault.value}"
            words = f"{verdict} cause {cause} sip {sip} by {by}"
            words += "" if event.channel else " no channel"
            words += " place refused" if event.place_refused else ""
        lines[event.call_id] = f"{lines[event.call_id]}, {words}" if event.call_id in lines else words
    return list(lines.values())
