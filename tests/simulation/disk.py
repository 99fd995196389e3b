"""The disk under a simulated daemon's store: real SQLite files, whose commits take virtual time, fail, and are cut off.

The statements run in the loop's own thread. That costs a third of the trips to a thread, and what is done first comes
first every time: with threads, two operations of one virtual instant end in the order that the machine likes.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any, TypeVar

from dialerd.clock import Clock
from dialerd.pbx.callees import Draw, Range, drawn
from dialerd.store.prepared import Perform, Result
from dialerd.store.sqlite_link import OneTripConnection, perform

T = TypeVar("T")

BUSY_SECONDS = 5.0
"""How long SQLite waits for a lock that somebody else holds, as the store asks it to."""
LOCKED = "database is locked"
FULL = "database or disk is full"
BROKEN = "disk I/O error"
KILLED = "the process is dead"


class Disk:
    """What all connections of one daemon after another share."""

    def __init__(self, clock: Clock, draw: Draw) -> None:
        self.clock = clock
        self._draw = draw
        self.commit_seconds: Range = (0.0, 0.0)
        """How long a commit takes: it becomes durable somewhere in that time."""
        self.read_seconds: Range = (0.0, 0.0)
        self.trouble: str | None = None
        """What SQLite says to whoever writes now, or reads from a broken disk."""
        self.on_trip: Callable[[str], object] = lambda _step: None
        """Hears of each step at the disk, before it is taken: it may end the process there."""
        self.power = True
        """False: the process is dead; nothing of it reaches the files any more."""
        self.commits = 0
        self._open: dict[InlineConnection, None] = {}

    def connector(self, path: str, timeout: float) -> Callable[[], Awaitable[InlineConnection]]:
        """Stands in for :func:`dialerd.store.sqlite_link.connector`."""
        opener = functools.partial(sqlite3.connect, path, timeout=0.0, check_same_thread=False)

        async def connect() -> InlineConnection:
            if not self.power:
                raise sqlite3.OperationalError(KILLED)
            return await InlineConnection(self, opener)

        return connect

    def cut(self) -> None:
        """End the process: what was not committed is rolled back, as the next process finds it."""
        self.power = False
        for connection in self._open:
            connection.cut()
        self._open.clear()

    def restore(self) -> None:
        """Let a new process begin."""
        self.power = True

    def opened(self, connection: InlineConnection) -> None:
        """A connection was opened."""
        self._open[connection] = None

    def closed(self, connection: InlineConnection) -> None:
        """A connection was closed."""
        self._open.pop(connection, None)

    @property
    def connections(self) -> int:
        """Connections that are open: each is a file that is."""
        return len(self._open)

    async def trip(self, connection: InlineConnection, work: Callable[[], Any]) -> Any:
        """Take one step at the disk."""
        step = _named(work)
        self._step(step)
        if step == "close":
            return work()
        if step == "commit":
            return await self._commit(connection, work)
        await self._begin(step)
        self._fail(connection, step)
        answer = work()
        self._step(f"after {step}")
        return answer

    async def transact(self, connection: InlineConnection, work: Callable[[Perform], T]) -> T:
        """Take all steps of one transaction."""
        raw = connection.raw
        connection.writes = True
        if raw.in_transaction:
            raw.rollback()
        self._step("BEGIN IMMEDIATE")
        await self._begin("BEGIN IMMEDIATE")
        raw.execute("BEGIN IMMEDIATE")
        try:
            done = work(functools.partial(self._perform, connection))
            self._step("commit")
            await self._commit(connection, raw.commit)
        except BaseException:
            if self.power:
                raw.rollback()
            raise
        return done

    def _perform(self, connection: InlineConnection, method: str, sql: str, parameters: Iterable[Any]) -> Result:
        step = sql.split(None, 1)[0].upper()
        self._step(step)
        self._fail(connection, step)
        return perform(connection.raw, method, sql, parameters)

    async def _begin(self, step: str) -> None:
        """A lock is waited for, and a slow disk too."""
        if step == "BEGIN IMMEDIATE" and self.trouble == LOCKED:
            await self.clock.sleep(BUSY_SECONDS)
            self._alive()
            raise sqlite3.OperationalError(LOCKED)
        if step == "BEGIN" and self.read_seconds[1]:
            await self.clock.sleep(drawn(self.read_seconds, self._draw))
            self._alive()

    async def _commit(self, connection: InlineConnection, work: Callable[[], Any]) -> Any:
        whole = drawn(self.commit_seconds, self._draw) if connection.writes else 0.0
        before = whole * self._draw()
        if before:
            await self.clock.sleep(before)
            self._alive()
        if connection.writes:
            self._fail(connection, "commit")
        answer = work()
        self.commits += 1
        self._step("durable")
        if whole:
            await self.clock.sleep(whole - before)
            self._alive()
        return answer

    def _fail(self, connection: InlineConnection, step: str) -> None:
        """Fail as SQLite does: a full disk shows when a page is written, a broken one anywhere."""
        if self.trouble == FULL and step in ("INSERT", "UPDATE", "DELETE"):
            if self._draw() < 0.5:
                connection.raw.rollback()  # SQLite may take the whole transaction back by itself
            raise sqlite3.OperationalError(FULL)
        if self.trouble == BROKEN and step not in ("ROLLBACK", "rollback", "PRAGMA"):
            if step == "commit":
                connection.raw.rollback()
            raise sqlite3.OperationalError(BROKEN)

    def _step(self, step: str) -> None:
        self.on_trip(step)
        self._alive()

    def _alive(self) -> None:
        if not self.power:
            raise sqlite3.OperationalError(KILLED)


class InlineConnection(OneTripConnection):
    """A connection whose steps are taken at once, in the loop's own thread."""

    def __init__(self, disk: Disk, opener: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(opener, iter_chunk_size=64)
        self._disk = disk
        self._tx = _AtOnce()  # type: ignore[assignment] # all that SQLAlchemy puts there is to be done
        self.writes = False

    def __await__(self) -> Generator[Any, None, InlineConnection]:
        self._connection = self._connector()
        self._disk.opened(self)
        return self
        yield  # what makes it a generator, as awaiting asks

    @property
    def raw(self) -> sqlite3.Connection:
        """The connection of Python's own module."""
        return self._conn

    @property
    def _conn(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError(KILLED)
        return self._connection

    def cut(self) -> None:
        """Close without a word, as the end of a process does."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def stop(self) -> None:
        """Nothing to stop."""
        self.cut()
        self._disk.closed(self)

    async def transact(self, work: Callable[[Perform], T]) -> T:
        """Do a work of many statements, and commit it."""
        if self._connection is None:
            raise sqlite3.OperationalError(KILLED)
        return await self._disk.transact(self, work)

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._connection is None:
            raise sqlite3.OperationalError(KILLED)
        work = functools.partial(fn, *args, **kwargs)
        name = _named(work)
        if name.startswith("BEGIN"):
            self.writes = name == "BEGIN IMMEDIATE"
        return await self._disk.trip(self, work)


class _AtOnce:
    """Stands in for the queue to a connection's thread."""

    @staticmethod
    def put_nowait(item: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
        future, work = item
        answer = work()
        if future is not None:
            future.set_result(answer)


def _named(work: Any) -> str:
    """What a step does: the first word of its statement, or the connection's method."""
    while isinstance(work, functools.partial):
        if len(work.args) >= 3 and isinstance(work.args[2], str):
            sql = work.args[2].lstrip()
            return "BEGIN IMMEDIATE" if sql.startswith("BEGIN IMMEDIATE") else sql.split(None, 1)[0].upper()
        work = work.func
    return str(getattr(work, "__name__", "step"))
