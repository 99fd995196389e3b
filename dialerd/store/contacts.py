"""Contacts in the store: inserted, claimed, listed and cancelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.model import Contact, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.store import callbacks
from dialerd.store.callbacks import CallbackStatus
from dialerd.store.contact_search import matching
from dialerd.store.records import EventDraft, EventKind
from dialerd.store.schema import CALLBACK_RANK, contact, contact_import, from_micros, to_micros
from dialerd.store.tx import Tx

_QUICKLY = 20_000
"""Contacts counted in some milliseconds."""
BASE_LIST = 0
"""The list of contacts that were inserted whole; a staged upload is a list of its own."""

# What is asked most, built once: a statement that is built anew costs more than it takes to run.
_PENDING_AT = (
    contact.c.campaign_id == sa.bindparam("campaign"),
    contact.c.list_id.in_(sa.bindparam("lists", expanding=True)),
    contact.c.rank == sa.bindparam("at_rank"),
    contact.c.status == ContactStatus.PENDING.value,
)
_DUE = (
    sa.select(contact)
    .where(*_PENDING_AT, contact.c.due_at <= sa.bindparam("now"))
    .order_by(contact.c.due_at, contact.c.id)
    .limit(sa.bindparam("most", type_=sa.Integer))
)
_NEXT_DUE = sa.select(sa.func.min(contact.c.due_at)).where(*_PENDING_AT, contact.c.due_at > sa.bindparam("now"))
_HIGHEST_RANK_BELOW = sa.select(sa.func.max(contact.c.rank)).where(
    contact.c.campaign_id == sa.bindparam("campaign"),
    contact.c.list_id == sa.bindparam("list"),
    contact.c.status == ContactStatus.PENDING.value,
    contact.c.rank < sa.bindparam("below"),
)
_VISIBLE_LISTS = sa.select(contact_import.c.id).where(
    contact_import.c.campaign_id == sa.bindparam("campaign"),
    contact_import.c.staged,
    contact_import.c.published_at.is_not(None),
)
_ABOVE_ALL_RANKS = 2**31 - 1


async def insert(tx: Tx, campaign_id: int, list_id: int, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert new pending contacts; returns how many were new. A number the campaign has already is passed over."""
    if not rows:
        return 0
    now = tx.clock.wall()
    fixed = {
        "campaign_id": campaign_id,
        "list_id": list_id,
        "status": ContactStatus.PENDING.value,
        "attempts": 0,
        "callee_tries": 0,
        "mishaps": 0,
        "outcomes": {},
        "due_at": 0,
        "updated_at": now,
    }
    result = await tx.conn.execute(
        _insert_or_skip(tx.conn),
        [{**fixed, **row, "rank": row["priority"]} for row in rows],
        execution_options={"preserve_rowcount": True},
    )
    return result.rowcount


async def known_numbers(conn: AsyncConnection, campaign_id: int, numbers: Sequence[str]) -> set[str]:
    """Which of these numbers the campaign already has, in whatever list."""
    query = sa.select(contact.c.phone_number).where(
        contact.c.campaign_id == campaign_id, contact.c.phone_number.in_(numbers)
    )
    return set((await conn.execute(query)).scalars())


async def claim(
    conn: AsyncConnection, campaign_id: int, now: datetime, limit: int, without: frozenset[int]
) -> tuple[list[Contact], datetime | None]:
    """The next due contacts, highest priority first, then the longest due; and when the next one falls due.

    Nothing is marked: whoever commits a call claims its contact in the same transaction. ``without`` names contacts
    that the caller already holds. The moment is None where nothing is pending beyond what was returned.
    """
    at = to_micros(now)
    lists = await _visible_lists(conn, campaign_id)
    found: list[Contact] = []
    upcoming: int | None = None
    for rank in await _ranks(conn, campaign_id, lists):
        values = {"campaign": campaign_id, "lists": lists, "at_rank": rank, "now": at}
        if len(found) < limit:
            rows = (await conn.execute(_DUE, {**values, "most": limit - len(found) + len(without)})).mappings()
            found += [_contact(row) for row in rows if row["id"] not in without]
        following = await conn.scalar(_NEXT_DUE, values)
        if following is not None:
            upcoming = following if upcoming is None else min(upcoming, following)
    return found[:limit], None if upcoming is None else from_micros(upcoming)


async def get_many(conn: AsyncConnection, ids: Sequence[int]) -> dict[int, Contact]:
    """Contacts by id."""
    found: dict[int, Contact] = {}
    for start in range(0, len(ids), 500):
        query = sa.select(contact).where(contact.c.id.in_(ids[start : start + 500]))
        found.update({row["id"]: _contact(row) for row in (await conn.execute(query)).mappings()})
    return found


async def get(conn: AsyncConnection, campaign_id: int, contact_id: int) -> Contact | None:
    """One visible contact of a campaign."""
    return await _one(conn, campaign_id, contact.c.id == contact_id)


async def by_number(conn: AsyncConnection, campaign_id: int, phone_number: str) -> Contact | None:
    """The visible contact of a campaign that has a number."""
    return await _one(conn, campaign_id, contact.c.phone_number == phone_number)


async def _one(conn: AsyncConnection, campaign_id: int, where: sa.ColumnElement[bool]) -> Contact | None:
    staging = await _staging_lists(conn, campaign_id)
    query = sa.select(contact).where(contact.c.campaign_id == campaign_id, where, contact.c.list_id.not_in(staging))
    row = (await conn.execute(query)).mappings().first()
    return None if row is None else _contact(row)


async def reason_of(conn: AsyncConnection, contact_id: int) -> str | None:
    """Why a contact was cancelled; None for one that was not."""
    query = sa.select(contact.c.reason).where(
        contact.c.id == contact_id, contact.c.status == ContactStatus.CANCELLED.value
    )
    reason: str | None = await conn.scalar(query)
    return reason


async def last_due(conn: AsyncConnection, campaign_id: int) -> datetime | None:
    """When the last of a campaign's pending contacts falls due; None where none waits for its time."""
    lists = await _visible_lists(conn, campaign_id)
    last = 0
    for rank in await _ranks(conn, campaign_id, lists):
        for list_id in lists:
            # One list and one rank are one range of ix_contact_due, of which the end is looked up.
            query = sa.select(sa.func.max(contact.c.due_at)).where(
                contact.c.campaign_id == campaign_id,
                contact.c.list_id == list_id,
                contact.c.rank == rank,
                contact.c.status == ContactStatus.PENDING,
            )
            last = max(last, await conn.scalar(query) or 0)
    return from_micros(last) if last > 0 else None


async def count_waiting(conn: AsyncConnection, campaign_id: int, now: datetime, pending: int) -> int:
    """How many of a campaign's pending contacts are not due yet.

    Whichever are fewer are counted, over the index of due times alone: those who wait, or those who are due.
    """
    lists = await _visible_lists(conn, campaign_id)
    ranks = await _ranks(conn, campaign_id, lists)
    waiting = [contact.c.due_at > to_micros(now)]
    for side, most in ((waiting, _QUICKLY), ([contact.c.due_at <= to_micros(now)], _QUICKLY), (waiting, None)):
        found = 0
        for rank in ranks:
            some = sa.select(contact.c.id).where(
                contact.c.campaign_id == campaign_id,
                contact.c.list_id.in_(lists),
                contact.c.rank == rank,
                contact.c.status == ContactStatus.PENDING,
                *side,
            )
            found += await conn.scalar(sa.select(sa.func.count()).select_from(some.limit(most).subquery())) or 0
        if most is None or found < most:
            return found if side is waiting else max(0, pending - found)
    raise AssertionError("the last round has no bound")


async def page(
    conn: AsyncConnection,
    campaign_id: int,
    *,
    status: ContactStatus | None,
    limit: int,
    offset: int,
    after: int | None = None,
    outcome: Outcome | None = None,
    search: str | None = None,
) -> list[Contact]:
    """A page of a campaign's visible contacts, in the order they were added."""
    query = sa.select(contact).where(*await _chosen(conn, campaign_id, status, outcome, search)).order_by(contact.c.id)
    if after is not None:
        query = query.where(contact.c.id > after)
    rows = (await conn.execute(query.limit(limit).offset(offset))).mappings()
    return [_contact(row) for row in rows]


async def count(
    conn: AsyncConnection,
    campaign_id: int,
    status: ContactStatus | None,
    outcome: Outcome | None,
    search: str | None,
) -> int:
    """How many contacts a search finds. It looks at every one: what has a counter is not asked here."""
    query = sa.select(sa.func.count()).where(*await _chosen(conn, campaign_id, status, outcome, search))
    return await conn.scalar(query) or 0


async def _chosen(
    conn: AsyncConnection, campaign_id: int, status: ContactStatus | None, outcome: Outcome | None, search: str | None
) -> list[sa.ColumnElement[bool]]:
    where = [contact.c.campaign_id == campaign_id]
    staging = await _staging_lists(conn, campaign_id)
    if staging:
        where.append(contact.c.list_id.not_in(staging))
    if status is not None:
        where.append(contact.c.status == status.value)
    if outcome is not None:
        where.append(contact.c.last_outcome == outcome.value)
    if search is not None:
        where.append(matching(search))
    return where


async def cancel_pending(tx: Tx, campaign_id: int, limit: int, *, reason: str) -> int:
    """Cancel some of a campaign's pending contacts, with an event each; returns how many there were."""
    staging = await _staging_lists(tx.conn, campaign_id)
    some = (
        sa.select(contact.c.id)
        .where(contact.c.campaign_id == campaign_id, contact.c.status == ContactStatus.PENDING)
        .where(contact.c.list_id.not_in(staging) if staging else sa.true())
        .order_by(contact.c.id)
        .limit(limit)
    )
    return await _cancel(tx, sa.update(contact).where(contact.c.id.in_(some)), reason)


async def cancel_one(tx: Tx, contact_id: int, reason: str) -> bool:
    """Cancel one pending contact, with an event; False where it is not pending."""
    return await _cancel(tx, _pending([contact_id]), reason) > 0


async def promise(tx: Tx, contact_id: int, due_at: datetime, *, fresh: bool) -> None:
    """Let a contact be dialled at a time, ahead of all priorities. ``fresh``: it is pending anew, no try spent."""
    values: dict[str, Any] = {"due_at": to_micros(due_at), "rank": CALLBACK_RANK, "updated_at": tx.clock.wall()}
    if fresh:
        values |= {"status": ContactStatus.PENDING.value, "callee_tries": 0, "mishaps": 0, "outcomes": {}}
    await tx.conn.execute(sa.update(contact).where(contact.c.id == contact_id).values(values))


async def release(tx: Tx, contact_id: int) -> None:
    """A promise to a pending contact is withdrawn: it is due at once, with its own priority."""
    await tx.conn.execute(_pending([contact_id]).values(due_at=0, rank=contact.c.priority, updated_at=tx.clock.wall()))


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
        await tx.conn.execute(_pending(ids).where(contact.c.due_at <= now).values(due_at=to_micros(until)))
    for reason, ids in never.items():
        await _cancel(tx, _pending(ids), reason)


def _pending(ids: Sequence[int]) -> sa.Update:
    return sa.update(contact).where(contact.c.id.in_(ids), contact.c.status == ContactStatus.PENDING)


async def cancel_chosen(tx: Tx, where: Sequence[sa.ColumnElement[bool]], reason: str) -> int:
    """Cancel the visible contacts that fulfil some conditions, with an event each; returns how many there were."""
    # What is still staged is not counted yet; it is looked at when it is dialled.
    staging = sa.select(contact_import.c.id).where(contact_import.c.published_at.is_(None))
    return await _cancel(tx, sa.update(contact).where(*where, contact.c.list_id.not_in(staging)), reason)


async def _cancel(tx: Tx, chosen: sa.Update, reason: str) -> int:
    """Cancel the contacts that an update statement chooses, with an event each; returns how many there were."""
    now = tx.clock.wall()
    rows = await tx.conn.execute(
        chosen.values(status=ContactStatus.CANCELLED.value, updated_at=now, reason=reason, due_at=0).returning(
            contact.c.id, contact.c.campaign_id, contact.c.phone_number, contact.c.rank
        )
    )
    cancelled = sorted((row[0], row[1], row[2], row[3]) for row in rows)
    if promised := [contact_id for contact_id, _, _, rank in cancelled if rank == CALLBACK_RANK]:
        await callbacks.set_status(tx, promised, CallbackStatus.CANCELLED)
    for contact_id, campaign_id, number, _ in cancelled:
        tx.emit(
            EventDraft(
                EventKind.CANCELLED, campaign_id, ContactStatus.CANCELLED.value, now, contact_id, phone_number=number
            )
        )
        tx.stats(campaign_id).move(ContactStatus.PENDING, ContactStatus.CANCELLED)
        tx.touched.add(campaign_id)
    return len(cancelled)


async def remove_list(tx: Tx, campaign_id: int, list_id: int, limit: int) -> int:
    """Remove some contacts of an upload that never became visible; returns how many."""
    # Named with its campaign and status, the list is one range of ix_contact_due; alone it would scan every contact.
    some = (
        sa.select(contact.c.id)
        .where(
            contact.c.campaign_id == campaign_id,
            contact.c.list_id == list_id,
            contact.c.status == ContactStatus.PENDING,
        )
        .limit(limit)
    )
    result = await tx.conn.execute(sa.delete(contact).where(contact.c.id.in_(some)))
    return result.rowcount


async def remove_of_campaign(tx: Tx, campaign_id: int, limit: int) -> int:
    """Remove some contacts of a campaign that never became visible, of whatever list; returns how many."""
    some = sa.select(contact.c.id).where(contact.c.campaign_id == campaign_id).limit(limit)
    result = await tx.conn.execute(sa.delete(contact).where(contact.c.id.in_(some)))
    return result.rowcount


async def _visible_lists(conn: AsyncConnection, campaign_id: int) -> list[int]:
    return [BASE_LIST, *(await conn.execute(_VISIBLE_LISTS, {"campaign": campaign_id})).scalars()]


async def _staging_lists(conn: AsyncConnection, campaign_id: int) -> list[int]:
    query = sa.select(contact_import.c.id).where(
        contact_import.c.campaign_id == campaign_id, contact_import.c.published_at.is_(None)
    )
    return list((await conn.execute(query)).scalars())


async def _ranks(conn: AsyncConnection, campaign_id: int, lists: Sequence[int]) -> list[int]:
    """The distinct ranks among pending contacts, highest first, found by hopping over the index."""
    found: set[int] = set()
    for list_id in lists:
        highest: int | None = _ABOVE_ALL_RANKS
        while highest is not None:
            values = {"campaign": campaign_id, "list": list_id, "below": highest}
            highest = await conn.scalar(_HIGHEST_RANK_BELOW, values)
            if highest is not None:
                found.add(highest)
    return sorted(found, reverse=True)


def _insert_or_skip(conn: AsyncConnection) -> Any:
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as pg_insert

        return pg_insert(contact).on_conflict_do_nothing(index_elements=["campaign_id", "phone_number"])
    from sqlalchemy.dialects.sqlite import insert as lite_insert

    return lite_insert(contact).on_conflict_do_nothing(index_elements=["campaign_id", "phone_number"])


def _contact(row: Mapping[Any, Any]) -> Contact:
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
        attributes=row["attributes"],
        status=status,
        attempts=row["attempts"],
        callee_tries=row["callee_tries"],
        mishaps=row["mishaps"],
        outcomes=row["outcomes"],
        last_outcome=Outcome(row["last_outcome"]) if row["last_outcome"] else None,
        next_attempt_at=from_micros(row["due_at"]) if waits else None,
        updated_at=row["updated_at"],
        callback=row["rank"] == CALLBACK_RANK,
    )
