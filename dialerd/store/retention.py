"""What is old enough is removed, in steps: events, deliveries, and campaigns that ended with all that is theirs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.campaign import FINISHED
from dialerd.core.model import CampaignStatus
from dialerd.core.webhooks import DeliveryStatus
from dialerd.store.schema import (
    call,
    campaign,
    campaign_stats,
    contact,
    contact_import,
    contact_outcome,
    event,
    webhook,
    webhook_delivery,
)
from dialerd.store.tx import Tx

_SETTLED = (DeliveryStatus.DELIVERED.value, DeliveryStatus.FAILED.value)
_FINISHED = tuple(each.value for each in FINISHED)


async def oldest_event(conn: AsyncConnection) -> tuple[int, datetime] | None:
    """The number and the time of the oldest event that is kept; None: there was none ever."""
    row = (await conn.execute(sa.select(event.c.seq, event.c.at).order_by(event.c.seq).limit(1))).first()
    return None if row is None else (row.seq, row.at)


async def remove_events(tx: Tx, before: datetime, limit: int) -> tuple[int, int]:
    """Remove some of the oldest events; returns how many, and the number up to which none is left.

    The newest stays however old it is: from it the next one's number is counted, over a restart too.
    """
    query = sa.select(event.c.seq, event.c.at).order_by(event.c.seq).limit(limit + 1)
    rows = (await tx.conn.execute(query)).all()
    old = 0
    while old < len(rows) - 1 and rows[old].at < before:
        old += 1
    if not old:
        return 0, 0
    upto = rows[old - 1].seq
    await tx.conn.execute(sa.delete(event).where(event.c.seq <= upto))
    return old, upto


async def remove_deliveries(tx: Tx, webhook_id: int, before: datetime, limit: int) -> int:
    """Remove some of a webhook's deliveries that were settled long ago; returns how many."""
    removed = 0
    for status in _SETTLED:
        theirs = (webhook_delivery.c.webhook_id == webhook_id, webhook_delivery.c.status == status)
        query = sa.select(webhook_delivery.c.seq, webhook_delivery.c.created_at).where(*theirs)
        rows = (await tx.conn.execute(query.order_by(webhook_delivery.c.seq).limit(limit))).all()
        old = [row.seq for row in rows if row.created_at < before]
        if old:
            chosen = webhook_delivery.c.seq.between(old[0], old[-1])
            statement = sa.delete(webhook_delivery).where(*theirs, chosen, webhook_delivery.c.created_at < before)
            removed += (await tx.conn.execute(statement)).rowcount
    return removed


async def webhook_ids(conn: AsyncConnection) -> Sequence[int]:
    """Every webhook."""
    return (await conn.execute(sa.select(webhook.c.id).order_by(webhook.c.id))).scalars().all()


async def webhooks_of(conn: AsyncConnection, campaign_id: int) -> list[tuple[str, int]]:
    """The webhooks that are for one campaign alone, each with its tenant."""
    query = sa.select(webhook.c.tenant, webhook.c.id).where(webhook.c.campaign_id == campaign_id)
    return [(row.tenant, row.id) for row in await conn.execute(query)]


async def old_campaigns(conn: AsyncConnection, before: datetime, limit: int) -> list[int]:
    """Some campaigns that ended, or were deleted, before a time, and called nobody since."""
    ended = sa.and_(campaign.c.status.in_(_FINISHED), campaign.c.completed_at < before)
    deleted = sa.and_(sa.not_(campaign.c.visible), campaign.c.status != CampaignStatus.DRAFT.value)
    called = sa.exists().where(call.c.campaign_id == campaign.c.id, call.c.originated_at >= before)
    query = sa.select(campaign.c.id).where(sa.or_(ended, deleted), campaign.c.created_at < before, sa.not_(called))
    return list((await conn.execute(query.order_by(campaign.c.id).limit(limit))).scalars())


async def remove_rest(tx: Tx, campaign_id: int, limit: int) -> int:
    """Remove some of what is left of a hidden campaign once its contacts are gone; at last the campaign itself.

    Returns how many rows; 0 where nothing is left that can go: a contact may be in flight yet.
    """
    for some in (_calls(campaign_id, limit), _events(campaign_id, limit)):
        removed = (await tx.conn.execute(some)).rowcount
        if removed:
            return removed
    if await tx.conn.scalar(sa.select(sa.exists().where(contact.c.campaign_id == campaign_id))):
        return 0
    for table in (contact_outcome, contact_import, campaign_stats):
        await tx.conn.execute(sa.delete(table).where(table.c.campaign_id == campaign_id))
    return (await tx.conn.execute(sa.delete(campaign).where(campaign.c.id == campaign_id))).rowcount


def _calls(campaign_id: int, limit: int) -> sa.Delete:
    some = sa.select(call.c.id).where(call.c.campaign_id == campaign_id, call.c.ended_at.is_not(None)).limit(limit)
    return sa.delete(call).where(call.c.id.in_(some))


def _events(campaign_id: int, limit: int) -> sa.Delete:
    last: Any = sa.select(sa.func.max(event.c.seq)).scalar_subquery()
    some = sa.select(event.c.seq).where(event.c.campaign_id == campaign_id, event.c.seq < last)
    return sa.delete(event).where(event.c.seq.in_(some.order_by(event.c.seq).limit(limit)))
