"""The writer's connection: kept while all goes well, and given back as soon as anything does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from dialerd.store.backend import backend_of
from dialerd.store.taken import KeptConnection, taken

ONE = sa.text("SELECT 1")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A writer's engine: of one connection."""
    made = backend_of(f"sqlite:///{tmp_path}/any.db").engine(writing=True, size=1)
    yield made
    await made.dispose()


def checked_out(engine: AsyncEngine) -> int:
    """How many connections are in somebody's hands."""
    return int(engine.pool.checkedout())  # type: ignore[attr-defined] # of a queue pool


async def driver(conn: AsyncConnection) -> object:
    """What lies under a connection."""
    return (await conn.get_raw_connection()).driver_connection


async def test_it_is_the_same_from_one_time_to_the_next(engine: AsyncEngine) -> None:
    kept = KeptConnection(engine)
    seen = []
    for _ in range(3):
        async with kept.taken() as conn, conn.begin():
            seen.append(conn)
        assert checked_out(engine) == 1
    assert seen[0] is seen[1] is seen[2]
    await kept.give_back()
    await kept.give_back()
    assert checked_out(engine) == 0


async def test_what_a_question_began_is_over(engine: AsyncEngine) -> None:
    kept = KeptConnection(engine)
    async with kept.taken() as conn:
        assert await conn.scalar(ONE) == 1
    async with kept.taken() as conn:
        assert not conn.in_transaction()
    await kept.give_back()


async def test_one_that_failed_is_given_back(engine: AsyncEngine) -> None:
    kept = KeptConnection(engine)
    with pytest.raises(sa.exc.OperationalError):
        async with kept.taken() as conn:
            await conn.scalar(sa.text("SELECT nothing FROM nowhere"))
    assert checked_out(engine) == 0
    async with kept.taken() as conn:
        assert await conn.scalar(ONE) == 1
    await kept.give_back()


async def test_one_that_was_silent_is_closed(engine: AsyncEngine) -> None:
    """Each further word to it would wait as long: not even a rollback is said to it."""
    kept = KeptConnection(engine)
    async with kept.taken() as conn:
        first = await driver(conn)
    with pytest.raises(TimeoutError):
        async with kept.taken() as conn:
            raise TimeoutError
    async with kept.taken() as conn:
        assert await driver(conn) is not first
    await kept.give_back()
    async with taken(engine) as conn:
        second = await driver(conn)
    with pytest.raises(TimeoutError):
        async with taken(engine):
            raise TimeoutError
    async with taken(engine) as conn:
        assert await driver(conn) is not second
    assert checked_out(engine) == 0


async def test_whoever_is_cancelled_gives_it_back(engine: AsyncEngine) -> None:
    kept, reached = KeptConnection(engine), asyncio.Event()

    async def hold() -> None:
        async with kept.taken():
            reached.set()
            await asyncio.Event().wait()

    holding = asyncio.create_task(hold())
    await reached.wait()
    holding.cancel()
    await asyncio.wait((holding,))
    assert checked_out(engine) == 0


async def test_one_that_cannot_be_had_is_asked_for_again(tmp_path: Path) -> None:
    engine = backend_of(f"sqlite:///{tmp_path}/later/any.db").engine(writing=True, size=1)
    kept = KeptConnection(engine)
    with pytest.raises(sa.exc.OperationalError):
        async with kept.taken():
            pytest.fail("there is no such folder")
    (tmp_path / "later").mkdir()
    async with kept.taken() as conn:
        assert await conn.scalar(ONE) == 1
    await kept.give_back()
    await engine.dispose()
