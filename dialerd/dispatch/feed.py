"""The feed of committed events: each is kept once, and every reader is just a place in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator

from dialerd.store.records import Event
from dialerd.store.tx import Committed

RING = 10_000
"""Events kept per followed campaign: a reader that falls behind further catches up from the store."""


class Lagged(Exception):
    """The reader fell behind what is kept; what it missed is in the store."""


class _Channel:
    """The latest events of one campaign, as long as somebody follows it."""

    def __init__(self, since: int, ring: int) -> None:
        self.events: deque[Event] = deque(maxlen=ring)
        self.forgotten = since
        """All events up to this number are not here (any more)."""
        self.readers = 0
        self._news = asyncio.Event()

    def add(self, event: Event) -> None:
        if len(self.events) == self.events.maxlen:
            self.forgotten = self.events[0].seq
        self.events.append(event)

    def skip(self, upto: int) -> None:
        if upto > self.forgotten:
            self.forgotten = upto
            self.events.clear()

    def wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def news(self) -> None:
        await self._news.wait()


class Subscription:
    """One reader's place in a campaign's events."""

    def __init__(self, channel: _Channel, after: int) -> None:
        self._channel = channel
        self.after = after
        """The number of the last event that the reader has."""

    def skip(self) -> None:
        """Go on with the first event that is kept: what came before it is not in the store either."""
        self.after = max(self.after, self._channel.forgotten)

    async def next(self, limit: int = 500) -> list[Event]:
        """Wait for events after the reader's place and move it past them. Raises Lagged."""
        while True:
            if self.after < self._channel.forgotten:
                raise Lagged
            fresh: list[Event] = []
            for event in reversed(self._channel.events):
                if event.seq <= self.after:
                    break
                fresh.append(event)
            if fresh:
                fresh.reverse()
                del fresh[limit:]
                self.after = fresh[-1].seq
                return fresh
            await self._channel.news()


class Feed:
    """Tells committed events, and nothing else, to whoever follows a campaign."""

    def __init__(self, ring: int = RING) -> None:
        self._ring = ring
        self._channels: dict[int, _Channel] = {}
        self.last = 0
        """The number of the last committed event that came through here."""

    def publish(self, committed: Committed) -> None:
        """Take the events of one commit. Never waits: a reader's slowness is the reader's."""
        woken: dict[_Channel, None] = {}  # in the order of their events: a simulation must repeat exactly
        for event in committed.events:
            self.last = event.seq
            channel = self._channels.get(event.draft.campaign_id)
            if channel is not None:
                channel.add(event)
                woken[channel] = None
        for channel in woken:
            channel.wake()

    @property
    def followed(self) -> bool:
        """Whether anybody follows a campaign."""
        return bool(self._channels)

    def skip(self, upto: int) -> None:
        """What was committed up to a number is in the store, and does not come through here."""
        self.last = max(self.last, upto)
        for channel in self._channels.values():
            channel.skip(upto)
            channel.wake()

    @contextlib.contextmanager
    def follow(self, campaign_id: int) -> Iterator[Subscription]:
        """Follow a campaign from the last committed event on: what came before is in the store."""
        channel = self._channels.get(campaign_id)
        if channel is None:
            channel = self._channels[campaign_id] = _Channel(self.last, self._ring)
        channel.readers += 1
        try:
            yield Subscription(channel, self.last)
        finally:
            channel.readers -= 1
            if channel.readers == 0:
                del self._channels[campaign_id]
