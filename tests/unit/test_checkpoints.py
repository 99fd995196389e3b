"""SQLite's log: moved into the database beside the commits, bounded however long they go on, and nobody's failure."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from dialerd.clock import SystemClock, VirtualClock
from dialerd.store import checkpoints
from dialerd.store.db import Store
from dialerd.store.schema import tenant_day
from dialerd.store.tx import Tx
from dialerd.telemetry.metrics import Metrics
from tests.support.stores import new_store
from tests.support.virtual import Virtual

DEADLINE = 20.0
_PAGE_BYTES = 4096 + 24
_clock = SystemClock(seed=1)


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """An open store that looks after its log very often."""
    monkeypatch.setattr(checkpoints, "_EVERY_SECONDS", 0.005)
    monkeypatch.setattr(checkpoints, "_SELDOM_SECONDS", 0.005)
    opened = Store(new_store(tmp_path / "dialerd.db"), _clock, Metrics())
    await opened.open()
    yield opened
    await opened.close()


async def commit(store: Store, number: int, rows: int = 1, weight: int = 10) -> None:
    """Commit so many rows of a page each."""

    async def write(tx: Tx) -> None:
        await tx.conn.execute(
            sa.insert(tenant_day),
            [{"tenant": f"{number} {row} " + "x" * 3500, "day": "2026-11-28", "calls": 1} for row in range(rows)],
        )

    await store.write(write, weight=weight)


async def pages(store: Store) -> float:
    """What the log had at its last checkpoint."""
    return float(store._metrics.wal_pages._value.get())


async def until_moved(path: Path) -> None:
    """Wait until the database's own file has all that was committed, which a reader of nothing else sees."""
    async with asyncio.timeout(DEADLINE):
        while True:
            # Read in the middle of a checkpoint, for immutable asks for no lock, it makes no sense yet.
            with (
                contextlib.suppress(sqlite3.DatabaseError),
                contextlib.closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as conn,
            ):
                if conn.execute("SELECT COUNT(*) FROM tenant_day").fetchone()[0] == 3:
                    return
            await _clock.sleep(0.005)


async def test_what_is_committed_comes_into_the_database_soon_and_not_by_the_commit(
    store: Store, tmp_path: Path
) -> None:
    for number in range(3):
        await commit(store, number)
    await until_moved(tmp_path / "dialerd.db")
    automatic = await store.write(lambda tx: tx.conn.scalar(sa.text("PRAGMA wal_autocheckpoint")))
    assert automatic == checkpoints.LONGEST, "only where nothing else helps"


@pytest.mark.parametrize(("weight", "fewest", "most"), [(10, 12, 14), (500, 60, 90)])
def test_each_flushes_the_disk_and_is_the_rarer_the_less_is_committed(
    virtual: Virtual, tmp_path: Path, weight: int, fewest: int, most: int
) -> None:
    """A minute of a commit a second: every five seconds where little comes, and after each where that is much."""

    async def main(clock: VirtualClock) -> None:
        metrics = Metrics()
        store = Store(new_store(tmp_path / "dialerd.db"), clock, metrics)
        await store.open()
        for number in range(60):
            await commit(store, number, weight=weight)
            await clock.sleep(1)
        await clock.sleep(10)
        done = {each.name: each.value for each in next(iter(metrics.checkpoint_seconds.collect())).samples}
        assert fewest <= done["dialerd_checkpoint_seconds_count"] <= most
        await store.close()

    virtual(main)


def begun_anew(path: Path) -> int:
    """How often a log was begun from its start again (SQLite's file format, 4.1: the checkpoint sequence number)."""
    with path.open("rb") as log:
        return int.from_bytes(log.read(16)[12:], "big")


async def test_a_log_that_has_become_long_is_begun_anew_while_commits_never_cease(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_LONG", 50)
    log, upkeep = tmp_path / "dialerd.db-wal", store._upkeep
    assert isinstance(upkeep, checkpoints.Checkpoints)
    take, turned = upkeep.turn, False
    rounds: list[tuple[bool, int]] = []

    async def turn() -> None:
        nonlocal turned
        rounds.append((turned, begun_anew(log)))
        turned = upkeep._turn_wanted
        await take()

    monkeypatch.setattr(upkeep, "turn", turn)
    written = longest = 0
    # One that is never begun anew is as long as all that was written, however fast that comes: there is no end then.
    async with asyncio.timeout(DEADLINE):
        while written <= 4 * longest or sum(after_turn for after_turn, _ in rounds) < 3:
            await commit(store, written, rows=5)
            written += 5 * _PAGE_BYTES
            longest = max(longest, log.stat().st_size)
    anew = [after - before for (_, before), (after_turn, after) in itertools.pairwise(rounds) if after_turn]
    assert set(anew) == {1}
    assert len(rounds) > 2 * len(anew), "a turn is taken only where the log is long"


async def test_a_reader_holds_the_log_back_and_is_told_of_and_then_it_begins_anew(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_LONG", 50)
    monkeypatch.setattr(checkpoints, "_HELD_BACK", 200)
    with capture_logs() as logs:
        async with store.read() as conn, asyncio.timeout(DEADLINE):
            seen = await conn.scalar(sa.select(sa.func.count()).select_from(tenant_day))
            number = 0
            while not any(line["event"] == "wal_held_back" for line in logs):
                await commit(store, number, rows=20)
                number += 1
            assert await conn.scalar(sa.select(sa.func.count()).select_from(tenant_day)) == seen, "its state is its own"
    async with asyncio.timeout(DEADLINE):
        while await pages(store) >= 200:
            number += 1
            await commit(store, number)
    assert sum(line["event"] == "wal_held_back" for line in logs) == 1, "it is said once"
    size = (tmp_path / "dialerd.db-wal").stat().st_size
    await commit(store, number + 1)
    assert (tmp_path / "dialerd.db-wal").stat().st_size == size, "the space that is there is written to again"


async def test_a_checkpoint_that_fails_is_told_and_nobody_elses_failure(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store._upkeep is not None
    broken = [True]
    connect = store._upkeep._connect  # type: ignore[attr-defined] # SQLite's

    async def fails() -> object:
        if broken[0]:
            raise sqlite3.OperationalError("disk I/O error")
        return await connect()

    monkeypatch.setattr(store._upkeep, "_connect", fails)
    with capture_logs() as logs:
        async with asyncio.timeout(DEADLINE):
            number = 0
            while not any(line["event"] == "checkpoint_failed" for line in logs):
                await commit(store, number)
                number += 1
                await _clock.sleep(0.005)
    assert store.trouble is None
    broken[0] = False
    async with asyncio.timeout(DEADLINE):
        while await pages(store) == 0:
            await commit(store, number)
            number += 1


async def test_a_store_is_closed_in_the_midst_of_it_and_has_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "_SELDOM_SECONDS", 0.0)
    url = new_store(tmp_path / "dialerd.db")
    for life in range(5):
        store = Store(url, _clock, Metrics())
        await store.open()
        await asyncio.gather(*(commit(store, 100 * life + number) for number in range(10)))
        await (store.crash if life % 2 else store.close)()
    with sqlite3.connect(tmp_path / "dialerd.db") as conn:
        assert conn.execute("SELECT COUNT(*) FROM tenant_day").fetchone() == (50,)
    assert not (tmp_path / "dialerd.db-wal").exists() or (tmp_path / "dialerd.db-wal").stat().st_size == 0
