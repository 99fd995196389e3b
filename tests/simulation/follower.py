"""A client that follows a campaign's events and comes back after each break, from the last event that it has."""

from __future__ import annotations

import asyncio

from dialerd.dispatch.feed import Lagged, Subscription
from dialerd.service import Daemon
from dialerd.store import events
from dialerd.store.errors import StoreError
from dialerd.store.records import Event
from tests.simulation.world import Gone, World

_PAGE = 100


class Follower:
    """Follows one campaign from its beginning."""

    def __init__(self, world: World, campaign_id: int) -> None:
        self._world = world
        self._campaign_id = campaign_id
        self.heard: list[int] = []
        """The numbers of the events, in the order in which they came."""
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            daemon = await self._world.alive()
            try:
                await self._world.ask(self._follow(daemon))
            except (Gone, StoreError):
                await self._world.clock.sleep(0.5)

    async def _follow(self, daemon: Daemon) -> None:
        with daemon.feed.follow(self._campaign_id) as subscription:
            upto = subscription.after
            while True:
                await self._catch_up(daemon, subscription, upto)
                try:
                    while True:
                        self._hear(await subscription.next(_PAGE))
                except Lagged:
                    upto = daemon.feed.last

    async def _catch_up(self, daemon: Daemon, subscription: Subscription, upto: int) -> None:
        while True:
            last = self.heard[-1] if self.heard else 0
            async with daemon.store.read() as conn:
                missed = await events.after(conn, self._campaign_id, last, _PAGE)
            self._hear(missed)
            if len(missed) < _PAGE:
                break
        subscription.after = max(upto, self.heard[-1] if self.heard else 0)

    async def reached(self, seq: int) -> None:
        """Wait until an event has come."""
        while seq > (self.heard[-1] if self.heard else 0):
            self._news.clear()
            await self._news.wait()

    def _hear(self, told: list[Event]) -> None:
        self.heard += [event.seq for event in told]
        self._news.set()
