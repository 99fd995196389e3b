"""Prepared statements: the same as SQLAlchemy's way would do, in one transaction or not at all."""

from __future__ import annotations

import sqlite3
import types
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.clock import SystemClock
from dialerd.store import batches, do_not_call, last_look, schema, steps
from dialerd.store.backend import backend_of
from dialerd.store.db import Store
from dialerd.store.prepared import Done, Work, prepared
from dialerd.store.schema import campaign_stats, contact_outcome, event, tenant_day
from dialerd.telemetry.metrics import Metrics
from tests.support.stores import new_store

T = TypeVar("T")
AT = datetime(2026, 11, 28, 9, 30, 0, 123456, UTC)
DAY: Mapping[str, Any] = {"tenant": "lab", "day": "2026-11-28", "calls": 3}
OUTCOME: Mapping[str, Any] = {"campaign_id": 1, "outcome": "busy", "status": "failed", "contacts": 4}
ADD = prepared(sa.insert(tenant_day))
COUNT = sa.select(sa.func.count()).select_from(tenant_day)


@pytest.fixture
async def conn(tmp_path: Path) -> AsyncIterator[AsyncConnection]:
    """The writer's connection of a new store."""
    store = Store(new_store(tmp_path / "dialerd.db"), SystemClock(seed=1), Metrics())
    await store.open()
    async with store._write_engine.connect() as conn:
        yield conn
    await store.close()


async def in_one_trip(conn: AsyncConnection, work: Callable[[AsyncConnection], Work[T]]) -> Done[T] | None:
    """As the store asks it of SQLite."""
    return await backend_of("sqlite://").in_one_trip(conn, work)


@types.coroutine
def pause() -> Generator[None, None, None]:
    """Let others go first, as a coroutine that waits does."""
    yield


async def days(conn: AsyncConnection) -> int:
    async with conn.begin():
        return int(await conn.scalar(COUNT) or 0)


async def test_what_it_does_is_committed_and_its_value_returned(conn: AsyncConnection) -> None:
    async def work(conn: AsyncConnection) -> str:
        await conn.execute(ADD, [DAY, {**DAY, "day": "2026-11-29"}])
        changed = await conn.execute(steps._COUNT_THE_DAY, {"whose": "lab", "which": DAY["day"], "more": 4})
        return f"{changed.rowcount} changed"

    assert await in_one_trip(conn, work) == Done("1 changed")
    async with conn.begin():
        found = await conn.execute(sa.select(tenant_day.c.calls).order_by(tenant_day.c.day))
        assert list(found.scalars()) == [7, 3]


async def test_what_it_raises_takes_everything_back(conn: AsyncConnection) -> None:
    async def work(conn: AsyncConnection) -> None:
        await conn.execute(ADD, [DAY])
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await in_one_trip(conn, work)
    assert await days(conn) == 0


async def test_a_statement_that_fails_is_told_as_everywhere_and_takes_everything_back(conn: AsyncConnection) -> None:
    async def work(conn: AsyncConnection) -> None:
        await conn.execute(ADD, [DAY])
        await conn.execute(ADD, [DAY])

    with pytest.raises(IntegrityError, match="UNIQUE"):
        await in_one_trip(conn, work)
    assert await days(conn) == 0


async def test_a_failed_statement_can_be_got_over(conn: AsyncConnection) -> None:
    async def work(conn: AsyncConnection) -> None:
        await conn.execute(ADD, [DAY])
        with pytest.raises(IntegrityError):
            await conn.execute(ADD, [DAY])

    assert await in_one_trip(conn, work) == Done(None)
    assert await days(conn) == 1


async def test_any_other_statement_takes_everything_back_and_leaves_it_to_the_usual_way(conn: AsyncConnection) -> None:
    async def work(conn: AsyncConnection) -> int:
        await conn.execute(ADD, [DAY])
        return int((await conn.execute(COUNT)).scalar_one())

    assert await in_one_trip(conn, work) is None
    assert await days(conn) == 0
    async with conn.begin():
        assert await work(conn) == 1


async def test_waiting_for_anything_else_is_a_mistake(conn: AsyncConnection) -> None:
    async def work(conn: AsyncConnection) -> None:
        await conn.execute(ADD, [DAY])
        await pause()

    with pytest.raises(TypeError, match="waits for something else"):
        await in_one_trip(conn, work)
    assert await days(conn) == 0


async def test_a_lock_that_another_process_holds_is_an_error_of_the_database(
    conn: AsyncConnection, tmp_path: Path
) -> None:
    async with conn.begin():
        await conn.exec_driver_sql("PRAGMA busy_timeout=1")
    other = sqlite3.connect(tmp_path / "dialerd.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def work(conn: AsyncConnection) -> None:
        await conn.execute(ADD, [DAY])

    with pytest.raises(OperationalError, match="locked"):
        await in_one_trip(conn, work)
    other.rollback()
    other.close()
    assert await in_one_trip(conn, work) == Done(None)


@pytest.mark.parametrize("numbers", [[], ["+12025550100"], [f"+1202555{each:04}" for each in range(700)]])
async def test_keys_of_any_number(conn: AsyncConnection, numbers: list[str]) -> None:
    listed = numbers[::2]
    rows = [{"tenant": "lab", "phone_number": each, "note": None, "created_at": AT} for each in listed]
    if rows:
        async with conn.begin():
            await conn.execute(sa.insert(schema.do_not_call), rows)

    async def ask(conn: AsyncConnection) -> set[str]:
        return await do_not_call.listed(conn, "lab", numbers)

    assert await in_one_trip(conn, ask) == Done(set(listed))


async def test_types_are_those_of_the_columns(conn: AsyncConnection) -> None:
    async def work(conn: AsyncConnection) -> None:
        row = dict.fromkeys(event.columns.keys())
        await conn.execute(
            batches._inserting_one(event, tuple(row), False),
            [{**row, "seq": 1, "campaign_id": 2**62, "kind": "originated", "status": "originated", "at": AT}],
        )
        assert (await last_look.dialled(conn, "lab", ["+12025550100"], AT)) == {}

    assert await in_one_trip(conn, work) == Done(None)
    async with conn.begin():
        [row] = await conn.execute(sa.select(event.c.campaign_id, event.c.at))
    assert tuple(row) == (2**62, AT)


async def test_constants_of_a_statement_are_kept(conn: AsyncConnection) -> None:
    async with conn.begin():
        await conn.execute(sa.insert(campaign_stats).values(campaign_id=1))

    async def finish(conn: AsyncConnection) -> list[Any]:
        await batches.update(conn, campaign_stats, [{"key": 1, "pending": 2, "failed": 3}], adding=True)
        await batches.add(conn, contact_outcome, "contacts", [OUTCOME])
        await batches.add(conn, contact_outcome, "contacts", [OUTCOME])
        return list((await conn.execute(steps._FINISH, {"keys": [1], "completed_at": AT})).scalars())

    assert await in_one_trip(conn, finish) == Done([])
    async with conn.begin():
        [row] = await conn.execute(sa.select(campaign_stats.c.pending, campaign_stats.c.failed))
        assert tuple(row) == (2, 3)
        assert await conn.scalar(sa.select(contact_outcome.c.contacts)) == 8
