"""Committed events in the store: what a stream that was away has missed."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.outcome import Outcome
from dialerd.store.records import Event, EventDraft, EventKind
from dialerd.store.schema import event


async def after(conn: AsyncConnection, campaign_id: int, seq: int, limit: int) -> list[Event]:
    """A campaign's events after a number, oldest first."""
    query = sa.select(event).where(event.c.campaign_id == campaign_id, event.c.seq > seq)
    rows = (await conn.execute(query.order_by(event.c.seq).limit(limit))).mappings()
    return [
        Event(
            row["seq"],
            EventDraft(
                kind=EventKind(row["kind"]),
                campaign_id=row["campaign_id"],
                status=row["status"],
                at=row["at"],
                contact_id=row["contact_id"],
                call_id=row["call_id"],
                outcome=Outcome(row["outcome"]) if row["outcome"] else None,
                phone_number=row["phone_number"],
                reason=row["reason"],
            ),
        )
        for row in rows
    ]


async def last(conn: AsyncConnection) -> int:
    """The number of the last event; 0 where there is none."""
    return await conn.scalar(sa.select(sa.func.max(event.c.seq))) or 0
