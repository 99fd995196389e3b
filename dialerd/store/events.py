"""Committed events in the store: what a stream that was away has missed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.clock import show_id
from dialerd.core.outcome import Outcome
from dialerd.store.records import Event, EventDraft, EventKind
from dialerd.store.schema import event


async def after(conn: AsyncConnection, campaign_id: int, seq: int, limit: int) -> list[Event]:
    """A campaign's events after a number, oldest first."""
    query = sa.select(event).where(event.c.campaign_id == campaign_id, event.c.seq > seq)
    return [_event(row) for row in (await conn.execute(query.order_by(event.c.seq).limit(limit))).mappings()]


async def span(conn: AsyncConnection, after: int, upto: int) -> list[Event]:
    """The events of all campaigns after a number up to another, oldest first."""
    query = sa.select(event).where(event.c.seq > after, event.c.seq <= upto).order_by(event.c.seq)
    return [_event(row) for row in (await conn.execute(query)).mappings()]


async def get(conn: AsyncConnection, seq: int) -> Event | None:
    """One event."""
    row = (await conn.execute(sa.select(event).where(event.c.seq == seq))).mappings().first()
    return None if row is None else _event(row)


async def last(conn: AsyncConnection) -> int:
    """The number of the last event; 0 where there is none."""
    return await conn.scalar(sa.select(sa.func.max(event.c.seq))) or 0


def shown(draft: EventDraft) -> dict[str, str | None]:
    """An event as its readers see it, on streams and in webhooks."""
    data = {
        "campaign_id": show_id(draft.campaign_id),
        "contact_id": None if draft.contact_id is None else show_id(draft.contact_id),
        "call_id": draft.call_id,
        "status": draft.status,
        "outcome": draft.outcome,
        "phone_number": draft.phone_number,
        "at": draft.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }
    if draft.reason is not None:
        data["reason"] = draft.reason
    return data


def _event(row: Mapping[Any, Any]) -> Event:
    return Event(
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
