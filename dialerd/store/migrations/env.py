"""Alembic's entry: the connection and the transaction of whoever migrates, no configuration file."""

from __future__ import annotations

from alembic import context

from dialerd.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
