"""Call attempts in the store: listed, and found again after a restart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.model import Call, CallStatus, HungUpBy
from dialerd.core.outcome import Fault, Outcome
from dialerd.store.schema import call

_MOST_IDS = 500


async def live(conn: AsyncConnection) -> list[Call]:
    """Every call whose end is not known: what recovery has to find again."""
    query = sa.select(call).where(call.c.ended_at.is_(None)).order_by(call.c.originated_at, call.c.id)
    return [_call(row) for row in (await conn.execute(query)).mappings()]


async def ended_by_id(conn: AsyncConnection, ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Of the calls with these ids that there are, the PBX, and whether the call has ended."""
    found: dict[str, tuple[str, bool]] = {}
    for start in range(0, len(ids), _MOST_IDS):
        query = sa.select(call.c.id, call.c.pbx, call.c.ended_at).where(call.c.id.in_(ids[start : start + _MOST_IDS]))
        found.update((row.id, (row.pbx, row.ended_at is not None)) for row in await conn.execute(query))
    return found


async def note_hangup(conn: AsyncConnection, call_id: str, text: str) -> None:
    """Say how an ended call's channel was hung up at last, by the daemon."""
    note = {"hangup_text": text, "hung_up_by": HungUpBy.DIALER.value}
    await conn.execute(sa.update(call).where(call.c.id == call_id, call.c.ended_at.is_not(None)).values(note))


async def any_placed(conn: AsyncConnection) -> bool:
    """Whether a call was ever placed, as far as the store remembers."""
    return await conn.scalar(sa.select(call.c.id).limit(1)) is not None


async def page(
    conn: AsyncConnection,
    campaign_id: int,
    *,
    limit: int,
    offset: int,
    contact_id: int | None = None,
    outcome: Outcome | None = None,
    after: str | None = None,
) -> list[Call]:
    """A page of a campaign's call attempts, in the order they were placed; none after a call that is not there."""
    query = sa.select(call).where(call.c.campaign_id == campaign_id)
    if contact_id is not None:
        query = query.where(call.c.contact_id == contact_id)
    if outcome is not None:
        query = query.where(call.c.outcome == outcome.value)
    if after is not None:
        place = sa.select(call.c.originated_at, call.c.id).where(call.c.id == after, call.c.campaign_id == campaign_id)
        query = query.where(sa.tuple_(call.c.originated_at, call.c.id) > place.scalar_subquery())
    rows = await conn.execute(query.order_by(call.c.originated_at, call.c.id).limit(limit).offset(offset))
    return [_call(row) for row in rows.mappings()]


async def count_of(conn: AsyncConnection, campaign_id: int, contact_id: int, outcome: Outcome | None) -> int:
    """How many calls a contact of a campaign had (of an outcome)."""
    query = sa.select(sa.func.count()).where(call.c.contact_id == contact_id, call.c.campaign_id == campaign_id)
    if outcome is not None:
        query = query.where(call.c.outcome == outcome.value)
    return await conn.scalar(query) or 0


async def last_of(conn: AsyncConnection, contact_ids: Sequence[int]) -> dict[int, Call]:
    """The last call of each of these contacts, as far as there was one; at most some 500 contacts at once."""
    query = sa.select(call).where(call.c.contact_id.in_(contact_ids)).order_by(call.c.originated_at, call.c.id)
    return {row["contact_id"]: _call(row) for row in (await conn.execute(query)).mappings()}


def _call(row: Mapping[Any, Any]) -> Call:
    values = dict(row)
    values["status"] = CallStatus(values["status"])
    values["outcome"] = Outcome(values["outcome"]) if values["outcome"] else None
    values["fault"] = Fault(values["fault"]) if values["fault"] else None
    values["hung_up_by"] = HungUpBy(values["hung_up_by"]) if values["hung_up_by"] else None
    return Call(**values)
