"""How a connection is taken from its pool, and what is done with it where it failed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


@contextlib.asynccontextmanager
async def taken(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Within this, a connection is the caller's."""
    async with engine.connect() as conn:
        try:
            yield conn
        except OSError:
            await _drop(conn)
            raise


class KeptConnection:
    """The writer's connection, kept from one commit to the next.

    To take it from its pool and to give it back costs as much as some of a commit's statements. One that failed in any
    way is given back at once, so that the next commit begins with what the pool has made of it.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._kept: AsyncConnection | None = None

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[AsyncConnection]:
        """Within this, the connection is the caller's: one at a time."""
        conn, self._kept = self._kept, None
        if conn is None:
            conn = await self._engine.connect()
        try:
            yield conn
            if conn.in_transaction():  # one that a question began
                await conn.rollback()
        except BaseException as error:
            if isinstance(error, OSError):
                await _drop(conn)
            await _give_back(conn)
            raise
        self._kept = conn

    async def give_back(self) -> None:
        """Give it back to its pool. Harmless when repeated."""
        conn, self._kept = self._kept, None
        if conn is not None:
            await _give_back(conn)


async def _drop(conn: AsyncConnection) -> None:
    """Close a connection that did not answer in time: each further word to it, a rollback too, would wait as long."""
    with contextlib.suppress(SQLAlchemyError, OSError):
        await conn.invalidate()


async def _give_back(conn: AsyncConnection) -> None:
    # To its end, even where whoever waits for it is cancelled: a connection in nobody's hands is lost to the pool.
    await asyncio.shield(asyncio.create_task(conn.close()))
