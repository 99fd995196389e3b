"""When to plan: what asks for a round at once, what waits until a trunk takes a call, and how far a round looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dialerd.clock import Clock
from dialerd.core.snapshot import HORIZON, horizon

_DEAR = 0.002
"""Seconds of a round after which the loop is left to others for a while: there are hundreds of campaigns."""
_FADES = 0.9
"""By each round, the memory of one that took longer: some are cheap, for nothing was to be had."""
_SOON = 0.5
"""Seconds for which contacts that were fetched wait for a trunk to open before they are looked at all the same."""
_LONGEST_SLEEP = 60.0
"""A wall clock that jumps moves the planned moment: it is looked at again after so many seconds at most."""


class Rounds:
    """Rounds of the planner: each looks at every campaign, so none may come for nothing, and none too late."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._woken = asyncio.Event()
        self._stirred = True
        """More happened since the last round than that calls gave back what they occupied, or contacts were fetched."""
        self._fetched = False
        self._wake_at: float | None = None
        self._began = 0.0
        self._took = 0.0
        """Seconds that rounds took lately, the longest of them."""

    # -- what asks for one --------------------------------------------------------------------------------------

    def stir(self) -> None:
        """Something happened: plan again soon."""
        self._stirred = True
        self._woken.set()

    def fetched(self) -> None:
        """Contacts of a campaign were fetched: they are planned with as soon as a trunk takes a call."""
        self._fetched = True
        self._woken.set()

    def freed(self) -> None:
        """A call gave back what it occupied, and nothing else happened: plan again soon if a trunk takes a call now."""
        self._woken.set()

    # -- one of them --------------------------------------------------------------------------------------------

    @property
    def horizon(self) -> float:
        """How far ahead a round plans, in seconds: the longer they take, the farther."""
        return horizon(self._took)

    def begin(self, opening: Callable[[], float | None]) -> bool:
        """Begin a round; False: nothing can be planned before a trunk takes a call, as it does at ``opening``.

        ``opening``, asked only where it matters, is a monotonic moment; None: only news can tell.
        """
        self._began = self._clock.mono()
        if not self._stirred:
            opens = opening()
            if self._may_wait(opens):
                self._wake_at = min((each for each in (opens, self._wake_at) if each is not None), default=None)
                return False
        self._stirred = self._fetched = False
        return True

    def _may_wait(self, opens: float | None) -> bool:
        if opens is not None and opens <= self._began:
            return False
        # Who was fetched may have to be put off, or cancelled, and that does not wait for a trunk that stays closed.
        return not self._fetched or (opens is not None and opens <= self._began + _SOON)

    def planned(self, wake_at: float | None) -> None:
        """The planner is through. ``wake_at``: when (monotonic) to ask it again, whatever happens; None: at news."""
        self._took = max(self._clock.mono() - self._began, _FADES * self._took)
        self._wake_at = wake_at

    async def next(self) -> None:
        """Wait until the next may be due."""
        took = self._clock.mono() - self._began
        if took > _DEAR:
            # The loop is left to others meanwhile; calls are planned so far ahead that none is late.
            await self._clock.sleep(min(took, HORIZON / 2))
        wake_at = self._wake_at
        seconds = None if wake_at is None else min(_LONGEST_SLEEP, max(0.0, wake_at - self._clock.mono()))
        timer = None if seconds is None else self._clock.call_at(self._clock.mono() + seconds, self.stir)
        try:
            await self._woken.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._woken.clear()
