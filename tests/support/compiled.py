"""One cache of compiled statements for all engines on SQLite.

Each daemon of a test has engines of its own, and each engine compiles for itself what thousands before it compiled: a
tenth of the time that the simulations take. Their dialects are all alike.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.util import LRUCache

_ROOM = 2000


def share_compiled() -> None:
    """From here on what one engine compiles serves all."""
    cache: Any = LRUCache(_ROOM)
    # The dialect is part of a statement's key.
    SQLiteDialect_aiosqlite.__eq__ = _alike  # type: ignore[method-assign]
    SQLiteDialect_aiosqlite.__hash__ = _as_one  # type: ignore[method-assign, assignment]

    @sa.event.listens_for(sa.engine.Engine, "engine_connect")
    def _share(connection: sa.Connection) -> None:
        if type(connection.dialect) is SQLiteDialect_aiosqlite:
            connection.engine._compiled_cache = cache


def _alike(own: object, other: object) -> bool:
    return type(own) is type(other)


def _as_one(own: object) -> int:
    return hash(type(own))
