"""Contacts that are put back: what their last call cost was their trunk's fault after all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dialerd.core import contact as contact_table
from dialerd.core.campaign import FINISHED
from dialerd.core.contact import ContactEvent
from dialerd.core.machine import step
from dialerd.core.model import Call, Contact, ContactStatus
from dialerd.core.outcome import Fault
from dialerd.store import callbacks
from dialerd.store.contacts import rank_of
from dialerd.store.records import EventDraft, EventKind
from dialerd.store.schema import call, campaign, contact, to_micros
from dialerd.store.tx import Tx


@dataclass(frozen=True, slots=True)
class PutBack:
    """A call that ended, and its contact before and after it was settled."""

    call: Call
    before: Contact
    after: Contact


async def put_back(tx: Tx, failures: Sequence[PutBack]) -> int:
    """Give the contacts of these calls their budgets back, and let them be due; returns how many.

    A contact that has moved on since, by another call, a promise or a stop, is left as it is.
    """
    statuses = await _statuses(tx, failures)
    now = tx.clock.wall()
    for each in failures:
        was = statuses.get(each.call.id)
        if was is None:
            continue
        if was is ContactStatus.FAILED:
            pending = step(contact_table.TRANSITIONS, was, ContactEvent.PUT_BACK)
            tx.stats(each.call.campaign_id).move(was, pending, had=each.after.last_outcome, has=each.after.last_outcome)
            tx.emit(_event(each, pending, now))
        await tx.conn.execute(
            sa.update(contact)
            .where(contact.c.id == each.after.id)
            .values(
                status=ContactStatus.PENDING.value,
                callee_tries=each.before.callee_tries,
                mishaps=each.before.mishaps,
                outcomes=dict(each.before.outcomes),
                due_at=to_micros(now),
                deferred=False,
                rank=rank_of(each.before),
                updated_at=now,
            )
        )
    ours = [each for each in failures if each.call.id in statuses]
    if ours:
        blamed = sa.update(call).where(call.c.id.in_([each.call.id for each in ours]))
        await tx.conn.execute(blamed.values(fault=Fault.TRUNK.value))
    if promised := [each.after.id for each in ours if each.before.callback]:
        await callbacks.restore(tx, promised)
    return len(ours)


async def _statuses(tx: Tx, failures: Sequence[PutBack]) -> dict[str, ContactStatus]:
    """The status of those contacts that are still as the call left them, by the call's id."""
    columns = (contact.c.id, contact.c.status, contact.c.attempts, contact.c.callee_tries, contact.c.mishaps)
    query = (
        sa.select(*columns, contact.c.rank)
        .join(campaign, campaign.c.id == contact.c.campaign_id)
        .where(
            contact.c.id.in_([each.after.id for each in failures]),
            campaign.c.visible,
            campaign.c.status.not_in([status.value for status in FINISHED]),
        )
    )
    rows = {row.id: row for row in await tx.conn.execute(query)}
    found = {}
    for each in failures:
        row, after = rows.get(each.after.id), each.after
        same = row is not None and (row.status, row.attempts, row.callee_tries, row.mishaps, row.rank) == (
            after.status.value,
            after.attempts,
            after.callee_tries,
            after.mishaps,
            after.priority,
        )
        if same:
            found[each.call.id] = after.status
    return found


def _event(each: PutBack, status: ContactStatus, at: datetime) -> EventDraft:
    return EventDraft(
        EventKind.RETRY_SCHEDULED,
        each.call.campaign_id,
        status.value,
        at,
        contact_id=each.after.id,
        call_id=each.call.id,
        outcome=each.call.outcome,
        phone_number=each.call.phone_number,
    )
