"""Webhooks and their deliveries in the store. The outbox is the journal of events: an endpoint has a place in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.webhooks import Delivery, DeliveryStatus, Webhook, WebhookStatus
from dialerd.store.schema import campaign, webhook, webhook_delivery
from dialerd.store.tx import Tx

_HELD = (DeliveryStatus.RETRYING.value, DeliveryStatus.WAITING.value)
_DELIVERY = tuple(each.name for each in fields(Delivery))


async def save(tx: Tx, new: Webhook) -> None:
    """Insert a webhook, or replace the one of the same id."""
    values = {
        **{each.name: getattr(new, each.name) for each in fields(Webhook) if each.name != "kinds"},
        "kinds": " ".join(sorted(new.kinds)),
        "status": new.status.value,
    }
    updated = await tx.conn.execute(sa.update(webhook).where(webhook.c.id == new.id).values(values))
    if updated.rowcount == 0:
        await tx.conn.execute(sa.insert(webhook).values(values))


async def get(conn: AsyncConnection, tenant: str, webhook_id: int) -> Webhook | None:
    """One webhook of a tenant."""
    query = sa.select(webhook).where(webhook.c.id == webhook_id, webhook.c.tenant == tenant)
    row = (await conn.execute(query)).mappings().first()
    return None if row is None else _webhook(row)


async def page(
    conn: AsyncConnection, tenant: str, *, limit: int, offset: int, after: int | None = None
) -> tuple[list[Webhook], int]:
    """A page of a tenant's webhooks, oldest first, and how many there are."""
    total = await conn.scalar(sa.select(sa.func.count()).select_from(webhook).where(webhook.c.tenant == tenant))
    query = sa.select(webhook).where(webhook.c.tenant == tenant).order_by(webhook.c.id).limit(limit).offset(offset)
    if after is not None:
        query = query.where(webhook.c.id > after)
    return [_webhook(row) for row in (await conn.execute(query)).mappings()], total or 0


async def enabled(conn: AsyncConnection) -> list[Webhook]:
    """Those of all tenants that are told of events."""
    query = sa.select(webhook).where(webhook.c.status == WebhookStatus.ENABLED.value).order_by(webhook.c.id)
    return [_webhook(row) for row in (await conn.execute(query)).mappings()]


async def remove(tx: Tx, webhook_id: int) -> None:
    """Remove a webhook; its deliveries go in steps (:func:`remove_orphans`)."""
    await tx.conn.execute(sa.delete(webhook).where(webhook.c.id == webhook_id))


async def progress(
    tx: Tx, webhook_id: int, position: int, failing_since: datetime | None, changes: Sequence[Delivery]
) -> None:
    """Keep what became of deliveries, together with the place in the journal up to which they are complete."""
    await tx.conn.execute(
        sa.update(webhook).where(webhook.c.id == webhook_id).values(position=position, failing_since=failing_since)
    )
    if changes:
        await put(tx, changes)


async def put(tx: Tx, changes: Sequence[Delivery]) -> None:
    """Keep deliveries of one webhook as they are now."""
    numbers = [each.seq for each in changes]
    await tx.conn.execute(
        sa.delete(webhook_delivery).where(
            webhook_delivery.c.webhook_id == changes[0].webhook_id, webhook_delivery.c.seq.in_(numbers)
        )
    )
    await tx.conn.execute(sa.insert(webhook_delivery), [_row(each) for each in changes])


async def forget_held(tx: Tx, webhook_id: int, position: int) -> None:
    """The endpoint goes on after a number: what comes after it is read from the journal again."""
    await tx.conn.execute(
        sa.delete(webhook_delivery).where(
            webhook_delivery.c.webhook_id == webhook_id,
            webhook_delivery.c.status.in_(_HELD),
            webhook_delivery.c.seq > position,
        )
    )


async def held(conn: AsyncConnection, webhook_id: int) -> list[Delivery]:
    """The deliveries that are still to be made, oldest first."""
    query = sa.select(webhook_delivery).where(
        webhook_delivery.c.webhook_id == webhook_id, webhook_delivery.c.status.in_(_HELD)
    )
    return [_delivery(row) for row in (await conn.execute(query.order_by(webhook_delivery.c.seq))).mappings()]


async def delivery(conn: AsyncConnection, webhook_id: int, seq: int) -> Delivery | None:
    """One delivery."""
    query = sa.select(webhook_delivery).where(
        webhook_delivery.c.webhook_id == webhook_id, webhook_delivery.c.seq == seq
    )
    row = (await conn.execute(query)).mappings().first()
    return None if row is None else _delivery(row)


async def deliveries(
    conn: AsyncConnection,
    webhook_id: int,
    *,
    status: DeliveryStatus | None,
    limit: int,
    offset: int,
    after: int | None = None,
) -> tuple[list[Delivery], int]:
    """A page of a webhook's deliveries, newest first, and how many there are."""
    where = [webhook_delivery.c.webhook_id == webhook_id]
    if status is not None:
        where.append(webhook_delivery.c.status == status.value)
    total = await conn.scalar(sa.select(sa.func.count()).select_from(webhook_delivery).where(*where))
    if after is not None:
        where.append(webhook_delivery.c.seq < after)
    query = sa.select(webhook_delivery).where(*where).order_by(webhook_delivery.c.seq.desc())
    rows = (await conn.execute(query.limit(limit).offset(offset))).mappings()
    return [_delivery(row) for row in rows], total or 0


async def remove_orphans(tx: Tx, limit: int) -> int:
    """Remove some deliveries of webhooks that are not there any more; returns how many."""
    some = (
        sa.select(webhook_delivery.c.webhook_id, webhook_delivery.c.seq)
        .where(sa.not_(sa.exists().where(webhook.c.id == webhook_delivery.c.webhook_id)))
        .limit(limit)
    )
    return await _remove(tx, some)


async def tenants_of(conn: AsyncConnection, campaign_ids: Sequence[int]) -> dict[int, str]:
    """Whose each campaign is."""
    query = sa.select(campaign.c.id, campaign.c.tenant).where(campaign.c.id.in_(campaign_ids))
    return {row.id: row.tenant for row in await conn.execute(query)}


async def _remove(tx: Tx, some: sa.Select[Any]) -> int:
    key = sa.tuple_(webhook_delivery.c.webhook_id, webhook_delivery.c.seq)
    return (await tx.conn.execute(sa.delete(webhook_delivery).where(key.in_(some)))).rowcount


def _row(each: Delivery) -> dict[str, Any]:
    return {**{name: getattr(each, name) for name in _DELIVERY}, "status": each.status.value}


def _delivery(row: Mapping[Any, Any]) -> Delivery:
    return Delivery(**{**{name: row[name] for name in _DELIVERY}, "status": DeliveryStatus(row["status"])})


def _webhook(row: Mapping[Any, Any]) -> Webhook:
    values = dict(row)
    values |= {"kinds": frozenset(row["kinds"].split()), "status": WebhookStatus(row["status"])}
    return Webhook(**values)
