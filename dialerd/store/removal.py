"""What was deleted, or never became visible, is removed in small steps."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.model import CampaignStatus, ContactStatus
from dialerd.store.imports import Span
from dialerd.store.schema import (
    callback,
    campaign,
    contact,
    contact_import,
    contact_number,
    import_reject,
)
from dialerd.store.tx import Tx

_AT_REST = tuple(
    each.value
    for each in (ContactStatus.PENDING, ContactStatus.COMPLETED, ContactStatus.FAILED, ContactStatus.CANCELLED)
)


async def staged_numbers(conn: AsyncConnection, campaign_id: int, staged: Span, after: str, limit: int) -> list[str]:
    """Some numbers, after one, that an upload may have taken which never became visible; in their order."""
    # PostgreSQL knows of an upload late: by the bare column it would expect hardly any, and read all for them.
    number, contact_id = contact_number.c.phone_number, contact_number.c.contact_id + 0
    query = sa.select(number).where(
        contact_number.c.campaign_id == campaign_id, number > after, contact_id > staged.first
    )
    if staged.last is not None:
        query = query.where(contact_id < staged.last)
    return list((await conn.execute(query.order_by(number).limit(limit))).scalars())


async def free_numbers(tx: Tx, campaign_id: int, import_id: int, numbers: Sequence[str]) -> None:
    """Free those of some numbers that an upload has taken.

    Where a number's contact is not there, it is the upload's too: numbers are taken before their contacts are stored.
    """
    others = sa.exists().where(contact.c.id == contact_number.c.contact_id, contact.c.list_id != import_id)
    await tx.conn.execute(
        sa.delete(contact_number).where(
            contact_number.c.campaign_id == campaign_id, contact_number.c.phone_number.in_(numbers), sa.not_(others)
        )
    )


async def staged_contacts(tx: Tx, campaign_id: int, import_id: int, limit: int) -> int:
    """Remove some contacts of an upload that never became visible; returns how many."""
    # Named with its campaign and status, the list is one range of ix_contact_due; alone it would scan every contact.
    some = (
        sa.select(contact.c.id)
        .where(
            contact.c.campaign_id == campaign_id,
            contact.c.list_id == import_id,
            contact.c.status == ContactStatus.PENDING,
        )
        .limit(limit)
    )
    result = await tx.conn.execute(sa.delete(contact).where(contact.c.id.in_(some)))
    return result.rowcount


async def of_campaign(tx: Tx, campaign_id: int, limit: int) -> int:
    """Remove some of what belongs to a campaign that nobody can see any more; returns how many rows, 0 at the end.

    Contacts in flight stay until their calls have ended. Calls and events stay: the rules that protect people count
    calls whatever became of their campaign, and events are never given a number twice.
    """
    for removal in (_numbers, _contacts, _callbacks, _rejects):
        result = await tx.conn.execute(removal(campaign_id, limit))
        if result.rowcount:
            return result.rowcount
    return 0


async def hidden(conn: AsyncConnection) -> list[int]:
    """Deleted campaigns that have contacts left which are not in flight, or numbers.

    Without drafts: they may be under way to be created, or are removed whole.
    """
    left = sa.or_(
        sa.exists().where(contact.c.campaign_id == campaign.c.id, contact.c.status.in_(_AT_REST)),
        sa.exists().where(contact_number.c.campaign_id == campaign.c.id),
    )
    query = sa.select(campaign.c.id).where(sa.not_(campaign.c.visible), campaign.c.status != CampaignStatus.DRAFT, left)
    return list((await conn.execute(query)).scalars())


def _numbers(campaign_id: int, limit: int) -> sa.Delete:
    theirs, number = contact_number.c.campaign_id == campaign_id, contact_number.c.phone_number
    return sa.delete(contact_number).where(
        theirs, number.in_(sa.select(number).where(theirs).order_by(number).limit(limit))
    )


def _contacts(campaign_id: int, limit: int) -> sa.Delete:
    some = sa.select(contact.c.id).where(contact.c.campaign_id == campaign_id, contact.c.status.in_(_AT_REST))
    return sa.delete(contact).where(contact.c.id.in_(some.limit(limit)))


def _callbacks(campaign_id: int, limit: int) -> sa.Delete:
    some = sa.select(callback.c.id).where(callback.c.campaign_id == campaign_id)
    return sa.delete(callback).where(callback.c.id.in_(some.limit(limit)))


def _rejects(campaign_id: int, limit: int) -> sa.Delete:
    key = sa.tuple_(import_reject.c.import_id, import_reject.c.position)
    uploads = sa.select(contact_import.c.id).where(contact_import.c.campaign_id == campaign_id)
    some = sa.select(import_reject.c.import_id, import_reject.c.position).where(import_reject.c.import_id.in_(uploads))
    return sa.delete(import_reject).where(key.in_(some.limit(limit)))
