"""Work that nobody waits for: started inside a task group, and ended with it or before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog
from prometheus_client import Counter

log = structlog.get_logger(__name__)

Work = Coroutine[Any, Any, None]
Spawn = Callable[[Work], object]
"""Starts a piece of work that nobody waits for."""


class Tasks:
    """Starts such work, and keeps one piece's fault from the others."""

    def __init__(self, failures: Counter, failed: str) -> None:
        """``failures`` counts the pieces that failed; ``failed``: what the log calls that."""
        self._failures = failures
        self._failed = failed
        self._group: asyncio.TaskGroup | None = None
        self._early: list[Work] = []
        """What came before the group, in its order."""
        self._closed = False
        self._running: set[asyncio.Task[None]] = set()

    def open(self, group: asyncio.TaskGroup) -> None:
        """Start work in this group from now on, and what came before."""
        self._group = group
        early, self._early = self._early, []
        for work in early:
            self.spawn(work)

    def close(self) -> None:
        """Start nothing more: what comes now is dropped, and what was never started."""
        self._closed = True
        early, self._early = self._early, []
        for work in early:
            work.close()

    def end(self) -> None:
        """Cancel what runs, and start nothing more."""
        self.close()
        for task in self._running:
            task.cancel()

    def spawn(self, work: Work) -> None:
        """Start a piece of work; one that comes before the group waits for it.

        The timers of calls that were in flight before a start may be due at once, and uvloop's come before its tasks.
        """
        if self._closed:
            work.close()
            return
        if self._group is None:
            self._early.append(work)
            return
        task = self._group.create_task(self._guarded(work))
        self._running.add(task)
        task.add_done_callback(partial(self._over, work))

    def _over(self, work: Work, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        # Of a task that is cancelled before its first step nobody else lets go of the work.
        work.close()

    async def _guarded(self, work: Work) -> None:
        """A fault in one piece is that piece's: it is logged and counted. Of a call, recovery settles the call."""
        try:
            await work
        except Exception:
            log.exception(self._failed)
            self._failures.inc()
