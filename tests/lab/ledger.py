"""What the far ends saw of every call, read from SIPp's message log: the tests count here, not in the daemon."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

Side = Literal["caller", "callee"]

_MESSAGE = re.compile(
    rb"^-{20,} (?P<stamp>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6})\n"
    rb"\w+ message (?P<way>received|sent) [\[(](?P<length>\d+)\]? bytes\)? ?:\n\n",
    re.MULTILINE,
)
_USER = re.compile(r"sips?:([^@;>]+)@")
_SHORT_NAMES = {"i": "call-id", "f": "from", "t": "to", "m": "contact", "v": "via", "l": "content-length"}


class LedgerError(Exception):
    """The log does not read as SIPp writes it."""


@dataclass(slots=True)
class FarCall:
    """One Call-ID as a far end saw it. Moments are seconds since the epoch, by the wall clock of the far end."""

    far_end: str
    call_id: str
    number: str
    """The user part of the request URI."""
    from_user: str
    """The caller ID: the user part of From."""
    headers: Mapping[str, str]
    """The headers of the first INVITE, by their names in lower case; of a repeated one the first."""
    invited_at: float
    """The first INVITE. Retransmissions and re-INVITEs do not move it."""
    last_heard_at: float
    """The last message of this call, whichever way it went."""
    retransmissions: int = 0
    """Repetitions of the first INVITE."""
    answered_at: float | None = None
    """The first 200 to the INVITE."""
    final_status: int | None = None
    """The final answer to the INVITE; None while there is none."""
    ended_at: float | None = None
    """The first of: BYE sent or received, CANCEL received, final failure sent. None while the call lives."""
    ended_by: Side | None = None
    provisional: set[int] = field(default_factory=set)
    """Provisional answers given."""

    @property
    def over_at(self) -> float:
        """When the call stopped to take a slot, infinite while it lives.

        Nothing tells a far end that never answered when the caller gave up; there it is the last repetition heard.
        """
        if self.ended_at is not None:
            return self.ended_at
        silent = self.final_status is None and not self.provisional
        return self.last_heard_at if silent else math.inf


class Ledger:
    """The calls of one or several far ends, in the order of their first INVITEs."""

    def __init__(self, calls: Iterable[FarCall]) -> None:
        self.calls: Sequence[FarCall] = sorted(calls, key=lambda call: call.invited_at)

    @classmethod
    def read(cls, log: Path, far_end: str = "") -> Ledger:
        """Read a far end's log; one that is not there yet holds no calls."""
        return cls.parse(log.read_bytes() if log.exists() else b"", far_end)

    @classmethod
    def parse(cls, log: bytes, far_end: str = "") -> Ledger:
        """Read the text of a log. A message at its end that is not yet whole is left out."""
        calls: dict[str, FarCall] = {}
        for message in _messages(log):
            _step(calls, message, far_end)
        return cls(calls.values())

    def __len__(self) -> int:
        return len(self.calls)

    def __iter__(self) -> Iterator[FarCall]:
        return iter(self.calls)

    @property
    def all_over(self) -> bool:
        """Whether no call lives any more, as far as a far end can tell (see :attr:`FarCall.over_at`)."""
        return all(call.over_at < math.inf for call in self.calls)

    def since(self, moment: float) -> Ledger:
        """Keep the calls invited at that moment (seconds since the epoch) or later."""
        return Ledger(call for call in self.calls if call.invited_at >= moment)

    def of(self, numbers: Iterable[str]) -> Ledger:
        """Keep the calls to these numbers."""
        wanted = frozenset(numbers)
        return Ledger(call for call in self.calls if call.number in wanted)

    def by_number(self) -> dict[str, list[FarCall]]:
        """Group the calls by the number dialled; each number's calls in order."""
        groups: dict[str, list[FarCall]] = {}
        for call in self.calls:
            groups.setdefault(call.number, []).append(call)
        return groups

    def most_up_at_once(self) -> int:
        """Count the most calls that were up together, from first INVITE to the end.

        A call that ends in the very moment another begins counts as still up.
        """
        steps = [(call.invited_at, 1) for call in self.calls] + [(call.over_at, -1) for call in self.calls]
        up = most = 0
        for _, step in sorted(steps, key=lambda item: (item[0], -item[1])):
            up += step
            most = max(most, up)
        return most

    def shortest_gap(self, n: int) -> float:
        """Measure the least time, in seconds, between the i-th and the (i+n)-th INVITE.

        It is infinite with n calls or fewer.
        """
        if n < 1:
            raise ValueError("a gap spans at least one call")
        moments = [call.invited_at for call in self.calls]
        return min((later - earlier for earlier, later in zip(moments, moments[n:], strict=False)), default=math.inf)

    def occupancy(self, slots: int, start: float, end: float) -> float:
        """Measure the share of the slots that was in use, on average, between two moments."""
        if slots < 1 or end <= start:
            raise ValueError("occupancy needs slots and a span of time")
        used = sum(max(0.0, min(call.over_at, end) - max(call.invited_at, start)) for call in self.calls)
        return used / (slots * (end - start))


@dataclass(frozen=True, slots=True)
class _Message:
    at: float
    received: bool
    first_line: str
    headers: Mapping[str, str]

    @property
    def method(self) -> str:
        """The method of the request, or of the request that is answered (from CSeq)."""
        return self.headers["cseq"].split()[-1]

    @property
    def status(self) -> int | None:
        """The status of a response; None for a request."""
        return int(self.first_line.split()[1]) if self.first_line.startswith("SIP/2.0 ") else None


def _messages(log: bytes) -> Iterator[_Message]:
    position = 0
    while (found := _MESSAGE.search(log, position)) is not None:
        # By its length, so that nothing inside a message can look like the head of the next.
        end = found.end() + int(found["length"])
        if end > len(log):
            return
        position = end
        yield _read(found["stamp"].decode(), found["way"] == b"received", log[found.end() : end])


def _read(stamp: str, received: bool, text: bytes) -> _Message:
    first_line, *lines = text.partition(b"\r\n\r\n")[0].decode(errors="replace").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        lowered = name.strip().lower()
        headers.setdefault(_SHORT_NAMES.get(lowered, lowered), value.strip())
    if "call-id" not in headers or "cseq" not in headers:
        raise LedgerError(f"a message without Call-ID or CSeq at {stamp}: {first_line!r}")
    at = datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()
    return _Message(at, received, first_line, headers)


def _step(calls: dict[str, FarCall], message: _Message, far_end: str) -> None:
    call_id = message.headers["call-id"]
    call = calls.get(call_id)
    if call is None:
        if message.received and message.status is None and message.method == "INVITE":
            calls[call_id] = _begin(message, far_end)
        return
    call.last_heard_at = message.at
    if message.status is not None:
        _step_response(call, message, message.status)
    elif message.method == "BYE":
        _end(call, message.at, "caller" if message.received else "callee")
    elif message.received and message.method == "CANCEL" and call.answered_at is None:
        _end(call, message.at, "caller")
    elif message.received and message.method == "INVITE" and ";tag=" not in message.headers["to"]:
        call.retransmissions += 1


def _begin(message: _Message, far_end: str) -> FarCall:
    return FarCall(
        far_end=far_end,
        call_id=message.headers["call-id"],
        number=_user(message.first_line),
        from_user=_user(message.headers.get("from", "")),
        headers=message.headers,
        invited_at=message.at,
        last_heard_at=message.at,
    )


def _step_response(call: FarCall, message: _Message, status: int) -> None:
    if message.received or message.method != "INVITE" or call.answered_at is not None:
        return
    if status < 200:
        call.provisional.add(status)
    elif status < 300:
        # An answer that crossed a CANCEL stands: the call is up until a BYE.
        call.final_status, call.answered_at, call.ended_at, call.ended_by = status, message.at, None, None
    elif call.final_status is None:
        call.final_status = status
        _end(call, message.at, "callee")


def _end(call: FarCall, at: float, by: Side) -> None:
    if call.ended_at is None:
        call.ended_at, call.ended_by = at, by


def _user(text: str) -> str:
    found = _USER.search(text)
    return found.group(1) if found else ""
