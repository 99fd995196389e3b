"""By when orders have arrived: a rate that counted only what was sent would bunch what a network or a PBX held back.

Any sign of a call proves that its order has arrived. Without one, an accepted order is taken to have arrived when its
channel is surely listed; an order that nobody answered, when its PBX has answered a question that came after it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from dialerd.clock import Clock
from dialerd.core.throttle import Arrival

LISTING_LAG = 2.0
"""Seconds after which an accepted call is surely in the listing (measured: 0.3 s on FreeSWITCH)."""
_SOON = 0.1
"""Seconds that are slept through: whoever waits longer is woken by news."""


class Receipts:
    """Knows of each order by when it has reached the far end, if ever, and wakes who waits for that."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._in_doubt: defaultdict[str, list[Arrival]] = defaultdict(list)
        self._news = asyncio.Event()
        self._waiting = 0

    def came(self, arrival: Arrival, by: float | None = None) -> None:
        """The call has shown itself, or never will: its order is not under way from ``by`` (None: now) on."""
        self._settle(arrival, self._clock.mono() if by is None else by)

    def taken(self, arrival: Arrival) -> None:
        """The PBX has the order: its channel comes within the time in which it is listed."""
        self._settle(arrival, self._clock.mono() + LISTING_LAG)

    def missing(self, pbx: str, arrival: Arrival) -> None:
        """No answer came in time: the order may arrive at any moment, as long as its link is up."""
        self._in_doubt[pbx].append(arrival)

    def settled(self, pbx: str) -> None:
        """A PBX has answered what was asked after its orders, or its link is gone: it has them, or never will."""
        for arrival in self._in_doubt.pop(pbx, ()):
            self.taken(arrival)

    async def until(self, moment: float) -> None:
        """Wait for a moment (``inf``: without end), or until more is known of an order."""
        seconds = moment - self._clock.mono()
        if seconds <= _SOON:
            await self._clock.sleep(seconds)
            return
        self._waiting += 1
        try:
            async with asyncio.timeout(None if seconds == float("inf") else seconds):
                await self._news.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    def _settle(self, arrival: Arrival, by: float) -> None:
        if by >= arrival.by:
            return
        arrival.by = by
        if self._waiting:
            news, self._news = self._news, asyncio.Event()
            news.set()
