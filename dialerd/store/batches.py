"""Many rows in one statement: SQLite executes it row by row, PostgreSQL takes each column as one array (unnest)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.store.prepared import prepared

Rows = Sequence[Mapping[str, Any]]
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_quoted = _DIALECT.identifier_preparer.quote


async def insert(conn: AsyncConnection, table: sa.Table, rows: Rows, *, skip: bool = False) -> int:
    """Insert rows of the same columns; returns how many. ``skip``: a row whose primary key is there is passed over."""
    if conn.dialect.name == "postgresql":
        tail = f" ON CONFLICT ({', '.join(_keys(table))}) DO NOTHING" if skip else ""
        return await _execute(conn, _inserting(table, tuple(rows[0]), tail), rows)
    statement = _inserting_one(table, tuple(rows[0]), skip)
    done = await conn.execute(statement, rows, execution_options={"preserve_rowcount": True})
    return done.rowcount


async def insert_and_notify(conn: AsyncConnection, table: sa.Table, rows: Rows, channel: str, payload: str) -> None:
    """Insert rows of the same columns; on PostgreSQL, those who listen to a channel hear of it once it is committed.

    ``channel`` is an expression of SQL. It all is one statement: another would be one more exchange with the server.
    """
    if conn.dialect.name != "postgresql":
        await insert(conn, table, rows)
        return
    plain = _inserting(table, tuple(rows[0]), "")
    sql = f"WITH written AS ({plain.sql}) SELECT pg_notify({channel}, ${len(plain.columns) + 1})"
    await conn.exec_driver_sql(sql, (*_columns(plain, rows), payload))


async def add(conn: AsyncConnection, table: sa.Table, column: str, rows: Rows) -> None:
    """Add to a column of the rows with these primary keys; a row that is not there yet is inserted."""
    if conn.dialect.name == "postgresql":
        more = f"{column} = {table.name}.{column} + excluded.{column}"
        tail = f" ON CONFLICT ({', '.join(_keys(table))}) DO UPDATE SET {more}"
        await _execute(conn, _inserting(table, tuple(rows[0]), tail), rows)
    else:
        await conn.execute(_adding_one(table, column), rows)


async def update(conn: AsyncConnection, table: sa.Table, rows: Rows, *, adding: bool = False) -> None:
    """Set columns of the rows whose primary key is ``key``; ``adding``: add to them what is given."""
    names = tuple(name for name in rows[0] if name != "key")
    if conn.dialect.name == "postgresql":
        await _execute(conn, _updating(table, names, adding), rows)
    else:
        if adding:
            rows = [{"key": each["key"], **{f"add_{name}": each[name] for name in names}} for each in rows]
        await conn.execute(_updating_one(table, names, adding), rows)


@lru_cache
def _inserting_one(table: sa.Table, names: tuple[str, ...], skip: bool) -> sa.Insert:  # noqa: ARG001 - one for each
    new = sqlite.insert(table)
    return prepared(new.on_conflict_do_nothing(index_elements=_keys(table)) if skip else new)


@lru_cache
def _adding_one(table: sa.Table, column: str) -> sa.Insert:
    new = sqlite.insert(table)
    added = {column: table.c[column] + new.excluded[column]}
    return prepared(new.on_conflict_do_update(index_elements=_keys(table), set_=added))


@lru_cache
def _updating_one(table: sa.Table, names: tuple[str, ...], adding: bool) -> sa.Update:
    (key,) = table.primary_key
    values: dict[str, Any] = {name: sa.bindparam(name) for name in names}
    if adding:
        # The name of a column is kept for what is set to it as it is.
        values = {name: table.c[name] + sa.bindparam(f"add_{name}", type_=table.c[name].type) for name in names}
    return prepared(sa.update(table).where(key == sa.bindparam("key")).values(values))


def _keys(table: sa.Table) -> list[str]:
    return [each.name for each in table.primary_key]


@dataclass(frozen=True, slots=True)
class _Arrays:
    """A statement of PostgreSQL whose parameters are columns, and what makes each column's values of those given."""

    sql: str
    columns: tuple[tuple[str, Callable[[Any], Any] | None], ...]


def _arrays(columns: Mapping[str, sa.Column[Any]], sql: str) -> _Arrays:
    casts = ", ".join(
        f"${place}::{each.type.dialect_impl(_DIALECT).compile(_DIALECT).partition(' COLLATE')[0]}[]"
        for place, each in enumerate(columns.values(), 1)
    )
    processors = tuple((name, _processor(each.type)) for name, each in columns.items())
    return _Arrays(sql.replace("{arrays}", f"unnest({casts})"), processors)


def _processor(kind: sa.types.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    # The driver knows every plain type by itself; what is left are the decorators of the schema.
    if not isinstance(kind, sa.types.TypeDecorator):
        return None
    return lambda value: kind.process_bind_param(value, _DIALECT)


@lru_cache
def _inserting(table: sa.Table, names: tuple[str, ...], tail: str) -> _Arrays:
    columns = ", ".join(_quoted(name) for name in names)
    sql = f"INSERT INTO {_quoted(table.name)} ({columns}) SELECT * FROM {{arrays}}{tail}"  # noqa: S608 - the schema's
    return _arrays({name: table.c[name] for name in names}, sql)


@lru_cache
def _updating(table: sa.Table, names: tuple[str, ...], adding: bool) -> _Arrays:
    (key,) = table.primary_key
    of, quoted = _quoted(table.name), {name: _quoted(name) for name in names}
    was = {name: f"{of}.{each} + " if adding else "" for name, each in quoted.items()}
    changes = ", ".join(f"{each} = {was[name]}given.{each}" for name, each in quoted.items())
    given = ", ".join(("key", *quoted.values()))
    sql = f"UPDATE {of} SET {changes} FROM {{arrays}} AS given ({given}) WHERE {of}.{_quoted(key.name)} = given.key"  # noqa: S608
    return _arrays({"key": key, **{name: table.c[name] for name in names}}, sql)


async def _execute(conn: AsyncConnection, statement: _Arrays, rows: Rows) -> int:
    done = await conn.exec_driver_sql(statement.sql, _columns(statement, rows))
    return done.rowcount


def _columns(statement: _Arrays, rows: Rows) -> tuple[list[Any], ...]:
    return tuple(
        [each[name] for each in rows] if process is None else [process(each[name]) for each in rows]
        for name, process in statement.columns
    )
