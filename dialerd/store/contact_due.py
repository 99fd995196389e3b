"""Who of a campaign's contacts is due, and when the next one is: what the hopper fetches and explain counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.model import Contact, ContactStatus
from dialerd.store.contact_ids import in_order
from dialerd.store.contacts import to_contact
from dialerd.store.schema import contact, from_micros, to_micros

_QUICKLY = 20_000
"""Contacts counted in some milliseconds."""
_EVER = -1
"""Before any time of a contact."""
_ARMS = 100
"""Lists that one statement merges; SQLite takes at most 500."""

# Every (list, rank) that has pending contacts is one range of ix_contact_due, and the statement hops from each to the
# next: its cost is that of the ranges, whatever they hold, and however many in them are not due yet.
RANGES = sa.text(
    """
    WITH RECURSIVE found(list_id, rank) AS (
        SELECT * FROM (
            SELECT list_id, rank FROM contact
            WHERE campaign_id = :campaign AND status = 'pending' ORDER BY list_id, rank LIMIT 1
        ) AS lowest
        UNION ALL
        SELECT following.list_id, following.rank FROM found JOIN contact AS following ON following.id = COALESCE(
            (SELECT id FROM contact WHERE campaign_id = :campaign AND status = 'pending'
                AND list_id = found.list_id AND rank > found.rank ORDER BY rank LIMIT 1),
            (SELECT id FROM contact WHERE campaign_id = :campaign AND status = 'pending'
                AND list_id > found.list_id ORDER BY list_id, rank LIMIT 1)
        )
    )
    SELECT list_id, rank,
        (SELECT MIN(due_at) FROM contact WHERE campaign_id = :campaign AND status = 'pending'
            AND list_id = found.list_id AND rank = found.rank) AS first_due,
        (SELECT MIN(due_at) FROM contact WHERE campaign_id = :campaign AND status = 'pending'
            AND list_id = found.list_id AND rank = found.rank AND due_at > :now) AS next_due
    FROM found
    WHERE NOT EXISTS (SELECT 1 FROM contact_import WHERE id = found.list_id AND published_at IS NULL)
    """
)


@dataclass(frozen=True, slots=True)
class _Range:
    """The visible pending contacts of one list and one rank; times are microseconds."""

    list_id: int
    rank: int
    first_due: int
    next_due: int | None
    """When the first of those falls due who are not due yet."""


async def claim(
    conn: AsyncConnection, campaign_id: int, now: datetime, limit: int, without: frozenset[int]
) -> tuple[list[Contact], datetime | None]:
    """The next due contacts, highest rank first, then the longest due; and when the next one falls due.

    Nothing is marked: whoever commits a call claims its contact in the same transaction. ``without`` names contacts
    that the caller already holds. The moment is None where nothing is pending beyond what was returned.
    """
    found, upcoming = await fetch(conn, campaign_id, now, limit, without)
    return found, min(upcoming.values(), default=None)


async def fetch(
    conn: AsyncConnection,
    campaign_id: int,
    now: datetime,
    limit: int,
    without: frozenset[int],
    *,
    since: datetime | None = None,
    above: int | None = None,
) -> tuple[list[Contact], dict[int, datetime]]:
    """The next due contacts as :func:`claim` has them; and when the next one of each rank falls due.

    ``since``: only those who fell due after that moment. ``above``: only those of a higher rank.
    """
    at, after = to_micros(now), _EVER if since is None else to_micros(since)
    lists_of: defaultdict[int, list[int]] = defaultdict(list)
    upcoming: dict[int, int] = {}
    for each in await _ranges(conn, campaign_id, at):
        if each.first_due <= at and (above is None or each.rank > above):
            lists_of[each.rank].append(each.list_id)
        if each.next_due is not None:
            upcoming[each.rank] = min(each.next_due, upcoming.get(each.rank, each.next_due))
    found: list[Contact] = []
    for rank in sorted(lists_of, reverse=True):
        if len(found) >= limit:
            break
        found += await _due(conn, campaign_id, rank, lists_of[rank], (after, at), limit - len(found), without)
    return found, {rank: from_micros(moment) for rank, moment in upcoming.items()}


async def last_due(conn: AsyncConnection, campaign_id: int) -> datetime | None:
    """When the last of a campaign's pending contacts falls due; None where none waits for its time."""
    last = 0
    for each in await _ranges(conn, campaign_id, 0):
        if each.next_due is not None:
            query = sa.select(sa.func.max(contact.c.due_at)).where(*_within(campaign_id, each))
            last = max(last, await conn.scalar(query) or 0)
    return from_micros(last) if last > 0 else None


async def count_waiting(conn: AsyncConnection, campaign_id: int, now: datetime, pending: int) -> int:
    """How many of a campaign's pending contacts are not due yet.

    Whichever are fewer are counted, over the index of due times alone: those who wait, or those who are due.
    """
    at = to_micros(now)
    ranges = await _ranges(conn, campaign_id, at)
    waiting = contact.c.due_at > at
    for side, most in ((waiting, _QUICKLY), (contact.c.due_at <= at, _QUICKLY), (waiting, None)):
        found = 0
        for each in ranges:
            some = sa.select(contact.c.id).where(*_within(campaign_id, each), side).limit(most)
            found += await conn.scalar(sa.select(sa.func.count()).select_from(some.subquery())) or 0
        if most is None or found < most:
            return found if side is waiting else max(0, pending - found)
    raise AssertionError("the last round has no bound")


async def _ranges(conn: AsyncConnection, campaign_id: int, now: int) -> list[_Range]:
    rows = await conn.execute(RANGES, {"campaign": campaign_id, "now": now})
    return [_Range(*row) for row in rows]


def _within(campaign_id: int, chosen: _Range) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        contact.c.campaign_id == campaign_id,
        contact.c.list_id == chosen.list_id,
        contact.c.rank == chosen.rank,
        contact.c.status == ContactStatus.PENDING,
    )


async def _due(
    conn: AsyncConnection,
    campaign_id: int,
    rank: int,
    lists: Sequence[int],
    fallen_due: tuple[int, int],
    most: int,
    without: frozenset[int],
) -> list[Contact]:
    """The longest due of one rank, merged from its lists; those that the caller holds come first mostly, and go."""
    after, now = fallen_due
    found: list[tuple[int, int, Contact]] = []
    for start in range(0, len(lists), _ARMS):
        some = lists[start : start + _ARMS]
        values = {"campaign": campaign_id, "at_rank": rank, "after": after, "now": now, "most": most + len(without)}
        values |= {f"list_{index}": list_id for index, list_id in enumerate(some)}
        rows = (await conn.execute(due_statement(len(some), conn.dialect.name), values)).mappings()
        found += [(row["due_at"], row["id"], to_contact(row)) for row in rows if row["id"] not in without]
    return [each for _, _, each in sorted(found, key=lambda each: each[:2])[:most]]


@lru_cache(maxsize=_ARMS)
def due_statement(lists: int, dialect: str) -> sa.Select[tuple[object, ...]]:
    """The longest due contacts of one rank in so many lists: one range of ix_contact_due each, merged as they come."""
    arms = [
        sa.select(contact.c.id, contact.c.due_at).where(
            contact.c.campaign_id == sa.bindparam("campaign"),
            contact.c.list_id == sa.bindparam(f"list_{index}"),
            contact.c.rank == sa.bindparam("at_rank"),
            contact.c.status == sa.literal_column("'pending'"),
            contact.c.due_at > sa.bindparam("after"),
            contact.c.due_at <= sa.bindparam("now"),
        )
        for index in range(lists)
    ]
    merged = arms[0] if lists == 1 else sa.union_all(*arms)
    first = in_order(merged, ("due_at", "id"), sa.bindparam("most", type_=sa.Integer), dialect).subquery()
    return sa.select(contact).join(first, first.c.id == contact.c.id)
