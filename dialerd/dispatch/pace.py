"""How much a long work writes at once: as much as holds the one writer for some milliseconds, for dialing shares it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from dialerd.clock import Clock
from dialerd.store.db import GROUP_WEIGHT, Store
from dialerd.store.tx import Tx

T = TypeVar("T")

WORK_SECONDS = 0.010
"""What the statements of a step are meant to take. The flush that follows takes its time whatever the step's size."""
HOLD_SECONDS = 0.020
"""What a step is meant to hold the writer for in all, its events, counters and flush too; promised are 50 ms."""
REST = 0.5
"""How long the writer is left to others after a step, where there are others, beside what the step took."""
LEAST, MOST = 200, 4000
"""Rows of a step."""
_FIRST = 500


class Pace:
    """Measures each step of one work, and so finds the size of the next. Where time stands still, steps grow."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.rows = _FIRST
        """Rows that the next step should write."""
        self._jobs = store.jobs

    async def write(self, operation: Callable[[Tx], Awaitable[T]], rows: int | None = None) -> T:
        """Write a step in a commit of its own; ``rows``: how many it has, if not as many as asked. Raises as write."""
        size = self.rows if rows is None else rows
        begun = worked = self._clock.mono()

        async def timed(tx: Tx) -> T:
            nonlocal begun, worked
            begun = self._clock.mono()
            result = await operation(tx)
            worked = self._clock.mono()
            return result

        # Of the weight of a whole group: what waits behind it is not held up by more than this step.
        result = await self._store.write(timed, weight=GROUP_WEIGHT)
        held = self._clock.mono() - begun
        self._learn(size, worked - begun, held)
        await self._rest(held)
        return result

    async def _rest(self, held: float) -> None:
        """Leave the writer to others for a while, if anybody wrote beside the last step."""
        others, self._jobs = self._store.jobs - self._jobs > 1, self._store.jobs
        if others and held > 0.0:
            await self._clock.sleep(REST * held)

    def _learn(self, size: int, worked: float, held: float) -> None:
        if worked > WORK_SECONDS:
            # Not below half at once: a single slow step says little.
            self.rows = max(LEAST, int(self.rows * max(0.5, WORK_SECONDS / worked)))
        elif held > HOLD_SECONDS:
            self.rows = max(LEAST, int(self.rows * max(0.5, HOLD_SECONDS / held)))
        elif size >= self.rows // 2:
            self.rows = min(MOST, self.rows * 5 // 4)
