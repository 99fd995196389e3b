"""Campaigns and their counters in the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.model import Campaign, CampaignStatus, ContactStatus
from dialerd.core.outcome import Outcome
from dialerd.core.settings import CampaignSettings
from dialerd.store.schema import OUTCOME_COLUMNS, campaign, campaign_stats, contact_import, contact_outcome
from dialerd.store.tx import Tx

_UNFINISHED = tuple(each.value for each in (CampaignStatus.DRAFT, CampaignStatus.ACTIVE, CampaignStatus.PAUSED))
SORTED_BY: Mapping[str, sa.ColumnElement[Any]] = {
    "created_at": campaign.c.id,
    "name": sa.func.lower(campaign.c.name),
    "started_at": sa.func.coalesce(campaign.c.started_at, 0),
}
"""What a list of campaigns can be sorted by; those never started come before all others."""


@dataclass(frozen=True, slots=True)
class CampaignStats:
    """A campaign's counters, kept with the transitions and never counted over the list."""

    contacts: Mapping[ContactStatus, int]
    calls_placed: int
    calls_withdrawn: int
    """Committed and taken back before they were sent: neither placed nor ended in an outcome."""
    calls_answered: int
    talk_seconds: float
    outcomes: Mapping[Outcome, int]

    @property
    def total(self) -> int:
        """All contacts of the list."""
        return sum(self.contacts.values())

    def attempts(self, outcome: Outcome | None = None) -> int:
        """All call attempts of the list (of an outcome), those that were withdrawn among them."""
        withdrawn = self.calls_withdrawn if outcome in (None, Outcome.CANCELLED) else 0
        return withdrawn + (self.calls_placed if outcome is None else self.outcomes[outcome])

    @property
    def in_flight(self) -> int:
        """Calls between journal and hangup."""
        return self.contacts[ContactStatus.ORIGINATED] + self.contacts[ContactStatus.CONNECTED]


async def insert(tx: Tx, new: Campaign, *, visible: bool) -> None:
    """Store a new campaign with its counters at zero."""
    await tx.conn.execute(
        sa.insert(campaign).values(
            id=new.id,
            tenant=new.tenant,
            name=new.name,
            description=new.description,
            agent_id=new.agent_id,
            status=new.status.value,
            settings=new.settings.to_json(),
            keep_open=new.settings.keep_open,
            created_at=new.created_at,
            started_at=new.started_at,
            completed_at=new.completed_at,
            visible=visible,
        )
    )
    await tx.conn.execute(sa.insert(campaign_stats).values(campaign_id=new.id))


async def revise(tx: Tx, revised: Campaign) -> None:
    """Store a campaign's new name, description, agent and settings."""
    await tx.conn.execute(
        sa.update(campaign)
        .where(campaign.c.id == revised.id)
        .values(
            name=revised.name,
            description=revised.description,
            agent_id=revised.agent_id,
            settings=revised.settings.to_json(),
            keep_open=revised.settings.keep_open,
        )
    )


async def set_visible(tx: Tx, campaign_id: int, *, visible: bool) -> None:
    """Show a campaign whose upload is whole, or hide one that was deleted."""
    await tx.conn.execute(sa.update(campaign).where(campaign.c.id == campaign_id).values(visible=visible))


async def set_status(
    tx: Tx,
    campaign_id: int,
    status: CampaignStatus,
    *,
    started_at: datetime | None = None,
    completed_at: datetime | None = None,
    reason: str | None = None,
    hang_up: bool = False,
) -> None:
    """Store a campaign's new status, and why where the daemon chose it; a time that is None stays as it is.

    ``hang_up``: its calls are to end as well.
    """
    values: dict[str, Any] = {"status": status.value, "reason": reason, "hang_up": hang_up}
    if started_at is not None:
        values["started_at"] = started_at
    if completed_at is not None:
        values["completed_at"] = completed_at
    await tx.conn.execute(sa.update(campaign).where(campaign.c.id == campaign_id).values(values))


async def remove(tx: Tx, campaign_id: int) -> None:
    """Remove a campaign that was never visible, with its uploads and its counters."""
    for table in (contact_import, contact_outcome, campaign_stats):
        await tx.conn.execute(sa.delete(table).where(table.c.campaign_id == campaign_id))
    await tx.conn.execute(sa.delete(campaign).where(campaign.c.id == campaign_id))


async def get(conn: AsyncConnection, tenant: str | None, campaign_id: int) -> Campaign | None:
    """One visible campaign of a tenant (None: of any)."""
    query = sa.select(campaign).where(campaign.c.id == campaign_id, campaign.c.visible)
    if tenant is not None:
        query = query.where(campaign.c.tenant == tenant)
    row = (await conn.execute(query)).mappings().first()
    return None if row is None else _campaign(row)


async def standing(conn: AsyncConnection, campaign_id: int) -> tuple[CampaignStatus, bool] | None:
    """A campaign's status and whether it is visible; None where it is not there at all."""
    query = sa.select(campaign.c.status, campaign.c.visible).where(campaign.c.id == campaign_id)
    row = (await conn.execute(query)).first()
    return None if row is None else (CampaignStatus(row[0]), row[1])


async def hidden_drafts(conn: AsyncConnection) -> list[int]:
    """Hidden campaigns that no call was ever made for: a creation that a restart cut short, or deleted drafts."""
    query = sa.select(campaign.c.id).where(
        campaign.c.status == CampaignStatus.DRAFT, campaign.c.started_at.is_(None), sa.not_(campaign.c.visible)
    )
    return list((await conn.execute(query)).scalars())


async def of_status(conn: AsyncConnection, *statuses: CampaignStatus) -> list[Campaign]:
    """Every visible campaign of these statuses, of all tenants: what the daemon starts with."""
    query = sa.select(campaign).where(campaign.c.status.in_([each.value for each in statuses]), campaign.c.visible)
    return [_campaign(row) for row in (await conn.execute(query)).mappings()]


async def get_many(conn: AsyncConnection, ids: Collection[int]) -> dict[int, tuple[Campaign, bool]]:
    """Campaigns by id, deleted ones too, each with whether it can still be seen."""
    query = sa.select(campaign).where(campaign.c.id.in_(ids))
    return {row["id"]: (_campaign(row), row["visible"]) for row in (await conn.execute(query)).mappings()}


async def hanging_up(conn: AsyncConnection, ids: Collection[int]) -> set[int]:
    """Which of these campaigns were ended with their calls."""
    query = sa.select(campaign.c.id).where(campaign.c.id.in_(ids), campaign.c.hang_up)
    return set((await conn.execute(query)).scalars())


async def unfinished_stops(conn: AsyncConnection) -> list[Campaign]:
    """Ended campaigns that still have pending contacts: a stop that a restart cut short."""
    query = (
        sa.select(campaign)
        .join(campaign_stats, campaign_stats.c.campaign_id == campaign.c.id)
        .where(
            campaign.c.status.in_((CampaignStatus.CANCELLED.value, CampaignStatus.COMPLETED.value)),
            campaign_stats.c.pending > 0,
        )
    )
    return [_campaign(row) for row in (await conn.execute(query)).mappings()]


async def page(
    conn: AsyncConnection,
    tenant: str,
    *,
    status: CampaignStatus | None,
    agent_id: int | None,
    page: int,
    per_page: int,
    search: str | None = None,
    sort: str = "-created_at",
) -> tuple[list[Campaign], int]:
    """A page of a tenant's campaigns, and how many there are.

    ``search``: a part of the name or the description. ``sort``: one of SORTED_BY, with a minus from the last on.
    """
    where = [campaign.c.tenant == tenant, campaign.c.visible]
    if status is not None:
        where.append(campaign.c.status == status.value)
    if agent_id is not None:
        where.append(campaign.c.agent_id == agent_id)
    if search is not None:
        where.append(sa.or_(*(campaign.c[name].icontains(search, autoescape=True) for name in ("name", "description"))))
    total = await conn.scalar(sa.select(sa.func.count()).select_from(campaign).where(*where))
    column = SORTED_BY[sort.removeprefix("-")]
    # Ids grow with time: what is equal stands in the order it was made.
    order = [column.desc(), campaign.c.id.desc()] if sort.startswith("-") else [column, campaign.c.id]
    query = sa.select(campaign).where(*where).order_by(*order).limit(per_page).offset((page - 1) * per_page)
    rows = (await conn.execute(query)).mappings()
    return [_campaign(row) for row in rows], total or 0


async def stats(conn: AsyncConnection, campaign_ids: Sequence[int]) -> dict[int, CampaignStats]:
    """The counters of some campaigns."""
    query = sa.select(campaign_stats).where(campaign_stats.c.campaign_id.in_(campaign_ids))
    return {row["campaign_id"]: _stats(row) for row in (await conn.execute(query)).mappings()}


async def count_unfinished(conn: AsyncConnection, tenant: str) -> int:
    """How many campaigns of a tenant may still dial, hidden ones included."""
    query = sa.select(sa.func.count()).where(campaign.c.tenant == tenant, campaign.c.status.in_(_UNFINISHED))
    return await conn.scalar(query) or 0


async def agent_in_use(conn: AsyncConnection, agent_id: int) -> bool:
    """Whether an unfinished campaign hands its calls to this agent."""
    query = sa.select(campaign.c.id).where(
        campaign.c.agent_id == agent_id, campaign.c.visible, campaign.c.status.in_(_UNFINISHED)
    )
    return (await conn.execute(query.limit(1))).first() is not None


def _campaign(row: Mapping[Any, Any]) -> Campaign:
    return Campaign(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        description=row["description"],
        agent_id=row["agent_id"],
        status=CampaignStatus(row["status"]),
        settings=CampaignSettings.stored(row["settings"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        reason=row["reason"],
    )


def _stats(row: Mapping[Any, Any]) -> CampaignStats:
    return CampaignStats(
        contacts={status: row[status.value] for status in ContactStatus},
        calls_placed=row["calls_placed"],
        calls_withdrawn=row["calls_withdrawn"],
        calls_answered=row["calls_answered"],
        talk_seconds=row["talk_millis"] / 1000,
        outcomes={outcome: row[column] for outcome, column in OUTCOME_COLUMNS.items()},
    )
