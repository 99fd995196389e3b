"""Work that nobody waits for: begun inside a group, and let go of with it."""

from __future__ import annotations

import asyncio
import inspect

from dialerd.dispatch.tasks import Tasks
from dialerd.telemetry.metrics import Metrics


async def test_work_that_is_cancelled_before_its_first_step_is_let_go_of(metrics: Metrics) -> None:
    """Found by a storm: the collector would complain of it later, somewhere else."""
    tasks, work = Tasks(metrics), asyncio.sleep(1)  # noqa: TID251 - it must never begin

    async def group() -> None:
        async with asyncio.TaskGroup() as opened:
            tasks.open(opened)
            tasks.spawn(work)
            raise asyncio.CancelledError

    await asyncio.gather(group(), return_exceptions=True)
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED
