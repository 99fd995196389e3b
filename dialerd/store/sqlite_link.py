"""SQLite through aiosqlite with one trip to its thread per statement.

A cursor of aiosqlite takes a trip each to be made, to execute, to fetch and to be closed, and each trip wakes two
threads: more work than the statement itself. This one executes, fetches all rows and closes in a single trip; rows are
held in memory anyway, for SQLAlchemy's adapter fetches them at once.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, cast

import aiosqlite
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from dialerd.clock import Clock
from dialerd.store import checkpoints
from dialerd.store.checkpoints import Checkpoints
from dialerd.store.prepared import Done, Perform, Result, Work, in_transaction
from dialerd.telemetry.metrics import Metrics

T = TypeVar("T")

_PRAGMAS = (
    *("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"),
    *(f"wal_autocheckpoint={checkpoints.LONGEST}", f"journal_size_limit={checkpoints.KEPT_BYTES}"),
)
# Timeouts bound every wait: for SQLite's lock, and for a connection of the pool.
_LOCK_SECONDS = 5.0
_POOL_SECONDS = 10.0


class SqliteBackend:
    """A SQLite file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def engine(self, *, writing: bool, size: int) -> AsyncEngine:
        """Make an engine; the writer's transactions take the file's write lock as they begin."""
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{self._path}",
            pool_size=size,
            max_overflow=0,
            pool_timeout=_POOL_SECONDS,
            # The one writer always commits or rolls back by itself.
            pool_reset_on_return=None if writing else "rollback",
            async_creator=connector(self._path, timeout=_LOCK_SECONDS),
        )

        @sa.event.listens_for(engine.sync_engine, "connect")
        def _configure(connection: Any, _record: Any) -> None:
            # The driver's own transaction handling would begin too late for BEGIN IMMEDIATE and for savepoints.
            connection.isolation_level = None
            cursor = connection.cursor()
            for pragma in _PRAGMAS:
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @sa.event.listens_for(engine.sync_engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

        return engine

    async def begin(self, conn: AsyncConnection, epoch: int | None) -> str | None:  # noqa: ARG002
        """Nothing is needed: a commit to a file of ours is always answered, and a file is one daemon's."""
        return None

    async def in_one_trip(self, conn: AsyncConnection, work: Callable[[AsyncConnection], Work[T]]) -> Done[T] | None:
        """Do a work in a transaction of its own, where all its statements are prepared."""
        # Not by get_raw_connection, which takes a greenlet to ask for what is there.
        assert conn.sync_connection is not None
        driver = cast(OneTripConnection, conn.sync_connection.connection.driver_connection)
        return await in_transaction(conn, work, driver.transact)

    def upkeep(self, clock: Clock, metrics: Metrics) -> Checkpoints:
        """Checkpoints, beside the writer."""
        return Checkpoints(connector(self._path, timeout=0.0), clock, metrics)

    async def stands(
        self,
        conn: AsyncConnection,  # noqa: ARG002
        transaction: str,  # noqa: ARG002
        last_event: int | None,  # noqa: ARG002
    ) -> bool | None:
        """No transaction is in doubt."""
        return False


class OneTripConnection(aiosqlite.Connection):
    """A connection whose cursors take one trip per statement."""

    _stopped = False

    def stop(self) -> asyncio.Future[Any] | None:
        """Let the thread end once all that it was asked for is done; None: it was told so before.

        The library's own asks a thread that may have ended, and whoever closes the connection waits for its answer: a
        reader that was cancelled twice (SQLAlchemy stops then what it is closing) kept the whole process from ending.
        """
        if self._stopped:
            return None
        self._stopped = True
        return super().stop()

    def cursor(self) -> OneTripCursor:  # type: ignore[override] # SQLAlchemy only enters it
        """Make a cursor, which costs nothing until it executes."""
        return OneTripCursor(self)

    def __del__(self) -> None:
        # A loop that ends while a cancelled statement's connection is being closed leaves it to the collector, which
        # the library warns of. Its thread and its file are let go of either way.
        if self._connection is not None:
            self.stop()

    async def perform(self, method: str, sql: str, parameters: Iterable[Any]) -> Result:
        """Execute a statement by a method of sqlite3's cursor, and fetch what it gives. Raises sqlite3.Error."""
        work = functools.partial(perform, self._conn, method, sql, parameters)
        result: Result = await self._execute(work)  # type: ignore[no-untyped-call]
        return result

    async def transact(self, work: Callable[[Perform], T]) -> T:
        """Do a work of many statements, and commit it, in one trip. Raises what it raises, and then nothing is done."""
        done: T = await self._execute(functools.partial(_transact, self._conn, work))  # type: ignore[no-untyped-call]
        return done


class OneTripCursor:
    """What SQLAlchemy's adapter uses of a cursor of aiosqlite."""

    def __init__(self, connection: OneTripConnection) -> None:
        self._connection = connection
        self._result = Result([], None, -1, None)
        self.arraysize = 1

    async def __aenter__(self) -> OneTripCursor:
        return self

    @property
    def description(self) -> Any:
        """The columns of the rows, as sqlite3 gives them; None where there are none."""
        return self._result.description

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed; -1 where that is not told."""
        return self._result.rowcount

    @property
    def lastrowid(self) -> int | None:
        """The id of the row that was inserted last."""
        return self._result.lastrowid

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> OneTripCursor:
        """Execute a statement. Raises sqlite3.Error."""
        self._result = await self._connection.perform("execute", sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> OneTripCursor:
        """Execute a statement once per set of parameters. Raises sqlite3.Error."""
        self._result = await self._connection.perform("executemany", sql, parameters)
        return self

    async def fetchall(self) -> list[Any]:
        """The rows of the statement."""
        return self._result.rows

    async def close(self) -> None:
        """Nothing is open: the statement's own trip closed it."""


def connector(path: str, timeout: float) -> Callable[[], Awaitable[OneTripConnection]]:
    """Return what opens connections to a database file; ``timeout``: seconds to wait for SQLite's lock."""
    opener = functools.partial(sqlite3.connect, path, timeout=timeout, check_same_thread=False)

    async def connect() -> OneTripConnection:
        connection = OneTripConnection(opener, iter_chunk_size=64)
        # As SQLAlchemy does: a connection that nobody closed must not keep the process alive.
        connection._thread.daemon = True
        await connection
        return connection

    return connect


def _transact(connection: sqlite3.Connection, work: Callable[[Perform], T]) -> T:
    if connection.in_transaction:  # one that could not be taken back
        connection.rollback()
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = work(functools.partial(perform, connection))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return done


def perform(connection: sqlite3.Connection, method: str, sql: str, parameters: Iterable[Any]) -> Result:
    """Execute a statement by a method of a cursor, fetch what it gives, and close the cursor. Raises sqlite3.Error."""
    cursor = connection.cursor()
    try:
        getattr(cursor, method)(sql, parameters)
        rows = cursor.fetchall() if cursor.description else []
        return Result(rows, cursor.description, cursor.rowcount, cursor.lastrowid)
    finally:
        cursor.close()
