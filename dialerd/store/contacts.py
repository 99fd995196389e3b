"""Contacts in the store: inserted, read, promised, put off and cancelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.model import Contact, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.store import batches, callbacks, imports
from dialerd.store.callbacks import CallbackStatus
from dialerd.store.contact_ids import in_order, visible
from dialerd.store.records import EventDraft, EventKind
from dialerd.store.schema import CALLBACK_RANK, contact, contact_import, contact_number, from_micros, to_micros
from dialerd.store.tx import Tx

_CHUNK = 500
_NOTHING: Mapping[str, Any] = {}
"""Shared by all that have none: a dictionary of its own is a fiftieth of what a call in flight takes."""
_STAGED = sa.select(contact_import.c.id).where(contact_import.c.published_at.is_(None))
_CANCELLED = (contact.c.id, contact.c.campaign_id, contact.c.phone_number, contact.c.rank, contact.c.last_outcome)
BASE_LIST = 0
"""The list of contacts that were inserted whole; a staged upload is a list of its own."""


async def insert(tx: Tx, campaign_id: int, list_id: int, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert some new pending contacts; returns how many were new. A number the campaign has already is passed over."""
    fresh = await _numbered(tx, campaign_id, rows)
    if not fresh:
        return 0
    fixed = {
        "campaign_id": campaign_id,
        "list_id": list_id,
        "status": ContactStatus.PENDING.value,
        "attempts": 0,
        "callee_tries": 0,
        "mishaps": 0,
        "outcomes": {},
        "due_at": 0,
        "updated_at": tx.clock.wall(),
    }
    await batches.insert(tx.conn, contact, [{**fixed, **row, "rank": row["priority"]} for row in fresh])
    return len(fresh)


async def _numbered(tx: Tx, campaign_id: int, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Take the numbers of new contacts; returns the rows whose number was free."""
    if not rows:
        return rows
    numbers = [
        {"campaign_id": campaign_id, "phone_number": row["phone_number"], "contact_id": row["id"]} for row in rows
    ]
    if await batches.insert(tx.conn, contact_number, numbers, skip=True) == len(rows):
        return rows
    ours: set[int] = set()
    for start in range(0, len(rows), _CHUNK):
        query = sa.select(contact_number.c.contact_id).where(
            contact_number.c.campaign_id == campaign_id,
            contact_number.c.phone_number.in_([row["phone_number"] for row in rows[start : start + _CHUNK]]),
        )
        ours.update((await tx.conn.execute(query)).scalars())
    return [row for row in rows if row["id"] in ours]


async def get_many(conn: AsyncConnection, ids: Sequence[int]) -> dict[int, Contact]:
    """Contacts by id."""
    found: dict[int, Contact] = {}
    for start in range(0, len(ids), 500):
        query = sa.select(contact).where(contact.c.id.in_(ids[start : start + 500]))
        found.update({row["id"]: to_contact(row) for row in (await conn.execute(query)).mappings()})
    return found


async def get(conn: AsyncConnection, campaign_id: int, contact_id: int) -> Contact | None:
    """One visible contact of a campaign."""
    query = sa.select(contact).where(
        contact.c.campaign_id == campaign_id, contact.c.id == contact_id, contact.c.list_id.not_in(_STAGED)
    )
    row = (await conn.execute(query)).mappings().first()
    return None if row is None else to_contact(row)


async def by_number(conn: AsyncConnection, campaign_id: int, phone_number: str) -> Contact | None:
    """The visible contact of a campaign that has a number."""
    query = sa.select(contact_number.c.contact_id).where(
        contact_number.c.campaign_id == campaign_id, contact_number.c.phone_number == phone_number
    )
    contact_id = await conn.scalar(query)
    return None if contact_id is None else await get(conn, campaign_id, contact_id)


async def reason_of(conn: AsyncConnection, contact_id: int) -> str | None:
    """Why a contact was cancelled; None for one that was not."""
    query = sa.select(contact.c.reason).where(
        contact.c.id == contact_id, contact.c.status == ContactStatus.CANCELLED.value
    )
    reason: str | None = await conn.scalar(query)
    return reason


async def cancel_pending(tx: Tx, campaign_id: int, limit: int, *, reason: str) -> int:
    """Cancel some of a campaign's pending contacts, with an event each; returns how many there were."""
    staged = await imports.staged(tx.conn, campaign_id)
    pending = visible(campaign_id, staged, status=ContactStatus.PENDING)
    some = in_order(pending, ["id"], limit, tx.conn.dialect.name).subquery()
    return await _cancel(tx, sa.update(contact).where(contact.c.id.in_(sa.select(some.c.id))), reason)


async def cancel_one(tx: Tx, contact_id: int, reason: str) -> bool:
    """Cancel one pending contact, with an event; False where it is not pending."""
    return await _cancel(tx, _pending([contact_id]), reason) > 0


async def promise(tx: Tx, contact_id: int, due_at: datetime, *, fresh: bool) -> None:
    """Let a contact be dialled at a time, ahead of all priorities. ``fresh``: it is pending anew, no try spent."""
    values: dict[str, Any] = {"due_at": to_micros(due_at), "deferred": False, "rank": CALLBACK_RANK}
    values["updated_at"] = tx.clock.wall()
    if fresh:
        values |= {"status": ContactStatus.PENDING.value, "callee_tries": 0, "mishaps": 0, "outcomes": {}}
    await tx.conn.execute(sa.update(contact).where(contact.c.id == contact_id).values(values))


async def release(tx: Tx, contact_id: int) -> None:
    """A promise to a pending contact is withdrawn: it is due at once, with its own priority."""
    values = {"due_at": 0, "deferred": False, "rank": contact.c.priority, "updated_at": tx.clock.wall()}
    await tx.conn.execute(_pending([contact_id]).values(values))


async def put_off(tx: Tx, deferred: Sequence[tuple[int, datetime | None, str]]) -> None:
    """Give due contacts another time; those whose time never comes are cancelled, with the reason.

    At most some 500 at once: their ids stand in the statements. A contact that was promised a later time since it was
    looked at keeps that one.
    """
    now = to_micros(tx.clock.wall())
    later: dict[datetime, list[int]] = {}
    never: dict[str, list[int]] = {}
    for contact_id, until, reason in deferred:
        if until is not None:
            later.setdefault(until, []).append(contact_id)
        else:
            never.setdefault(reason, []).append(contact_id)
    for until, ids in later.items():
        later_then = {"due_at": to_micros(until), "deferred": True}
        await tx.conn.execute(_pending(ids).where(contact.c.due_at <= now).values(later_then))
    for reason, ids in never.items():
        await _cancel(tx, _pending(ids), reason)


async def recall(tx: Tx, campaign_id: int, limit: int) -> int:
    """Let some contacts that a rule has put off be due at once, for the rule has changed; returns how many."""
    some = (
        sa.select(contact.c.id)
        .where(contact.c.campaign_id == campaign_id, contact.c.deferred)
        .order_by(contact.c.id)
        .limit(limit)
    )
    recalled = await tx.conn.execute(
        sa.update(contact).where(contact.c.id.in_(some)).values(due_at=0, deferred=False, updated_at=tx.clock.wall())
    )
    return recalled.rowcount


def _pending(ids: Sequence[int]) -> sa.Update:
    return sa.update(contact).where(contact.c.id.in_(ids), contact.c.status == ContactStatus.PENDING)


async def cancel_chosen(tx: Tx, where: Sequence[sa.ColumnElement[bool]], reason: str) -> int:
    """Cancel the visible contacts that fulfil some conditions, with an event each; returns how many there were."""
    # What is still staged is not counted yet; it is looked at when it is dialled.
    return await _cancel(tx, sa.update(contact).where(*where, contact.c.list_id.not_in(_STAGED)), reason)


async def _cancel(tx: Tx, chosen: sa.Update, reason: str) -> int:
    """Cancel the contacts that an update statement chooses, with an event each; returns how many there were."""
    now = tx.clock.wall()
    values = {"status": ContactStatus.CANCELLED.value, "updated_at": now, "reason": reason, "due_at": 0}
    rows = await tx.conn.execute(chosen.values({**values, "deferred": False}).returning(*_CANCELLED))
    cancelled = sorted(tuple(row) for row in rows)
    if promised := [contact_id for contact_id, _, _, rank, _ in cancelled if rank == CALLBACK_RANK]:
        await callbacks.set_status(tx, promised, CallbackStatus.CANCELLED)
    for contact_id, campaign_id, number, _, last in cancelled:
        tx.emit(
            EventDraft(
                EventKind.CANCELLED, campaign_id, ContactStatus.CANCELLED.value, now, contact_id, phone_number=number
            )
        )
        outcome = Outcome(last) if last else None
        tx.stats(campaign_id).move(ContactStatus.PENDING, ContactStatus.CANCELLED, had=outcome, has=outcome)
        tx.touched.add(campaign_id)
    return len(cancelled)


def rank_of(each: Contact) -> int:
    """The rank in which a pending contact waits: by its priority, or before all others."""
    return CALLBACK_RANK if each.callback else each.priority


def to_contact(row: Mapping[Any, Any]) -> Contact:
    """A contact as its row has it."""
    status = ContactStatus(row["status"])
    waits = status is ContactStatus.PENDING and row["due_at"] > 0
    return Contact(
        id=row["id"],
        campaign_id=row["campaign_id"],
        phone_number=row["phone_number"],
        first_name=row["first_name"],
        last_name=row["last_name"],
        email=row["email"],
        company=row["company"],
        timezone=row["timezone"],
        priority=row["priority"],
        external_id=row["external_id"],
        attributes=row["attributes"] or _NOTHING,
        status=status,
        attempts=row["attempts"],
        callee_tries=row["callee_tries"],
        mishaps=row["mishaps"],
        outcomes=row["outcomes"] or _NOTHING,
        last_outcome=Outcome(row["last_outcome"]) if row["last_outcome"] else None,
        next_attempt_at=from_micros(row["due_at"]) if waits else None,
        updated_at=row["updated_at"],
        callback=row["rank"] == CALLBACK_RANK,
    )
