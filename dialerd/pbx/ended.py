"""The ids of calls that have ended lately: what comes late about them, or comes again, must not revive them."""

from __future__ import annotations

from collections import deque

REMEMBERED = 20_000
"""Calls of minutes, at any rate that a PBX can carry."""


class EndedCalls:
    """Remembers the last ones, as many as it is given, and forgets the oldest for the newest."""

    __slots__ = ("_ids", "_most", "_order")

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        # Half of what an OrderedDict takes, for as long as the daemon lives.
        self._ids: set[str] = set()
        self._order: deque[str] = deque()

    def __contains__(self, call_id: object) -> bool:
        return call_id in self._ids

    def add(self, call_id: str) -> None:
        """A call has ended; harmless when repeated."""
        if call_id in self._ids:
            return
        if len(self._order) >= self._most:
            self._ids.discard(self._order.popleft())
        self._ids.add(call_id)
        self._order.append(call_id)
