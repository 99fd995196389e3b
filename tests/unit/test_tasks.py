"""Work that nobody waits for: begun inside a group, and let go of with it."""

from __future__ import annotations

import asyncio
import inspect

from dialerd.dispatch.tasks import Tasks
from dialerd.telemetry.metrics import Metrics


def made(metrics: Metrics) -> Tasks:
    """As the dispatcher has them."""
    return Tasks(metrics.dropped.labels("task"), "task_failed")


async def test_work_that_is_cancelled_before_its_first_step_is_let_go_of(metrics: Metrics) -> None:
    """Found by a storm: the collector would complain of it later, somewhere else."""
    tasks, work = made(metrics), asyncio.sleep(1)  # noqa: TID251 - it must never begin

    async def group() -> None:
        async with asyncio.TaskGroup() as opened:
            tasks.open(opened)
            tasks.spawn(work)
            raise asyncio.CancelledError

    await asyncio.gather(group(), return_exceptions=True)
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED


async def test_what_comes_before_the_group_is_done_in_it_and_in_order(metrics: Metrics) -> None:
    """A call's limit may be over before the dispatcher's first step: seen on a loaded machine, with uvloop."""
    tasks, done = made(metrics), []

    async def work(name: str) -> None:
        done.append(name)

    tasks.spawn(work("first"))
    tasks.spawn(work("second"))
    assert done == []
    async with asyncio.TaskGroup() as opened:
        tasks.open(opened)
        tasks.spawn(work("third"))
    assert done == ["first", "second", "third"]


async def test_what_was_never_started_is_let_go_of(metrics: Metrics) -> None:
    tasks, early, late = made(metrics), asyncio.sleep(1), asyncio.sleep(1)  # noqa: TID251 - they must never begin
    tasks.spawn(early)
    tasks.close()
    tasks.spawn(late)
    assert {inspect.getcoroutinestate(each) for each in (early, late)} == {inspect.CORO_CLOSED}


async def test_what_runs_at_the_end_is_cancelled_and_a_failure_is_counted(metrics: Metrics) -> None:
    tasks, begun = made(metrics), asyncio.Event()
    cancelled: list[bool] = []

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def broken() -> None:
        raise RuntimeError("broken")

    async with asyncio.timeout(30), asyncio.TaskGroup() as opened:
        tasks.open(opened)
        tasks.spawn(broken())
        tasks.spawn(endless())
        await begun.wait()
        tasks.end()
        late = asyncio.sleep(1)  # noqa: TID251 - it must never begin
        tasks.spawn(late)
    assert cancelled == [True]
    assert inspect.getcoroutinestate(late) == inspect.CORO_CLOSED
    assert metrics.dropped.labels("task")._value.get() == 1
