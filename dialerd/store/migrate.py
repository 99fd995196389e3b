"""Bring a store to the schema of this version (Alembic). Imported only where it is needed: it costs 0.3 s."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from dialerd.store import schema
from dialerd.store.errors import StoreError
from dialerd.store.faults import translated
from dialerd.store.file_lock import file_of

T = TypeVar("T")

_SHOWN = 5
_TABLES = sa.text("""
    SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = current_schema() AND relkind IN ('r', 'p') AND NOT EXISTS (
        SELECT 1 FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e'
    )
""")

_PATIENCE = 3600.0
"""Seconds that one step of a migration may take: an index of a large table, say."""

_ONE_AT_A_TIME = 7_304_211_001
"""The advisory lock of migrations: two daemons that start on an empty database take turns."""


def migrate(url: str) -> str:
    """Migrate the store to this version's schema and return its revision. Raises StoreError.

    A store that a newer version wrote is left alone: its revision is unknown here, which is an error.
    """
    try:
        with translated():
            run(url, _upgrade)
    except Exception as error:
        # Alembic raises errors of many kinds; each means that the store is as it was (DDL is transactional here).
        raise StoreError(f"migration failed: {error}") from error
    return schema.REVISION


def is_new(url: str) -> bool:
    """Whether the URL names a SQLite file that is not there yet, or a PostgreSQL database without tables.

    Raises StoreError where that cannot be told.
    """
    file = file_of(url)
    if file is not None:
        return not file.exists()
    with translated():
        return run(url, lambda connection: not tables(connection))


def tables(connection: sa.Connection) -> set[str]:
    """The tables of a store's schema, but for those that an extension of PostgreSQL has brought with it."""
    if connection.dialect.name == "postgresql":
        return set(connection.scalars(_TABLES))
    return set(sa.inspect(connection).get_table_names())


def _upgrade(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        from dialerd.store.lease import LOCK

        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ONE_AT_A_TIME)))
        if schema.revision_of(connection) == schema.REVISION:
            return
        held = sa.func.pg_try_advisory_xact_lock(LOCK, sa.func.hashtext(sa.func.current_schema()))
        if not connection.scalar(sa.select(held)):
            raise StoreError("a daemon dials from this store: stop it first")
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    _check_ours(connection, {each.revision for each in ScriptDirectory.from_config(config).walk_revisions()})
    command.upgrade(config, "head")


def _check_ours(connection: sa.Connection, known: Collection[str]) -> None:
    """Refuse what is not empty and not a store of this version or an older one. Raises StoreError."""
    revision, found = schema.revision_of(connection), tables(connection)
    if revision is not None and revision not in known:
        raise StoreError(
            f"the store is at schema {revision}, which this version does not know: it is a newer dialerd's, "
            "or another program's"
        )
    strangers = sorted(found - {"alembic_version"})
    if strangers and (revision is None or "campaign_stats" not in found):
        shown = ", ".join(strangers[:_SHOWN]) + (", …" if len(strangers) > _SHOWN else "")
        raise StoreError(
            f"the store is another program's: it has tables ({shown}) and is none of dialerd's. "
            "Give dialerd a database, or a schema, of its own"
        )


def run(url: str, work: Callable[[sa.Connection], T]) -> T:
    """Do some work on a plain connection, in one transaction: before the daemon runs, or beside it by hand."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with _sqlite(parsed) as connection:
            return work(connection)
    # asyncpg alone speaks to PostgreSQL: a second driver would be a second way to connect to it.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _on_postgres(url, work)).result()


@contextlib.contextmanager
def _sqlite(url: sa.URL) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


async def _on_postgres(url: str, work: Callable[[sa.Connection], T]) -> T:
    from dialerd.store.postgres_link import connector

    creator = connector(url, writing=True, seconds=_PATIENCE)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=creator, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()
