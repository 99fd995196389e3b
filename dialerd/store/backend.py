"""Which database a URL names, and what the store asks of it in its own way (ADR 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from dialerd.clock import Clock
from dialerd.store.prepared import Done, Work
from dialerd.telemetry.metrics import Metrics

T = TypeVar("T")


class Upkeep(Protocol):
    """What goes on beside the writer."""

    def start(self) -> None:
        """Begin."""

    def committed(self, weight: int) -> None:
        """So many rows' worth was committed."""

    async def turn(self) -> None:
        """Do what has to be done between two commits, in some milliseconds. Never fails."""

    async def close(self) -> None:
        """End. Harmless when repeated."""


class Backend(Protocol):
    """A kind of database. Statements that differ stand beside those who use them, by ``conn.dialect.name``."""

    def engine(self, *, writing: bool, size: int) -> AsyncEngine:
        """Make an engine of at most so many connections, every wait of which has its deadline."""

    async def begin(self, conn: AsyncConnection, epoch: int | None) -> str | None:
        """Begin a transaction of the writer; returns what :meth:`stands` knows it by, or None where none is needed.

        ``epoch``: the writer's lease, which must still be the last. Raises StoreTakenOver.
        """

    async def in_one_trip(self, conn: AsyncConnection, work: Callable[[AsyncConnection], Work[T]]) -> Done[T] | None:
        """Do a work of the writer and commit it, at less cost than step by step; None: that is not to be had here.

        Then nothing is done. Raises what the work raises.
        """

    def upkeep(self, clock: Clock, metrics: Metrics) -> Upkeep | None:
        """Make what goes on beside the writer; None where nothing has to."""

    async def stands(self, conn: AsyncConnection, transaction: str, last_event: int | None) -> bool | None:
        """Whether a transaction whose commit was not answered was committed; None while that is not decided."""


def backend_of(url: str) -> Backend:
    """The kind of database that a URL names, with what it takes to connect to it."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        from dialerd.store.sqlite_link import SqliteBackend

        return SqliteBackend(parsed.database or "")
    from dialerd.store.postgres_link import PostgresBackend

    return PostgresBackend(url)
