"""Agents in the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.model import Agent, AgentKind
from dialerd.store.schema import agent
from dialerd.store.tx import Tx

_FIELDS = (
    "tenant",
    "name",
    "kind",
    "max_concurrent_calls",
    "context",
    "exten",
    "priority",
    "queue",
    "application",
    "data",
)


async def save(tx: Tx, new: Agent) -> None:
    """Insert an agent, or replace the one of the same id."""
    values = {name: getattr(new, name) for name in _FIELDS} | {"kind": new.kind.value}
    updated = await tx.conn.execute(sa.update(agent).where(agent.c.id == new.id).values(values))
    if updated.rowcount == 0:
        await tx.conn.execute(sa.insert(agent).values(id=new.id, created_at=tx.clock.wall(), **values))


async def remove(tx: Tx, agent_id: int) -> None:
    """Remove an agent."""
    await tx.conn.execute(sa.delete(agent).where(agent.c.id == agent_id))


async def get(conn: AsyncConnection, tenant: str | None, agent_id: int) -> Agent | None:
    """One agent of a tenant (None: of any)."""
    query = sa.select(agent).where(agent.c.id == agent_id)
    if tenant is not None:
        query = query.where(agent.c.tenant == tenant)
    row = (await conn.execute(query)).mappings().first()
    return None if row is None else _agent(row)


async def by_name(conn: AsyncConnection, tenant: str, name: str) -> Agent | None:
    """One agent of a tenant by its name."""
    query = sa.select(agent).where(agent.c.tenant == tenant, agent.c.name == name)
    row = (await conn.execute(query)).mappings().first()
    return None if row is None else _agent(row)


async def page(
    conn: AsyncConnection, tenant: str, *, limit: int, offset: int, after: int | None = None
) -> tuple[list[Agent], int]:
    """A page of a tenant's agents, and how many there are."""
    total = await conn.scalar(sa.select(sa.func.count()).select_from(agent).where(agent.c.tenant == tenant))
    query = sa.select(agent).where(agent.c.tenant == tenant).order_by(agent.c.id).limit(limit).offset(offset)
    if after is not None:
        query = query.where(agent.c.id > after)
    return [_agent(row) for row in (await conn.execute(query)).mappings()], total or 0


async def everyone(conn: AsyncConnection) -> list[Agent]:
    """All agents of all tenants."""
    return [_agent(row) for row in (await conn.execute(sa.select(agent))).mappings()]


def _agent(row: Mapping[Any, Any]) -> Agent:
    return Agent(id=row["id"], **{name: row[name] for name in _FIELDS} | {"kind": AgentKind(row["kind"])})
