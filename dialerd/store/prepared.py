"""The statements of every commit: compiled once, and the whole transaction done in one trip to SQLite's thread.

A statement by SQLAlchemy's way through an asyncio driver costs ten times what SQLite does for it: its cache key is
made, its parameters are processed, and two threads wake each other. A commit of the journal has a dozen of them. So
these are marked with :func:`prepared`, and the work that executes them goes to the thread as a whole.

A work is an ordinary coroutine that awaits nothing but the statements which it executes on the connection that it is
given. In the thread it runs from one prepared statement to the next. Where it comes to any other, what it did is taken
back, and it is done again from its start as everywhere else, with SQLAlchemy's connection.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")
S = TypeVar("S", bound=sa.Executable)
Row = Mapping[str, Any]
Work = Coroutine[Any, Any, T]


class Result(NamedTuple):
    """What a statement gave, as sqlite3 has it."""

    rows: list[Any]
    description: Any
    rowcount: int
    lastrowid: int | None


class Perform(Protocol):
    """Executes a statement by a method of sqlite3's cursor, at once, in the connection's thread."""

    def __call__(self, method: str, sql: str, parameters: Iterable[Any]) -> Result:
        """Raises sqlite3.Error."""


_DIALECT = sqlite.dialect(paramstyle="qmark")
_KEYS = re.compile(r"__\[POSTCOMPILE_\w+\]")
_prepared: dict[sa.Executable, _Prepared | None] = {}


def prepared(statement: S) -> S:
    """Mark a statement that very many commits execute, always with parameters of the same names; returns it.

    A list of keys (an ``expanding`` parameter) may be of any length. What the statement gives is taken as the driver
    gives it, so its columns must be plain numbers and texts.
    """
    _prepared[statement] = None
    return statement


async def in_transaction(
    conn: AsyncConnection,
    work: Callable[[AsyncConnection], Work[T]],
    transact: Callable[[Callable[[Perform], Done[T]]], Awaitable[Done[T]]],
) -> Done[T] | None:
    """Do a work within what ``transact`` begins and commits; None where it is not all prepared, and nothing is done.

    The work awaits nothing but its connection, and does nothing that cannot be done twice. Raises what it raises, and
    SQLAlchemyError where a statement fails.
    """
    running = work(cast(AsyncConnection, _Trip(conn.dialect)))
    try:
        return await transact(partial(_run, running))
    except _Unprepared:
        return None
    except sqlite3.Error as error:
        raise _translated(error) from error
    finally:
        running.close()


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What a work came to."""

    value: T


class Rows(list[Any]):
    """What a prepared statement gave: its rows as tuples."""

    def __init__(self, rows: Sequence[Any], rowcount: int) -> None:
        super().__init__(rows)
        self.rowcount = rowcount
        """How many rows it changed."""

    def scalars(self) -> Iterator[Any]:
        """The first column."""
        return (row[0] for row in self)


class _Trip:
    """What a work has for a connection while it is on its trip."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self.dialect = dialect

    async def execute(
        self, statement: sa.Executable, parameters: Row | Sequence[Row] | None = None, **_options: Any
    ) -> Any:
        """Execute a statement. Raises SQLAlchemyError."""
        return await _Asked(statement, parameters)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A statement that a work waits for."""

    statement: sa.Executable
    parameters: Row | Sequence[Row] | None

    def __await__(self) -> Generator[_Asked, Any, Any]:
        return (yield self)


class _Unprepared(Exception):
    """A work came to a statement that is not prepared."""


def _run(running: Work[T], perform: Perform) -> Done[T]:
    """Run a work from statement to statement to its end. Raises _Unprepared."""
    step: Callable[[], Any] = partial(running.send, None)
    try:
        while True:
            asked = step()
            if not isinstance(asked, _Asked):
                raise TypeError("a work of the store waits for something else than its connection")
            if asked.statement not in _prepared:
                raise _Unprepared
            try:
                step = partial(running.send, _execute(perform, asked))
            except Exception as error:
                step = partial(running.throw, error)
    except StopIteration as end:
        return Done(end.value)


def _execute(perform: Perform, asked: _Asked) -> Rows:
    given = asked.parameters or {}
    rows = (given,) if isinstance(given, Mapping) else given
    ready = _prepared[asked.statement]
    if ready is None:
        ready = _prepared[asked.statement] = _Prepared(asked.statement, rows[0])
    try:
        if rows is given:
            result = perform("executemany", ready.sql, map(ready.bind, rows))
        else:
            result = perform("execute", ready.sql, ready.bind(rows[0]))
    except sqlite3.Error as error:
        raise _translated(error) from error
    return Rows(result.rows, result.rowcount)


def _translated(error: sqlite3.Error) -> BaseException:
    return DBAPIError.instance(None, None, error, sqlite3.Error)


class _Prepared:
    """A statement as SQLite's driver takes it, and how its parameters become what is bound."""

    def __init__(self, statement: Any, example: Row) -> None:
        compiled = statement.compile(dialect=_DIALECT, column_keys=list(example))
        # A list of keys travels as one text: the statement is the same for any number of them.
        self.sql = _KEYS.sub("SELECT value FROM json_each(?)", str(compiled))
        names: list[str] = compiled.positiontup
        self._fixed = {name: value for name, value in compiled.params.items() if name in names and name not in example}
        self._pick = itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)
        self._typed = [
            (place, process)
            for place, name in enumerate(names)
            if (process := _process(compiled.binds[name])) is not None
        ]

    def bind(self, row: Row) -> Sequence[Any]:
        """The values to be bound, in the statement's order. Raises KeyError where one is missing."""
        values = self._pick({**self._fixed, **row} if self._fixed else row)
        if not self._typed:
            return values
        bound = list(values)
        for place, process in self._typed:
            bound[place] = process(bound[place])
        return bound


def _process(parameter: sa.BindParameter[Any]) -> Callable[[Any], Any] | None:
    if parameter.expanding:
        return lambda keys: json.dumps(list(keys))
    return parameter.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
