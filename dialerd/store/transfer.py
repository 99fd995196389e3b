"""A store moved from SQLite into an empty PostgreSQL database: every row, each read back and compared."""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dialerd.store import schema
from dialerd.store.errors import StoreError
from dialerd.store.faults import translated
from dialerd.store.file_lock import FileLock
from dialerd.store.migrate import migrate, run, tables
from dialerd.store.postgres_link import connector

_BATCH = 5000
_PATIENCE = 3600.0
"""Seconds that the copy of one batch, or a look at a whole table, may take."""

Progress = Callable[[str, int, int], None]
"""Hears the table's name, how many rows are copied, and how many there are."""


@dataclass(slots=True)
class Digest:
    """Rows summed up, in whatever order they come."""

    rows: int = 0
    sum: int = 0

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Take some more rows."""
        self.rows += len(rows)
        for row in rows:
            self.sum += zlib.crc32(repr(row).encode("utf-8", "backslashreplace"))


@dataclass(frozen=True, slots=True)
class _Table:
    """A table, and how SQLite's values become PostgreSQL's."""

    name: str
    columns: tuple[str, ...]
    flags: tuple[int, ...]
    """Places of booleans, which SQLite keeps as numbers."""
    digest: Digest = field(default_factory=Digest)

    def rows(self, raw: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        if not self.flags:
            return list(raw)
        return [tuple(bool(value) if place in self.flags else value for place, value in enumerate(row)) for row in raw]


async def move(source: str, target: str, progress: Progress) -> int:
    """Copy a store of this version into a database that is empty; returns how many rows it has.

    All or nothing: one transaction, committed once every row was read back and is the same. The source is only read,
    and nobody may have it open meanwhile. Raises StoreError.
    """
    parsed = make_url(source)
    if parsed.get_backend_name() != "sqlite" or make_url(target).get_backend_name() != "postgresql":
        raise StoreError("a store is moved from a SQLite file to a PostgreSQL database, and no other way")
    path = Path(parsed.database or "")
    with FileLock(path), contextlib.closing(_opened(path)) as lite:
        _check_source(lite)
        _check_target(target)
        migrate(target)
        with translated():
            connection = await connector(target, writing=True, seconds=_PATIENCE)()
        try:
            async with connection.transaction():
                # A lease is of its database, and is not moved.
                tables = [_table(each) for each in schema.metadata.sorted_tables if each is not schema.lease]
                await _check_empty(connection, tables)
                for table in tables:
                    await _copy(lite, connection, table, progress)
                for table in tables:
                    await _compare(connection, table)
            # Its statistics are what the first claims are planned by.
            await connection.execute("ANALYZE", timeout=_PATIENCE)
        except asyncpg.PostgresError as error:
            raise StoreError(f"nothing was moved: {type(error).__name__}: {error.args[0]}") from error
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"nothing was moved: {type(error).__name__}: {error}") from error
        finally:
            await connection.close(timeout=5)
    return sum(table.digest.rows for table in tables)


def _opened(path: Path) -> sqlite3.Connection:
    try:
        lite = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise StoreError(f"there is no store at {path}: {error}") from error
    lite.isolation_level = None
    lite.execute("BEGIN")  # one state, whoever writes
    return lite


def _check_source(lite: sqlite3.Connection) -> None:
    try:
        revision = lite.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    except sqlite3.Error as error:
        raise StoreError(f"the store cannot be read: {error}") from error
    if revision != schema.REVISION:
        raise StoreError(f"the store is at schema {revision}, and not at {schema.REVISION}: run dialerd migrate first")


def _check_target(target: str) -> None:
    """Refuse a database that has tables of others, before any of ours is made in it."""
    strangers = run(target, tables)
    strangers -= {*schema.metadata.tables, "alembic_version"}
    if strangers:
        raise StoreError(f"the target is not empty: it has a table {min(strangers)}, which is not ours")


async def _check_empty(connection: Any, tables: Sequence[_Table]) -> None:
    for table in tables:
        if await connection.fetchval(f'SELECT EXISTS (SELECT 1 FROM "{table.name}")'):  # noqa: S608 - the schema's
            raise StoreError(f"the target is not empty: its table {table.name} has rows")


def _table(table: sa.Table) -> _Table:
    flags = tuple(place for place, column in enumerate(table.columns) if isinstance(column.type, sa.Boolean))
    return _Table(table.name, tuple(column.name for column in table.columns), flags)


async def _copy(lite: sqlite3.Connection, connection: Any, table: _Table, progress: Progress) -> None:
    columns = ", ".join(f'"{name}"' for name in table.columns)
    (total,) = lite.execute(f'SELECT COUNT(*) FROM "{table.name}"').fetchone()  # noqa: S608
    progress(table.name, 0, total)
    for raw in _batches(lite.execute(f'SELECT {columns} FROM "{table.name}"')):  # noqa: S608
        rows = table.rows(raw)
        table.digest.add(rows)
        try:
            await connection.copy_records_to_table(table.name, records=rows, columns=table.columns, timeout=_PATIENCE)
        except (asyncpg.DataError, asyncpg.InterfaceError, ValueError) as error:
            # Its words show the value, which may be a person's.
            raise StoreError(
                f"nothing was moved: a row of {table.name}, among those from {table.digest.rows - len(rows) + 1} to "
                f"{table.digest.rows}, cannot be kept by PostgreSQL ({type(error).__name__})"
            ) from error
        progress(table.name, table.digest.rows, total)


def _batches(cursor: sqlite3.Cursor) -> Iterator[list[tuple[Any, ...]]]:
    while rows := cursor.fetchmany(_BATCH):
        yield rows


async def _compare(connection: Any, table: _Table) -> None:
    """Read a table back, and see that it is what was sent."""
    found = Digest()
    columns = ", ".join(f'"{name}"' for name in table.columns)
    cursor = await connection.cursor(f'SELECT {columns} FROM "{table.name}"')  # noqa: S608
    while rows := await cursor.fetch(_BATCH):
        found.add([tuple(row) for row in rows])
    if found != table.digest:
        raise StoreError(
            f"nothing was moved: {table.name} has {found.rows} rows in the target, and {table.digest.rows} were sent"
            + ("" if found.rows != table.digest.rows else "; their contents differ")
        )
