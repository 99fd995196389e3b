"""The ids of a campaign's visible contacts as ranges of indexes, whatever is being staged beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from dialerd.core.model import ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.store.imports import Span
from dialerd.store.schema import contact

Ids = sa.Select[tuple[int]] | sa.CompoundSelect[tuple[int]]


def visible(
    campaign_id: int,
    staged: Sequence[Span],
    *,
    status: ContactStatus | None = None,
    outcome: Outcome | None = None,
    after: int | None = None,
) -> Ids:
    """The ids of visible contacts (of a status, of a last outcome, above an id), to be ordered and cut.

    A staged upload lies between its own id and the next upload's. Of what is there only the base list is visible, and
    that has an index of its own: a million staged contacts are stepped over, and not looked at one by one.
    """
    if outcome is not None:
        # Whoever was called is not staged. One range per status, for the index has them in that order.
        chosen = [status] if status is not None else list(ContactStatus)
        return _joined([_of_outcome(campaign_id, outcome, each, after) for each in chosen])
    arms = []
    low = after
    for span in staged:
        arms.append(_arm(campaign_id, status, low, span.first, base=False))
        low = _highest(low, span.first)
        arms.append(_arm(campaign_id, status, low, span.last, base=True))
        if span.last is None:
            return _joined(arms)
        low = _highest(low, span.last)
    return _joined([*arms, _arm(campaign_id, status, low, None, base=False)])


def in_order(ids: sa.Select[Any] | sa.CompoundSelect[Any], order: Sequence[Any], most: Any, dialect: str) -> Any:
    """The first so many of some ids, read no further than that in any of the ranges that they are made of.

    SQLite merges the ranges of a UNION as they come. PostgreSQL does so where each is told to be in order by itself.
    """
    if dialect == "postgresql" and isinstance(ids, sa.CompoundSelect):
        # Each its first: no more than that of one can be among the first of all.
        arms = [arm.order_by(*order).limit(most).subquery() for arm in ids.selects]  # type: ignore[attr-defined] # each is a select
        ids = sa.union_all(*(sa.select(arm) for arm in arms))
    return ids.order_by(*order).limit(most)


def _arm(
    campaign_id: int, status: ContactStatus | None, low: int | None, high: int | None, *, base: bool
) -> sa.Select[tuple[int]]:
    """The ids in one stretch, both bounds left out."""
    query = sa.select(contact.c.id).where(contact.c.campaign_id == campaign_id)
    if base:
        # Said with a literal, for only then it is known to be what ix_contact_base holds.
        query = query.where(contact.c.list_id == sa.literal_column("0"))
    if status is not None:
        # The base list's few are looked at one by one: by their status alone all that is staged would be.
        column = contact.c.status.concat("") if base else contact.c.status
        query = query.where(column == status.value)
    if low is not None:
        query = query.where(contact.c.id > low)
    return query if high is None else query.where(contact.c.id < high)


def _of_outcome(campaign_id: int, outcome: Outcome, status: ContactStatus, after: int | None) -> sa.Select[tuple[int]]:
    query = sa.select(contact.c.id).where(
        contact.c.campaign_id == campaign_id, contact.c.last_outcome == outcome.value, contact.c.status == status.value
    )
    return query if after is None else query.where(contact.c.id > after)


def _joined(arms: Sequence[sa.Select[tuple[int]]]) -> Ids:
    return arms[0] if len(arms) == 1 else sa.union_all(*arms)


def _highest(low: int | None, other: int) -> int:
    return other if low is None else max(low, other)
