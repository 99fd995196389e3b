"""The journal: what must be durable before the next thing happens, committed in groups and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from dialerd.clock import Clock
from dialerd.store.db import Store
from dialerd.store.errors import StoreError
from dialerd.store.records import CallStep, Originating
from dialerd.telemetry.logs import of_call
from dialerd.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

_RETRY_FIRST, _RETRY_MOST = 0.1, 1.0
GATHER_SECONDS = 0.02
"""How long steps wait for company in their commit. A call to be placed does not wait, and takes them along."""


class Journal:
    """Takes calls to be committed and steps of calls, and writes both in the order they came.

    A call is committed or refused at once, for nothing was sent yet. A step is what the PBX told: it is kept and
    written again until the store takes it. Only calls in flight make steps, and while the store fails nothing new is
    dialled, so what is kept is bounded by them.
    """

    def __init__(self, store: Store, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._steps: list[CallStep] = []
        self._writing = 0
        """Steps in the commit that is under way."""
        self._calls: list[tuple[Sequence[Originating], asyncio.Future[frozenset[str]]]] = []
        self._taken = 0
        """Steps taken since the start."""
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._work = asyncio.Event()
        self._hurry = asyncio.Event()
        """Somebody waits for the next commit."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        metrics.watch_queue("journal_steps", lambda: self.backlog)
        self.on_written: Callable[[Sequence[CallStep]], None] = lambda _: None
        """Hears of steps once they are durable: whoever reads the store finds them there."""

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="journal")

    async def close(self, deadline: float) -> None:
        """Write what is left, for at most so many seconds; then stop."""
        self._hurry.set()
        try:
            async with asyncio.timeout(deadline):
                await self._idle.wait()
        except TimeoutError:
            log.error("journal_closed_with_steps_unwritten", steps=self.backlog)
            self._metrics.dropped.labels(what="journal_step").inc(self.backlog)
        self._closing = True
        self._work.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def step(self, step: CallStep) -> None:
        """Take what the PBX told of a call. Never waits and never fails."""
        self._steps.append(step)
        self._taken += 1
        self._stir()

    async def originate(self, calls: Sequence[Originating]) -> frozenset[str]:
        """Commit calls; returns the ids of those that may be sent now. Raises StoreError: then none may."""
        future: asyncio.Future[frozenset[str]] = asyncio.get_running_loop().create_future()
        self._calls.append((calls, future))
        self._hurry.set()
        self._stir()
        return await future

    async def durable(self) -> None:
        """Wait until every step taken so far is written (or given up for good)."""
        if self.backlog:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((self._taken, future))
            self._hurry.set()
            await future

    @property
    def backlog(self) -> int:
        """Steps not yet durable."""
        return self._writing + len(self._steps)

    def _stir(self) -> None:
        self._idle.clear()
        self._work.set()

    async def _run(self) -> None:
        retry = _RETRY_FIRST
        while not self._closing:
            await self._work.wait()
            self._work.clear()
            while self._calls or self._steps:
                await self._gather()
                written = await self._write()
                self._tell_waiters()
                if written:
                    retry = _RETRY_FIRST
                else:
                    await self._clock.sleep(retry * (0.5 + self._clock.chance()))
                    retry = min(_RETRY_MOST, retry * 2)
            self._idle.set()

    async def _gather(self) -> None:
        """Wait for what comes soon after, unless somebody waits already."""
        if not self._hurry.is_set():
            timer = self._clock.call_at(self._clock.mono() + GATHER_SECONDS, self._hurry.set)
            try:
                await self._hurry.wait()
            finally:
                timer.cancel()
        self._hurry.clear()

    def _tell_waiters(self) -> None:
        """Steps are written in the order in which they came, so what is left tells which are done."""
        done = self._taken - self.backlog
        ready = [future for taken, future in self._waiters if taken <= done]
        self._waiters = [each for each in self._waiters if each[0] > done]
        for future in ready:
            if not future.done():
                future.set_result(None)

    async def _write(self) -> bool:
        """One commit of all that waits; False where the steps have to be written again later."""
        calls, self._calls = self._calls, []
        steps, self._steps = self._steps, []
        self._writing = len(steps)
        originating = [each for group, _ in calls for each in group]
        try:
            claimed = await self._store.record(originating, steps)
        except StoreError as error:
            for _, future in calls:
                if not future.done():
                    future.set_exception(error)
            left = await self._write_singly(steps) if error.permanent else steps
            # Ahead of what came meanwhile: the last of a call's steps is the one that stays.
            self._steps = left + self._steps
            self._writing = 0
            return not left
        except asyncio.CancelledError:
            for _, future in calls:
                future.cancel()
            raise
        for group, future in calls:
            if not future.done():
                future.set_result(claimed & {each.call.id for each in group})
        self._writing = 0
        self.on_written(steps)
        return True

    async def _write_singly(self, steps: list[CallStep]) -> list[CallStep]:
        """Find the step that can never be written: one bad row must not keep all others out of the store.

        Returns what is left from the first on that the store itself could not take.
        """
        for position, step in enumerate(steps):
            try:
                await self._store.record((), [step])
            except StoreError as error:
                if not error.permanent:
                    return steps[position:]
                log.error("journal_step_refused", **of_call(step.call), status=step.call.status, reason=str(error))
                self._metrics.dropped.labels(what="journal_step").inc()
            else:
                self.on_written([step])
        return []
