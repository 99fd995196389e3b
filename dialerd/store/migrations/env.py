"""Alembic's entry: one connection, one transaction, no configuration file."""

from __future__ import annotations

from alembic import context

from dialerd.store.migrate import engine_for_migration
from dialerd.store.schema import metadata

engine = engine_for_migration(context.config.attributes["url"])
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
