"""The connections that read, and whether reading works: told also where nobody writes who would find out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from dialerd.clock import Clock
from dialerd.store.errors import StoreError
from dialerd.store.faults import translated
from dialerd.store.taken import taken

log = structlog.get_logger(__name__)

PROBE_SECONDS = 1.0
"""How often a store that fails is tried, so that it is known when it works again."""
_PROBE = sa.text("SELECT version_num FROM alembic_version")


class Readers:
    """Lends connections of which each sees one consistent state."""

    def __init__(self, engine: AsyncEngine, clock: Clock, on_change: Callable[[], None]) -> None:
        """``on_change``: hears that :attr:`trouble` is another."""
        self._engine = engine
        self._clock = clock
        self._on_change = on_change
        self._reading = 0
        self._unread = asyncio.Event()
        self._unread.set()
        self._closed = False
        self._looking: asyncio.Task[None] | None = None
        self.trouble: str | None = None
        """Why reading fails; None while it works. One question that fails alone is no trouble: another is tried."""

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[AsyncConnection]:
        """Within this, a connection is the caller's. Raises StoreError where the store fails."""
        if self._closed:
            raise StoreError("the store is closed")
        self._reading += 1
        self._unread.clear()
        try:
            with translated(), self._clock.hold():
                async with taken(self._engine) as conn:
                    yield conn
            if self.trouble is not None:
                self._set(None)
        except StoreError as error:
            if not error.permanent and self._looking is None and not self._closed:
                self._looking = asyncio.create_task(self._look(), name="store-readers")
            raise
        finally:
            self._reading -= 1
            if not self._reading:
                self._unread.set()

    async def close(self) -> None:
        """Lend nothing more, and wait for nobody. Harmless when repeated."""
        self._closed = True
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def unread(self) -> None:
        """Wait until no connection is in anybody's hands."""
        await self._unread.wait()

    async def _look(self) -> None:
        """A question failed: ask another, and again until one is answered."""
        while True:
            try:
                with translated(), self._clock.hold():
                    async with taken(self._engine) as conn:
                        await conn.execute(_PROBE)
            except Exception as error:
                # Whatever it is: a look that ended with it would leave the store in trouble for good.
                self._set(str(error))
            else:
                break
            await self._clock.sleep(PROBE_SECONDS)
        self._set(None)
        self._looking = None

    def _set(self, trouble: str | None) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble is not None:
            log.error("store_unreadable", reason=trouble)
        else:
            log.info("store_readable_again")
        self._on_change()
