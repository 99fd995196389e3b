"""Numbers that must not be called, per tenant."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.model import CampaignStatus, ContactStatus
from dialerd.store import batches, contacts
from dialerd.store.prepared import prepared
from dialerd.store.schema import campaign, contact, contact_number, do_not_call
from dialerd.store.tx import Tx

REASON = "on the do-not-call list"
_LISTED = prepared(
    sa.select(do_not_call.c.phone_number).where(
        do_not_call.c.tenant == sa.bindparam("whose"),
        do_not_call.c.phone_number.in_(sa.bindparam("keys", expanding=True)),
    )
)


@dataclass(frozen=True, slots=True)
class DoNotCall:
    """A number on a tenant's list."""

    phone_number: str
    note: str | None
    created_at: datetime


async def add(tx: Tx, tenant: str, numbers: Mapping[str, str | None]) -> int:
    """Put numbers (each with a note) on the list, and cancel their pending contacts; returns how many were new."""
    known = await listed(tx.conn, tenant, numbers)
    now = tx.clock.wall()
    fresh = [
        {"tenant": tenant, "phone_number": number, "note": note, "created_at": now}
        for number, note in numbers.items()
        if number not in known
    ]
    if fresh:
        await batches.insert(tx.conn, do_not_call, fresh)
    unfinished = sa.select(campaign.c.id).where(
        campaign.c.tenant == tenant,
        campaign.c.status.in_(
            [each.value for each in (CampaignStatus.DRAFT, CampaignStatus.ACTIVE, CampaignStatus.PAUSED)]
        ),
    )
    theirs = sa.select(contact_number.c.contact_id).where(
        contact_number.c.campaign_id.in_(unfinished), contact_number.c.phone_number.in_(list(numbers))
    )
    await contacts.cancel_chosen(tx, [contact.c.id.in_(theirs), contact.c.status == ContactStatus.PENDING], REASON)
    return len(fresh)


async def remove(tx: Tx, tenant: str, number: str) -> bool:
    """Take a number off the list; False where it is not on it."""
    result = await tx.conn.execute(
        sa.delete(do_not_call).where(do_not_call.c.tenant == tenant, do_not_call.c.phone_number == number)
    )
    return result.rowcount > 0


async def listed(conn: AsyncConnection, tenant: str, numbers: Collection[str]) -> set[str]:
    """Which of these numbers are on the list."""
    return set((await conn.execute(_LISTED, {"whose": tenant, "keys": list(numbers)})).scalars())


async def page(
    conn: AsyncConnection, tenant: str, *, limit: int, offset: int, after: str | None = None
) -> tuple[list[DoNotCall], int]:
    """A page of a tenant's list in the order of numbers (those after one), and how many there are in all."""
    total = await conn.scalar(sa.select(sa.func.count()).select_from(do_not_call).where(do_not_call.c.tenant == tenant))
    query = sa.select(do_not_call).where(do_not_call.c.tenant == tenant).order_by(do_not_call.c.phone_number)
    if after is not None:
        query = query.where(do_not_call.c.phone_number > after)
    rows: Sequence[Any] = (await conn.execute(query.limit(limit).offset(offset))).all()
    return [DoNotCall(row.phone_number, row.note, row.created_at) for row in rows], total or 0
