"""Bring a store to the schema of this version (Alembic). Imported only where it is needed: it costs 0.3 s."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url

from dialerd.store import schema
from dialerd.store.errors import StoreError


def migrate(url: str) -> str:
    """Migrate the store to this version's schema and return its revision. Raises StoreError.

    A store that a newer version wrote is left alone: its revision is unknown here, which is an error.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["url"] = make_url(url)
    try:
        command.upgrade(config, "head")
    except Exception as error:
        # Alembic raises errors of many kinds; each means that the store is as it was (DDL is transactional here).
        raise StoreError(f"migration failed: {error}") from error
    return schema.REVISION


def is_new(url: str) -> bool:
    """Whether the URL names a SQLite file that is not there yet."""
    parsed = make_url(url)
    return parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists()


def engine_for_migration(url: sa.URL) -> sa.Engine:
    """A plain, synchronous engine: migrations run before the daemon, or beside it by hand."""
    return sa.create_engine(url)
