"""Uploads in the store: staged in short steps, published by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.model import ContactStatus
from dialerd.store import batches
from dialerd.store.schema import contact_import, import_reject
from dialerd.store.tx import Tx


@dataclass(frozen=True, slots=True)
class Import:
    """An upload and its report in numbers."""

    id: int
    campaign_id: int
    staged: bool
    added: int = 0
    duplicates: int = 0
    invalid: int = 0
    do_not_call: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """Where an upload that is not visible yet has its contacts: above ``first`` and below ``last``, by their ids.

    ``first`` is the upload's own id, ``last`` that of the next upload to the campaign; None while there is none.
    Uploads to a campaign take turns, and ids only grow.
    """

    first: int
    last: int | None


async def begin(tx: Tx, new: Import) -> None:
    """Note that an upload is under way."""
    await tx.conn.execute(
        sa.insert(contact_import).values(
            id=new.id,
            campaign_id=new.campaign_id,
            created_at=tx.clock.wall(),
            published_at=None,
            staged=new.staged,
            added=0,
            duplicates=0,
            invalid=0,
            do_not_call=0,
        )
    )


async def publish(tx: Tx, done: Import) -> None:
    """Make an upload's contacts visible, all at once, with its report."""
    await tx.conn.execute(
        sa.update(contact_import)
        .where(contact_import.c.id == done.id)
        .values(
            published_at=tx.clock.wall(),
            added=done.added,
            duplicates=done.duplicates,
            invalid=done.invalid,
            do_not_call=done.do_not_call,
        )
    )
    tx.stats(done.campaign_id).move(None, ContactStatus.PENDING, done.added)


async def reject(tx: Tx, import_id: int, position: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep rejected rows for the report; ``position`` is the place of the first in the report."""
    if rows:
        numbered = [{**row, "import_id": import_id, "position": position + index} for index, row in enumerate(rows)]
        await batches.insert(tx.conn, import_reject, numbered)


async def remove(tx: Tx, import_id: int) -> None:
    """Remove an upload that came to nothing; its contacts and its report are removed before, in steps."""
    await tx.conn.execute(sa.delete(contact_import).where(contact_import.c.id == import_id))


async def remove_rejects(tx: Tx, import_id: int, limit: int) -> int:
    """Remove some rejected rows of an upload that came to nothing; returns how many."""
    some = sa.select(import_reject.c.position).where(import_reject.c.import_id == import_id).limit(limit)
    result = await tx.conn.execute(
        sa.delete(import_reject).where(import_reject.c.import_id == import_id, import_reject.c.position.in_(some))
    )
    return result.rowcount


async def is_published(conn: AsyncConnection, import_id: int, campaign_id: int | None = None) -> bool:
    """Whether an upload (of a campaign) is there and visible."""
    query = sa.select(contact_import.c.id).where(
        contact_import.c.id == import_id, contact_import.c.published_at.is_not(None)
    )
    if campaign_id is not None:
        query = query.where(contact_import.c.campaign_id == campaign_id)
    return (await conn.execute(query)).first() is not None


async def rejects(conn: AsyncConnection, import_id: int, *, after: int, limit: int) -> list[Mapping[str, Any]]:
    """Some rejected rows of an upload, those after a position, in the upload's order."""
    query = sa.select(import_reject).where(import_reject.c.import_id == import_id, import_reject.c.position > after)
    rows = (await conn.execute(query.order_by(import_reject.c.position).limit(limit))).mappings()
    return [dict(row) for row in rows]


_later = contact_import.alias()
_STAGED = (
    sa.select(
        contact_import.c.id,
        sa.select(sa.func.min(_later.c.id))
        .where(_later.c.campaign_id == sa.bindparam("campaign"), _later.c.id > contact_import.c.id)
        .scalar_subquery(),
    )
    .where(contact_import.c.campaign_id == sa.bindparam("campaign"), contact_import.c.published_at.is_(None))
    .order_by(contact_import.c.id)
)


async def staged(conn: AsyncConnection, campaign_id: int) -> list[Span]:
    """Where a campaign's contacts are staged, in the order of ids."""
    return [Span(*row) for row in await conn.execute(_STAGED, {"campaign": campaign_id})]


async def unpublished(conn: AsyncConnection) -> list[tuple[int, int]]:
    """Uploads (their ids, and their campaigns') that a restart cut short."""
    query = sa.select(contact_import.c.id, contact_import.c.campaign_id).where(contact_import.c.published_at.is_(None))
    return [(row[0], row[1]) for row in await conn.execute(query)]
