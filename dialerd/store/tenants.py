"""Tenants that were made through the API; those of the configuration file are not in the store."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.model import Tenant
from dialerd.core.settings import MOST_CALLER_IDS, MOST_PREFIXES, MOST_TENANT_TRUNKS, CampaignSettings, once
from dialerd.store.schema import tenant
from dialerd.store.tx import Tx

_MOST = {"trunks": MOST_TENANT_TRUNKS, "caller_ids": MOST_CALLER_IDS, "allowed_prefixes": MOST_PREFIXES}
_FIELDS = tuple(field.name for field in fields(Tenant) if field.name != "id")


async def insert(tx: Tx, new: Tenant) -> bool:
    """Keep a new tenant; False where there is one of this id already."""
    if await tx.conn.scalar(sa.select(tenant.c.id).where(tenant.c.id == new.id)) is not None:
        return False
    await tx.conn.execute(sa.insert(tenant).values(id=new.id, settings=_values(new), created_at=tx.clock.wall()))
    return True


async def update(tx: Tx, changed: Tenant) -> None:
    """Keep a tenant's new values."""
    await tx.conn.execute(sa.update(tenant).where(tenant.c.id == changed.id).values(settings=_values(changed)))


async def everyone(conn: AsyncConnection) -> list[Tenant]:
    """Every tenant of the store, by its id."""
    rows = await conn.execute(sa.select(tenant.c.id, tenant.c.settings).order_by(tenant.c.id))
    return [_tenant(row.id, row.settings) for row in rows]


def _values(of: Tenant) -> dict[str, Any]:
    return {name: _plain(getattr(of, name)) for name in _FIELDS}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _tenant(tenant_id: str, values: dict[str, Any]) -> Tenant:
    # JSON has no tuples: every list of a tenant is one. An earlier version took lists of any length.
    known: dict[str, Any] = {
        name: once(tuple(value))[: _MOST[name]] if isinstance(value, list) else value
        for name, value in values.items()
        if name in _FIELDS
    }
    settings = CampaignSettings.stored(known.pop("settings", {}))
    return Tenant(id=tenant_id, **known, settings=settings.model_dump(mode="json", exclude_unset=True))
