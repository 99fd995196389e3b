"""Work that nobody waits for: started inside the dispatcher's task group, and ended with it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Tasks:
    """Starts such work, and keeps one piece's fault from the others."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._group: asyncio.TaskGroup | None = None
        self._early: list[Coroutine[Any, Any, None]] = []
        """What came before the group, in its order."""
        self._closed = False

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

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
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
        # Of a task that is cancelled before its first step nobody else lets go of the work.
        task.add_done_callback(lambda _: work.close())

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """A fault in one call's handling is that call's: it is logged and counted, and recovery settles the call."""
        try:
            await work
        except Exception:
            log.exception("task_failed")
            self._metrics.dropped.labels("task").inc()
