"""Channels that look like ours and that nobody here placed: of a process before us, or of another dialer."""

from __future__ import annotations

import re

MOST = 10_000
"""Heard of and never listed: far more than a process before us can have had under way."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_call_id(channel_id: str) -> bool:
    """Whether a channel's id is of the shape of our call ids."""
    return _UUID.fullmatch(channel_id) is not None


class Strangers:
    """Remembers those that events alone told of, as many as it is given, and lets go of the oldest for the newest.

    Whose end is not heard would else be kept for as long as nobody asks for a listing. What a listing shows is there,
    and is dropped by later ones.
    """

    __slots__ = ("_ids", "_most", "dropped")

    def __init__(self, most: int = MOST) -> None:
        self._ids: dict[str, None] = {}
        self._most = most
        self.dropped = 0
        """How many were let go of."""

    def add(self, call_id: str) -> str | None:
        """One was heard of; returns the one that is let go of for it."""
        self._ids[call_id] = None
        if len(self._ids) <= self._most:
            return None
        self.dropped += 1
        return next(iter(self._ids))

    def discard(self, call_id: str) -> None:
        """It was listed, has ended, or is followed no more; harmless otherwise."""
        self._ids.pop(call_id, None)
