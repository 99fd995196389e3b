"""PostgreSQL through asyncpg: how it is connected to, and what bounds each wait for it."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from dialerd.clock import Clock
from dialerd.store.errors import StoreTakenOver
from dialerd.store.prepared import Done, Work
from dialerd.store.schema import event
from dialerd.telemetry.metrics import Metrics

T = TypeVar("T")

CONNECT_SECONDS = 5.0
POOL_SECONDS = 10.0
WRITE_SECONDS, READ_SECONDS = 8.0, 30.0
"""The longest that one statement may take. A step of the writer takes milliseconds; a text may be looked for in each of
a million contacts."""
LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What asyncpg raises where a connection is lost, or cannot be made."""
_GRACE_SECONDS = 2.0
"""After that the server has told us that it gave a statement up; where it has not, it cannot be reached."""
_LOCK_SECONDS = 5.0
"""How long the writer waits for a row that somebody else (a person with psql) holds."""
_IDLE_IN_TRANSACTION_SECONDS = 10.0
"""A writer that stops in the middle (its machine is frozen) must not keep others out for longer."""
# A peer that is gone without a word is found out within some ten seconds, on either side.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
_SERVER_SETTINGS = {
    "application_name": "dialerd",
    "client_min_messages": "warning",
    "jit": "off",  # compiling costs more than any statement of ours
    # A generic plan cannot know that a partial index fits, and is chosen in silence after five executions.
    "plan_cache_mode": "force_custom_plan",
    "timezone": "UTC",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
_DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
# The number of a transaction, and since when the server runs that gave it.
_TICKET = sa.text("SELECT pg_current_xact_id()::text || ' ' || pg_postmaster_start_time()::text")
_FENCED = sa.text("""
    SELECT pg_current_xact_id()::text || ' ' || pg_postmaster_start_time()::text AS ticket, epoch
    FROM lease WHERE id = 1 FOR SHARE
""")
_STATUS = sa.text("SELECT pg_xact_status(CAST(:ticket AS text)::xid8)")
_SAME_SERVER = sa.text("SELECT pg_postmaster_start_time()::text = :server")
_HAS_EVENT = sa.select(event.c.seq).where(event.c.seq == sa.bindparam("seq"))
_UNKNOWN_NUMBER = "22023"
"""SQLSTATE invalid_parameter_value: of a transaction's number, that this server has not come so far."""


class PostgresBackend:
    """A database of a PostgreSQL server, 14 or later."""

    def __init__(self, url: str) -> None:
        self._url = url

    def engine(self, *, writing: bool, size: int) -> AsyncEngine:
        """Make an engine; a reader's connections see one state each time they are taken, and write nothing."""
        reading: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connector(self._url, writing=writing),
            pool_size=size,
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
            execution_options={} if writing else reading,
        )

    async def begin(self, conn: AsyncConnection, epoch: int | None) -> str | None:
        """Take a number for the transaction, by which it is found again when its commit is not answered.

        The lease is held in place until the transaction ends: whoever takes it over waits for that.
        """
        if epoch is None:
            ticket: str | None = await conn.scalar(_TICKET)
            return ticket
        row = (await conn.execute(_FENCED)).first()
        if row is None or row.epoch != epoch:
            raise StoreTakenOver("another daemon has taken the store over")
        return str(row.ticket)

    async def in_one_trip(
        self,
        conn: AsyncConnection,  # noqa: ARG002
        work: Callable[[AsyncConnection], Work[T]],  # noqa: ARG002
    ) -> Done[T] | None:
        """Each statement is an exchange with the server, and one batch is few of them."""
        return None

    def upkeep(self, clock: Clock, metrics: Metrics) -> None:
        """The server looks after itself."""

    async def stands(self, conn: AsyncConnection, transaction: str, last_event: int | None) -> bool | None:
        """Ask what became of a transaction; None: it is not over yet. ``last_event``: the number of the last it wrote.

        Numbers of transactions count per server. One that took over from another, and had not heard of this transaction
        by then, gives its number to somebody else: what was committed under it is ours only where our events are there.
        One without events is believed to stand only by the server that carried it out: to write it again does no harm.
        """
        number, _, server = transaction.partition(" ")
        try:
            status: str | None = await conn.scalar(_STATUS, {"ticket": number})
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == _UNKNOWN_NUMBER:
                return False
            raise
        if status == "in progress":
            return None
        if status != "committed":
            return False
        if last_event is not None:
            return await conn.scalar(_HAS_EVENT, {"seq": last_event}) is not None
        return bool(await conn.scalar(_SAME_SERVER, {"server": server}))


def connector(url: str, *, writing: bool, seconds: float | None = None) -> Callable[[], Awaitable[Any]]:
    """Return what opens connections to a database; its URL is libpq's.

    ``seconds``: how long one statement may take, if not as long as a daemon's; a lock may then be waited for as long.
    """
    lock_seconds = _LOCK_SECONDS if seconds is None else seconds
    seconds = seconds or (WRITE_SECONDS if writing else READ_SECONDS)
    settings = {**_SERVER_SETTINGS, "statement_timeout": _ms(seconds)}
    if writing:
        settings["lock_timeout"] = _ms(lock_seconds)
        settings["idle_in_transaction_session_timeout"] = _ms(_IDLE_IN_TRANSACTION_SECONDS)

    async def connect() -> Any:
        connection = await open_connection(url, settings, command_seconds=seconds + _GRACE_SECONDS)
        if writing:
            # The journal stands before the wire: a role for which commits are not flushed is asked for no less.
            await connection.execute(_DURABLE)
        return connection

    return connect


def in_words(error: BaseException) -> str:
    """What went wrong on a connection; a deadline has no words of its own."""
    return f"{type(error).__name__}: {error.args[0] if error.args else 'no answer in time'}"


async def open_connection(url: str, settings: Mapping[str, str], *, command_seconds: float) -> Any:
    """Open one connection, asyncpg's own. Raises OSError, asyncpg.PostgresError."""
    connection = await asyncpg.connect(
        url, timeout=CONNECT_SECONDS, command_timeout=command_seconds, server_settings=dict(settings)
    )
    # asyncpg shows its socket to nobody, and asks for no keepalive.
    own: socket.socket | None = connection._transport.get_extra_info("socket")
    if own is not None and own.family != socket.AF_UNIX:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            own.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))
