"""Promised callbacks in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.store.schema import callback
from dialerd.store.tx import Tx


class CallbackStatus(StrEnum):
    """What became of a promise."""

    PENDING = "pending"
    DIALLED = "dialled"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Callback:
    """A promise to call a contact at a time."""

    id: int
    campaign_id: int
    contact_id: int
    phone_number: str
    due_at: datetime
    note: str | None
    revived: bool
    """It brought back a contact whose way had ended: withdrawn, the contact is not dialled again."""
    status: CallbackStatus
    created_at: datetime


async def insert(tx: Tx, new: Callback) -> None:
    """Store a promise."""
    await tx.conn.execute(
        sa.insert(callback).values(
            id=new.id,
            campaign_id=new.campaign_id,
            contact_id=new.contact_id,
            phone_number=new.phone_number,
            due_at=new.due_at,
            note=new.note,
            revived=new.revived,
            status=new.status.value,
            created_at=new.created_at,
        )
    )


async def set_status(
    tx: Tx, contact_ids: Sequence[int], status: CallbackStatus, *, callback_id: int | None = None
) -> None:
    """End the pending promises of contacts, or one of them."""
    statement = sa.update(callback).where(
        callback.c.contact_id.in_(contact_ids), callback.c.status == CallbackStatus.PENDING.value
    )
    if callback_id is not None:
        statement = statement.where(callback.c.id == callback_id)
    await tx.conn.execute(statement.values(status=status.value))


async def restore(tx: Tx, contact_ids: Sequence[int]) -> None:
    """The latest promise to each of these contacts was not kept after all: its call never left."""
    latest = sa.select(sa.func.max(callback.c.id)).where(callback.c.contact_id.in_(contact_ids))
    await tx.conn.execute(
        sa.update(callback)
        .where(
            callback.c.id.in_(latest.group_by(callback.c.contact_id)), callback.c.status == CallbackStatus.DIALLED.value
        )
        .values(status=CallbackStatus.PENDING.value)
    )


async def get(conn: AsyncConnection, campaign_id: int, callback_id: int) -> Callback | None:
    """One promise of a campaign."""
    query = sa.select(callback).where(callback.c.id == callback_id, callback.c.campaign_id == campaign_id)
    row = (await conn.execute(query)).first()
    return None if row is None else _callback(row)


async def pending_of(conn: AsyncConnection, contact_id: int) -> list[Callback]:
    """The pending promises to a contact, soonest first."""
    query = sa.select(callback).where(
        callback.c.contact_id == contact_id, callback.c.status == CallbackStatus.PENDING.value
    )
    return [_callback(row) for row in await conn.execute(query.order_by(callback.c.due_at, callback.c.id))]


async def page(
    conn: AsyncConnection, campaign_id: int, *, limit: int, offset: int, after: int | None = None
) -> tuple[list[Callback], int]:
    """A page of a campaign's pending promises, soonest first (none after one that never was), and their count."""
    where = [callback.c.campaign_id == campaign_id, callback.c.status == CallbackStatus.PENDING.value]
    total = await conn.scalar(sa.select(sa.func.count()).select_from(callback).where(*where))
    if after is not None:
        place = sa.select(callback.c.due_at, callback.c.id).where(
            callback.c.id == after, callback.c.campaign_id == campaign_id
        )
        where.append(sa.tuple_(callback.c.due_at, callback.c.id) > place.scalar_subquery())
    query = sa.select(callback).where(*where).order_by(callback.c.due_at, callback.c.id).limit(limit).offset(offset)
    return [_callback(row) for row in await conn.execute(query)], total or 0


def _callback(row: sa.Row[tuple[object, ...]]) -> Callback:
    values = dict(row._mapping)
    return Callback(**{**values, "status": CallbackStatus(values["status"])})
