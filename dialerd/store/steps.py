"""How a batch of call steps, counters and events is written: one statement per kind, whatever the batch's size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.core.campaign import FINISHED
from dialerd.core.model import Call, CampaignStatus, Contact, ContactStatus
from dialerd.store import batches, callbacks, last_look, notices
from dialerd.store.callbacks import CallbackStatus
from dialerd.store.contacts import cancel_chosen, rank_of
from dialerd.store.prepared import prepared
from dialerd.store.records import CallStep, CampaignEnd, Event, EventDraft, EventKind, Originating, ended
from dialerd.store.schema import (
    CALLBACK_RANK,
    call,
    campaign,
    campaign_stats,
    contact,
    contact_import,
    contact_outcome,
    event,
    tenant_day,
    to_micros,
)
from dialerd.store.tx import Tx

_CHUNK = 500
_FINISHED = tuple(status.value for status in FINISHED)
_ENDS = frozenset({ContactStatus.COMPLETED, ContactStatus.FAILED, ContactStatus.CANCELLED})

# The contact is theirs only where it is still pending and due, and its campaign still active.
_THEIRS = (
    contact.c.status == sa.literal_column(f"'{ContactStatus.PENDING.value}'"),
    contact.c.due_at <= sa.bindparam("now"),
    sa.exists(
        sa.select(campaign.c.id).where(
            campaign.c.id == contact.c.campaign_id,
            campaign.c.status == CampaignStatus.ACTIVE.value,
            campaign.c.visible,
        )
    ),
)


def _claiming(chosen: sa.ColumnElement[bool]) -> Any:
    taken = {"status": ContactStatus.ORIGINATED.value, "attempts": contact.c.attempts + 1}
    new = sa.update(contact).where(chosen).values(**taken, updated_at=sa.bindparam("updated_at"))
    return new.returning(contact.c.id, contact.c.rank)


_CLAIM = prepared(_claiming(sa.and_(contact.c.id.in_(sa.bindparam("keys", expanding=True)), *_THEIRS)))
# Who holds a contact's row on PostgreSQL (a person with psql) is not waited for: the contact is dialled another time.
_FREE = (
    sa.select(contact.c.id)
    .where(contact.c.id == sa.any_(sa.bindparam("keys", type_=sa.ARRAY(sa.BigInteger))), *_THEIRS)
    .order_by(contact.c.id)
    .with_for_update(skip_locked=True, of=contact)
)
_CLAIM_FREE = _claiming(contact.c.id.in_(_FREE))
_COUNTERS = tuple(column.name for column in campaign_stats.columns if not column.primary_key)
_FINISH = prepared(
    sa.update(campaign)
    .where(
        campaign.c.id.in_(sa.bindparam("keys", expanding=True)),
        campaign.c.status == CampaignStatus.ACTIVE.value,
        sa.not_(campaign.c.keep_open),
        sa.select(campaign_stats.c.pending + campaign_stats.c.originated + campaign_stats.c.connected)
        .where(campaign_stats.c.campaign_id == campaign.c.id)
        .scalar_subquery()
        == 0,
        sa.not_(
            sa.exists(
                sa.select(contact_import.c.id).where(
                    contact_import.c.campaign_id == campaign.c.id, contact_import.c.published_at.is_(None)
                )
            )
        ),
    )
    .values(status=CampaignStatus.COMPLETED.value, completed_at=sa.bindparam("completed_at"))
    .returning(campaign.c.id)
)
_ENDED = prepared(
    sa.select(campaign.c.id).where(
        campaign.c.id.in_(sa.bindparam("keys", expanding=True)), campaign.c.status.in_(_FINISHED)
    )
)
_COUNT_THE_DAY = prepared(
    sa.update(tenant_day)
    .where(tenant_day.c.tenant == sa.bindparam("whose"), tenant_day.c.day == sa.bindparam("which"))
    .values(calls=tenant_day.c.calls + sa.bindparam("more"))
)


async def apply(tx: Tx, originating: Sequence[Originating], steps: Sequence[CallStep]) -> frozenset[str]:
    """Write calls to the journal and their steps; returns the ids of the calls that may be sent.

    A contact that is no longer pending (cancelled meanwhile, deleted with its campaign), or was promised another time
    since it was fetched, yields no call.
    """
    claimed, promised = await _claim(tx, await last_look.permitted(tx, originating))
    if claimed:
        await batches.insert(tx.conn, call, [_call_row(each.call) for each in claimed])
        await _count_the_day(tx, claimed)
    if promised:
        await callbacks.set_status(tx, promised, CallbackStatus.DIALLED)
    for each in claimed:
        delta = tx.stats(each.call.campaign_id)
        last = each.contact.last_outcome
        delta.move(ContactStatus.PENDING, ContactStatus.ORIGINATED, had=last, has=last)
        delta.columns["calls_placed"] += 1
        tx.emit(each.event)
    await _write_steps(tx, steps)
    return frozenset(each.call.id for each in claimed)


async def _count_the_day(tx: Tx, claimed: Sequence[Originating]) -> None:
    """Count the calls of each tenant's day, which a limit may bound."""
    for (tenant, day), count in Counter(
        (each.call.tenant, day_of(each.call.originated_at)) for each in claimed
    ).items():
        counted = await tx.conn.execute(_COUNT_THE_DAY, {"whose": tenant, "which": day, "more": count})
        if counted.rowcount == 0:
            await tx.conn.execute(sa.insert(tenant_day).values(tenant=tenant, day=day, calls=count))


async def calls_by_day(conn: AsyncConnection, since: datetime) -> dict[str, dict[str, int]]:
    """How many calls each tenant has placed in each day (UTC) since a moment's."""
    found: dict[str, dict[str, int]] = {}
    for row in await conn.execute(sa.select(tenant_day).where(tenant_day.c.day >= day_of(since))):
        found.setdefault(row.day, {})[row.tenant] = row.calls
    return found


def day_of(moment: datetime) -> str:
    """The day of a moment, in UTC."""
    return moment.astimezone(UTC).date().isoformat()


async def _claim(tx: Tx, originating: Sequence[Originating]) -> tuple[list[Originating], list[int]]:
    """Take the contacts that are still to be dialled; returns the calls, and who of them was promised a callback."""
    # A contact that was fetched twice (its campaign paused and resumed meanwhile) has one call all the same.
    by_contact: dict[int, Originating] = {}
    for each in originating:
        by_contact.setdefault(each.contact.id, each)
    taken: list[Originating] = []
    promised: list[int] = []
    now = to_micros(tx.clock.wall())
    claim = _CLAIM_FREE if tx.conn.dialect.name == "postgresql" else _CLAIM
    for ids in _chunks(list(by_contact)):
        values = {"keys": ids, "now": now, "updated_at": originating[0].event.at}
        ranks: dict[int, int] = {row[0]: row[1] for row in await tx.conn.execute(claim, values)}
        taken += [by_contact[contact_id] for contact_id in ids if contact_id in ranks]
        promised += [contact_id for contact_id, rank in ranks.items() if rank == CALLBACK_RANK]
    return taken, promised


async def _write_steps(tx: Tx, steps: Sequence[CallStep]) -> None:
    # Each step carries the whole new state, so the last one of a batch is the one to write.
    calls: dict[str, Call] = {}
    contacts: dict[int, Contact] = {}
    for each in steps:
        calls[each.call.id] = each.call
        delta = tx.stats(each.call.campaign_id)
        if each.contact is not None:
            contacts[each.contact.id] = each.contact
            delta.move(each.contact_was, each.contact.status, had=each.outcome_was, has=each.contact.last_outcome)
            if each.contact.status in _ENDS:
                tx.touched.add(each.call.campaign_id)
        if ended(each.call):
            delta.ended(each.call)
        if each.event is not None:
            tx.emit(each.event)
    if calls:
        await batches.update(tx.conn, call, [{"key": key, **_call_state(each)} for key, each in calls.items()])
    if unkept := [key for key, each in contacts.items() if each.callback and each.status is ContactStatus.PENDING]:
        await callbacks.restore(tx, unkept)
    if contacts:
        await batches.update(tx.conn, contact, [{"key": key, **_contact_state(each)} for key, each in contacts.items()])
    await _cancel_returned(tx, [each for each in contacts.values() if each.status is ContactStatus.PENDING])


async def _cancel_returned(tx: Tx, returned: Sequence[Contact]) -> None:
    """Cancel what comes back to a campaign that has ended meanwhile: whoever cancelled its pending ones is through."""
    for ids in _chunks(sorted({each.campaign_id for each in returned})):
        for campaign_id in (await tx.conn.execute(_ENDED, {"keys": ids})).scalars():
            late = [each.id for each in returned if each.campaign_id == campaign_id]
            for some in _chunks(late):
                chosen = (contact.c.id.in_(some), contact.c.status == ContactStatus.PENDING)
                await cancel_chosen(tx, chosen, "the campaign has ended")


async def write_stats(tx: Tx) -> None:
    """Add the batch's changes to the campaigns' counters."""
    changes = [
        {"key": campaign_id, **{name: delta.columns[name] for name in _COUNTERS}}
        for campaign_id, delta in sorted(tx.deltas.items())
        if any(delta.columns.values())
    ]
    if changes:
        await batches.update(tx.conn, campaign_stats, changes, adding=True)
    by_outcome = [
        {"campaign_id": campaign_id, "outcome": outcome.value, "status": status.value, "contacts": count}
        for campaign_id, delta in sorted(tx.deltas.items())
        for (outcome, status), count in sorted(delta.outcomes.items())
        if count
    ]
    if by_outcome:
        await batches.add(tx.conn, contact_outcome, "contacts", by_outcome)


async def finish_campaigns(tx: Tx) -> None:
    """Complete the touched campaigns that have nothing left: no contact waiting or in flight, no upload under way."""
    if not tx.touched:
        return
    now = tx.clock.wall()
    for ids in _chunks(sorted(tx.touched)):
        rows = await tx.conn.execute(_FINISH, {"keys": ids, "completed_at": now})
        for campaign_id in sorted(rows.scalars()):
            tx.ends.append(CampaignEnd(campaign_id, CampaignStatus.COMPLETED, now))
            tx.emit(EventDraft(EventKind.CAMPAIGN, campaign_id, CampaignStatus.COMPLETED.value, now))


async def write_events(tx: Tx, events: Sequence[Event]) -> None:
    """Write the batch's events under their numbers, and let those who listen know of the last."""
    if events:
        rows = [_event_row(each) for each in events]
        await batches.insert_and_notify(tx.conn, event, rows, notices.EVENTS, str(events[-1].seq))


def _chunks(ids: list[int]) -> Iterable[list[int]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))


def _call_state(each: Call) -> dict[str, Any]:
    return {
        "status": each.status.value,
        "outcome": each.outcome and each.outcome.value,
        "fault": each.fault and each.fault.value,
        "hangup_cause": each.hangup_cause,
        "hangup_text": each.hangup_text,
        "sip_status": each.sip_status,
        "hung_up_by": each.hung_up_by and each.hung_up_by.value,
        "ringing_at": each.ringing_at,
        "answered_at": each.answered_at,
        "handed_over_at": each.handed_over_at,
        "ended_at": each.ended_at,
        "talk_seconds": each.talk_seconds,
    }


def _call_row(each: Call) -> dict[str, Any]:
    return {
        "id": each.id,
        "tenant": each.tenant,
        "campaign_id": each.campaign_id,
        "contact_id": each.contact_id,
        "attempt": each.attempt,
        "pbx": each.pbx,
        "trunk": each.trunk,
        "agent_id": each.agent_id,
        "caller_id": each.caller_id,
        "phone_number": each.phone_number,
        "originated_at": each.originated_at,
        "recording": each.recording,
        "hands_over": each.hands_over,
        **_call_state(each),
    }


def _contact_state(each: Contact) -> dict[str, Any]:
    return {
        "status": each.status.value,
        "attempts": each.attempts,
        "callee_tries": each.callee_tries,
        "mishaps": each.mishaps,
        "outcomes": dict(each.outcomes),
        "last_outcome": each.last_outcome and each.last_outcome.value,
        "due_at": to_micros(each.next_attempt_at) if each.next_attempt_at is not None else 0,
        "deferred": False,
        # A promise is kept by its call: what follows, a retry too, is dialled in its turn.
        "rank": rank_of(each),
        "updated_at": each.updated_at,
    }


def _event_row(each: Event) -> dict[str, Any]:
    draft = each.draft
    return {
        "seq": each.seq,
        "campaign_id": draft.campaign_id,
        "contact_id": draft.contact_id,
        "call_id": draft.call_id,
        "kind": draft.kind.value,
        "status": draft.status,
        "outcome": draft.outcome and draft.outcome.value,
        "phone_number": draft.phone_number,
        "reason": draft.reason,
        "at": draft.at,
    }
