"""What FreeSWITCH's API commands answer → values. Pure: no socket, no clock.

Sources: ``status_function``, ``ctl_function`` and ``show_function`` in mod_commands.c, ``switch_core_session_ctl`` in
switch_core.c of FreeSWITCH.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from dialerd.pbx.driver import ChannelState, LiveChannel
from dialerd.pbx.phrase import phrase

_READY = re.compile(r"\(Version (?P<version>[^\s)]+)[^)]*\) is (?P<not>not )?ready")
_RATE = re.compile(r"session\(s\) per Sec out of max (\d+)")
_SESSIONS = re.compile(r"^(\d+) session\(s\) max", re.MULTILINE)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SESSIONS_THROUGH_LOOPBACK = 3
_UP = frozenset({"ACTIVE", "HELD", "UNHELD"})
_RINGING = frozenset({"RINGING", "EARLY", "RING_WAIT"})


@dataclass(frozen=True, slots=True)
class Status:
    """The answer to ``status``, as far as it matters to us."""

    version: str
    ready: bool
    max_sessions: int | None
    calls_per_second: float | None
    """One less than its sessions-per-second: at 30 it lets 29 pass, and refuses the next; at 1 it refuses all."""


def read_status(answer: str) -> Status | None:
    """Read the answer to ``status``; None where it is something else."""
    ready = _READY.search(answer)
    if ready is None:
        return None
    sessions, rate = _SESSIONS.search(answer), _RATE.search(answer)
    return Status(
        phrase(ready["version"]),
        ready["not"] is None,
        int(sessions[1]) if sessions else None,
        max(0.0, float(rate[1]) - 1) if rate else None,
    )


def why_closed(status: Status, *, paused: bool, leaving: bool) -> str | None:
    """Why FreeSWITCH takes no new call of ours; None: it takes them.

    ``paused`` and ``leaving``: the answers to ``fsctl pause_check outbound`` and ``fsctl shutdown_check``. ``status``
    says ready through a pause of outbound calls alone, and through an elegant
    shutdown, which lets new calls in: one that a dialer goes on with would never come.
    """
    if leaving:
        return "FreeSWITCH shuts down as soon as its calls have ended"
    if paused:
        return "FreeSWITCH is paused for outbound calls" if status.ready else "FreeSWITCH starts, or is paused"
    if not status.ready:
        return "FreeSWITCH shuts down"
    return "FreeSWITCH's sessions-per-second of 1 let no call through" if status.calls_per_second == 0 else None


def sessions_of_a_call(dials: Collection[str]) -> int:
    """The sessions that each call over trunks with these dial strings takes at least, before anybody takes it.

    Through ``loopback/`` three: the channel's two halves, and the leg that its dialplan makes.
    """
    return SESSIONS_THROUGH_LOOPBACK if dials and all(dial.startswith("loopback/") for dial in dials) else 1


def read_channels(answer: str, now: float) -> dict[str, LiveChannel]:
    """Read the answer to ``show channels as json``: the channels that bear our mark, by call id.

    Our mark is ``presence_data`` equal to the channel's own id. ``now`` is the time in seconds since 1970. Raises
    ValueError where the answer is no list of channels.
    """
    found = {}
    for row in _rows(answer):
        call_id = str(row.get("uuid", ""))
        if row.get("presence_data") == call_id and _UUID.fullmatch(call_id) and row.get("callstate") != "HANGUP":
            made = str(row.get("created_epoch", ""))
            seconds = max(0.0, now - float(made)) if made.isascii() and made.isdigit() else 0.0
            found[call_id] = LiveChannel(call_id, _state(str(row.get("callstate", ""))), seconds)
    return found


def _rows(answer: str) -> list[dict[str, Any]]:
    """The rows of a listing, all that it counts."""
    try:
        listing = json.loads(answer)
    except RecursionError:
        raise ValueError("no list of channels: too deep") from None
    # An empty one has no rows.
    rows = listing.get("rows", []) if isinstance(listing, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("no list of channels")
    if listing.get("row_count") != len(rows):
        raise ValueError("no whole list of channels")
    return rows


def _state(callstate: str) -> ChannelState:
    if callstate in _UP:
        return ChannelState.UP
    return ChannelState.RINGING if callstate in _RINGING else ChannelState.DIALLING
