"""What was committed is moved from SQLite's log into its database beside the writer, and not within a commit.

A checkpoint writes every page that changed to its place and flushes the database: tens of milliseconds, which by
default the commit pays that makes the log 1,000 pages long. Here a connection of its own does it, in steps of half a
second's pages or of a few hundred rows', while the writer goes on.

The log is written from its beginning again only by a commit that finds all of it moved and nobody reading from it.
While commits never cease, some pages are always left. So when the log has become long, the writer takes a turn between
two commits in which the few that are left are moved.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

from dialerd.clock import Clock
from dialerd.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from dialerd.store.sqlite_link import OneTripConnection

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 0.5
"""From a commit to its checkpoint at least, and where much is committed at most."""
_SELDOM_SECONDS = 5.0
"""At most where little is: each checkpoint flushes log and database."""
_MUCH = 500
"""Rows' worth of commits."""
_LONG = 16_384
"""Pages (64 MiB) from which on the writer takes a turn."""
LONGEST = 131_072
"""Pages (512 MiB) from which on SQLite checkpoints within commits after all: the bound where nothing else helps."""
KEPT_BYTES = 128 * 2**20
"""What the log's file keeps of its length when it is begun anew: space that is there is written to sooner."""
_HELD_BACK = 65_536
"""Pages from which on it is said that a reader holds the log back."""
_CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpoints:
    """Follows the writer of one database file."""

    def __init__(self, connect: Callable[[], Awaitable[OneTripConnection]], clock: Clock, metrics: Metrics) -> None:
        self._connect = connect
        self._clock = clock
        self._metrics = metrics
        self._conn: OneTripConnection | None = None
        self._news = asyncio.Event()
        self._much = asyncio.Event()
        self._weight = 0
        """Rows' worth that was committed since the last checkpoint began."""
        self._task: asyncio.Task[None] | None = None
        self._step: asyncio.Task[tuple[int, int]] | None = None
        self._turn_wanted = False
        self._held_back = False

    def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.create_task(self._run(), name="store-checkpoints")

    async def close(self) -> None:
        """End, whatever is left in the log: it is the database's as well. Harmless when repeated."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._step is not None:
            # SQLite's thread answers to this loop: what is under way there, a connection being made too, ends first.
            await asyncio.gather(self._step, return_exceptions=True)
        conn, self._conn = self._conn, None
        if conn is not None:
            with contextlib.suppress(sqlite3.Error):
                await conn.close()

    def committed(self, weight: int) -> None:
        """So many rows' worth was committed."""
        self._weight += weight
        self._news.set()
        if self._weight >= _MUCH:
            self._much.set()

    async def turn(self) -> None:
        """Between two commits: move the rest of a log that has become long, so that the next begins it anew."""
        if self._turn_wanted:
            self._turn_wanted = False
            await self._checkpoint()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            await self._clock.sleep(_EVERY_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SELDOM_SECONDS - _EVERY_SECONDS):
                    await self._much.wait()
            self._weight = 0
            self._news.clear()
            self._much.clear()
            self._step = asyncio.create_task(self._checkpoint(), name="store-checkpoint")
            pages, moved = await asyncio.shield(self._step)
            self._turn_wanted = pages >= _LONG
            self._tell(pages, moved)

    async def _checkpoint(self) -> tuple[int, int]:
        """Move what can be moved; returns how many pages the log has, and how many of them are moved."""
        begun = self._clock.mono()
        try:
            with self._clock.hold():
                if self._conn is None:
                    self._conn = await self._connect()
                found = await self._conn.perform("execute", _CHECKPOINT, ())
        except sqlite3.Error as error:
            # The writer finds out by itself whether the store is ill; what is not moved now is moved later.
            log.warning("checkpoint_failed", reason=str(error))
            return 0, 0
        self._metrics.checkpoint_seconds.observe(self._clock.mono() - begun)
        busy, pages, moved = found.rows[0]
        self._metrics.wal_pages.set(max(0, pages))
        return (0, 0) if busy else (pages, moved)

    def _tell(self, pages: int, moved: int) -> None:
        held_back = pages >= _HELD_BACK
        if held_back and not self._held_back:
            log.warning("wal_held_back", pages=pages, moved=moved, reason="somebody reads an old state of the store")
        self._held_back = held_back
