"""The connection to a SQLite file, where it is let go of in the middle of something."""

from __future__ import annotations

import asyncio
from pathlib import Path

import sqlalchemy as sa

from dialerd.store.sqlite_link import SqliteBackend, connector

DEADLINE = 30.0


async def test_a_commit_survives_a_power_cut_and_readers_do_not_hold_it_up(tmp_path: Path) -> None:
    """What SQLite itself says of the writer's connection: each commit is flushed to the disk, in a log of its own."""
    engine = SqliteBackend(str(tmp_path / "a.db")).engine(writing=True, size=1)
    async with engine.connect() as conn:
        told = [(await conn.exec_driver_sql(f"PRAGMA {each}")).scalar() for each in ("synchronous", "journal_mode")]
    await engine.dispose()
    full = 2
    assert told == [full, "wal"]


async def test_a_connection_that_is_stopped_while_it_closes_is_closed(tmp_path: Path) -> None:
    connection = await connector(str(tmp_path / "a.db"), timeout=1.0)()
    closing = asyncio.ensure_future(connection.close())
    await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop: the thread is asked to close
    connection.stop()
    async with asyncio.timeout(DEADLINE):
        await closing
    await asyncio.to_thread(connection._thread.join, DEADLINE)
    assert not connection._thread.is_alive()


async def test_a_reader_that_is_cancelled_again_and_again_leaves_nothing_behind(tmp_path: Path) -> None:
    """A reload in the middle of which the daemon stopped did: the process waited for it and never ended."""
    engine = SqliteBackend(str(tmp_path / "a.db")).engine(writing=False, size=1)
    counting = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 300000) SELECT count(*) FROM n"

    async def read() -> None:
        async with engine.connect() as conn:
            reading.set()
            await conn.execute(sa.text(counting))

    reading, before = asyncio.Event(), asyncio.all_tasks()
    task = asyncio.create_task(read())
    await reading.wait()
    async with asyncio.timeout(DEADLINE):
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop
        while left := asyncio.all_tasks() - before - {task}:
            await asyncio.wait(left)
    await engine.dispose()
