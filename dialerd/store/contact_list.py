"""Lists of a campaign's contacts, filtered and paged: each page read off an index, however long the list is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.model import Contact, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.store import contact_search, imports
from dialerd.store.contact_ids import in_order, visible
from dialerd.store.contacts import BASE_LIST, to_contact
from dialerd.store.imports import Span
from dialerd.store.schema import campaign_stats, contact, contact_number, contact_outcome

_all = [campaign_stats.c[each.value] for each in ContactStatus]
_COUNTERS: dict[ContactStatus | None, sa.Select[Any]] = {
    None: sa.select(sum(_all[1:], _all[0])),
    **{each: sa.select(campaign_stats.c[each.value]) for each in ContactStatus},
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which contacts a list shows; without anything, all."""

    status: ContactStatus | None = None
    outcome: Outcome | None = None
    """Of the last call."""
    search: str | None = None
    """A number from its beginning (``+1202``), or a part of the number, names, company, e-mail or external id."""

    @property
    def prefix(self) -> str | None:
        """The beginning of a number that is looked for; such a list is in the order of numbers."""
        return None if self.search is None else contact_search.prefix_of(self.search)


async def page(
    conn: AsyncConnection,
    campaign_id: int,
    chosen: Filter,
    *,
    limit: int,
    offset: int = 0,
    after: int | None = None,
    total: int | None = None,
) -> list[Contact]:
    """A page of a campaign's visible contacts, in the order they were added (a number's prefix: in that of numbers).

    ``after``: the contact after which the page begins. ``total``: how many there are, as :func:`total` said on the
    same connection; a page beyond the middle is then found from the end.
    """
    from_end = total is not None and after is None and offset > total // 2
    if from_end:
        assert total is not None
        limit = min(limit, total - offset)
        offset = total - offset - limit
        if limit <= 0:
            return []
    staged = await imports.staged(conn, campaign_id)
    if chosen.prefix is not None:
        key = contact_number.c.phone_number
        beyond = None if after is None else await _number_of(conn, campaign_id, after)
        if after is not None and beyond is None:
            return []  # the list goes on after a contact that is not there
        query = _by_number(campaign_id, chosen, staged, beyond)
    else:
        key = contact.c.id
        query = _by_age(campaign_id, chosen, staged, after)
    statement = page_statement(query, key.name, limit, offset, from_end=from_end, dialect=conn.dialect.name)
    rows = (await conn.execute(statement)).mappings()
    return [to_contact(row) for row in sorted(rows, key=lambda row: row[key.name])]


async def total(conn: AsyncConnection, campaign_id: int, chosen: Filter) -> int:
    """How many contacts a list has: from the counters, or over the index of numbers; a text is looked for in each."""
    if chosen.search is None:
        return await _counted(conn, campaign_id, chosen)
    staged = await imports.staged(conn, campaign_id)
    if chosen.prefix is not None:
        query: Any = _by_number(campaign_id, chosen, staged, None)
    else:
        query = _by_age(campaign_id, chosen, staged, None)
    return await conn.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0


def page_statement(
    ids: Any, order: str, limit: int, offset: int, *, from_end: bool, dialect: str = "sqlite"
) -> sa.Select[Any]:
    """The contacts of a page of ids. What is passed over is passed over in the index, and no contact is read for it."""
    place: sa.ColumnClause[Any] = sa.column(order)
    ordered = in_order(ids, [place.desc() if from_end else place], limit + offset, dialect)
    some = ordered.limit(limit).offset(offset).subquery()
    return sa.select(contact).join(some, some.c.id == contact.c.id)


async def _counted(conn: AsyncConnection, campaign_id: int, chosen: Filter) -> int:
    if chosen.outcome is not None:
        query: Any = sa.select(sa.cast(sa.func.sum(contact_outcome.c.contacts), sa.BigInteger)).where(
            contact_outcome.c.campaign_id == campaign_id, contact_outcome.c.outcome == chosen.outcome.value
        )
        if chosen.status is not None:
            query = query.where(contact_outcome.c.status == chosen.status.value)
    else:
        query = _COUNTERS[chosen.status].where(campaign_stats.c.campaign_id == campaign_id)
    return await conn.scalar(query) or 0


async def _number_of(conn: AsyncConnection, campaign_id: int, contact_id: int) -> str | None:
    query = sa.select(contact.c.phone_number).where(contact.c.id == contact_id, contact.c.campaign_id == campaign_id)
    number: str | None = await conn.scalar(query)
    return number


def _by_age(campaign_id: int, chosen: Filter, staged: Sequence[Span], after: int | None) -> Any:
    ids = visible(campaign_id, staged, status=chosen.status, outcome=chosen.outcome, after=after)
    if chosen.search is None:
        return ids
    found = ids.subquery()
    return sa.select(contact.c.id).join(found, found.c.id == contact.c.id).where(contact_search.matching(chosen.search))


def _by_number(campaign_id: int, chosen: Filter, staged: Sequence[Span], beyond: str | None) -> sa.Select[Any]:
    prefix = chosen.prefix
    assert prefix is not None
    number, other = contact_number.c.phone_number, contact.alias()
    # A colon comes next after the digits. One lower bound alone, for the second would be looked at row by row.
    lower = number > beyond if beyond is not None and beyond >= prefix else number >= prefix
    query = sa.select(contact_number.c.contact_id.label("id"), number).where(
        contact_number.c.campaign_id == campaign_id, lower, number < prefix + ":"
    )
    if chosen.status is not None or chosen.outcome is not None:
        query = query.join(contact, contact.c.id == contact_number.c.contact_id)
    for span in staged:
        # Numbers of staged contacts stand among the others: these are stepped over one by one.
        base = sa.exists().where(other.c.id == contact_number.c.contact_id, other.c.list_id == BASE_LIST)
        above = sa.false() if span.last is None else contact_number.c.contact_id > span.last
        query = query.where(sa.or_(contact_number.c.contact_id < span.first, above, base))
    if chosen.status is not None:
        query = query.where(contact.c.status == chosen.status.value)
    if chosen.outcome is not None:
        query = query.where(contact.c.last_outcome == chosen.outcome.value)
    return query
