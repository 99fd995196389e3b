"""Places that all tenants want, and that are few: one that is free goes to whoever holds the fewest."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator


class Slots:
    """So many at once, of all tenants together. Who has many waiting holds up nobody who has few."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By tenant, each in the order in which they came. None has an empty queue."""

    @contextlib.asynccontextmanager
    async def take(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it."""
        if self._free:
            self._give(tenant)
        else:
            await self._wait(tenant)
        try:
            yield
        finally:
            self._give_back(tenant)

    async def _wait(self, tenant: str) -> None:
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(given)
        try:
            await given
        except asyncio.CancelledError:
            if not given.cancelled():
                self._give_back(tenant)  # it was its turn in this very moment
            raise

    def _give(self, tenant: str) -> None:
        self._free -= 1
        self._held[tenant] += 1

    def _give_back(self, tenant: str) -> None:
        self._free += 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        while self._waiting:
            fewest = min(self._waiting, key=lambda each: self._held[each])
            queue = self._waiting.pop(fewest)
            given = queue.popleft()
            if queue:
                self._waiting[fewest] = queue  # behind the others that hold as many
            if not given.done():  # else it waits no more
                self._give(fewest)
                given.set_result(None)
                break
