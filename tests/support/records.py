"""Calls and their steps as the journal takes them, of which each test names only what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from dialerd.core.model import Call, CallStatus, Campaign, CampaignStatus, Contact, ContactStatus
from dialerd.core.settings import CampaignSettings
from dialerd.store import campaigns, contact_due, contacts
from dialerd.store.db import Store
from dialerd.store.records import CallStep, EventDraft, EventKind, Originating
from dialerd.store.tx import Tx


async def add_campaign(
    store: Store,
    campaign_id: int = 1,
    status: CampaignStatus = CampaignStatus.ACTIVE,
    *,
    visible: bool = True,
    **settings: Any,
) -> Campaign:
    """Store a campaign without contacts."""
    now = store.clock.wall()
    started = None if status is CampaignStatus.DRAFT else now
    made = Campaign(
        campaign_id, "one", f"campaign {campaign_id}", None, None, status, CampaignSettings(**settings), now, started
    )
    await store.write(lambda tx: campaigns.insert(tx, made, visible=visible))
    return made


def a_row(contact_id: int, **changes: Any) -> dict[str, Any]:
    """A contact as an upload inserts it."""
    row: dict[str, Any] = dict.fromkeys(("first_name", "last_name", "email", "company", "timezone", "external_id"))
    row |= {"id": contact_id, "phone_number": f"+1202{5_000_000 + contact_id}", "priority": 0, "attributes": {}}
    return row | changes


async def add_contacts(store: Store, *rows: dict[str, Any], campaign_id: int = 1, list_id: int = 0) -> None:
    """Store pending contacts and count them."""

    async def insert(tx: Tx) -> None:
        added = await contacts.insert(tx, campaign_id, list_id, rows)
        tx.stats(campaign_id).move(None, ContactStatus.PENDING, added)

    await store.write(insert)


async def due(store: Store, limit: int = 100, campaign_id: int = 1, **without: frozenset[int]) -> list[Contact]:
    """The contacts that are due now, in the order of dialing."""
    async with store.read() as conn:
        held = without.get("without", frozenset())
        found, _ = await contact_due.claim(conn, campaign_id, store.clock.wall(), limit, held)
    return found


def an_originating(contact: Contact, call_id: str, at: datetime) -> Originating:
    """A call of a contact, to be committed."""
    call = Call(
        id=call_id,
        tenant="one",
        campaign_id=contact.campaign_id,
        contact_id=contact.id,
        attempt=contact.attempts + 1,
        pbx="main",
        trunk="a",
        agent_id=None,
        caller_id=None,
        phone_number=contact.phone_number,
        status=CallStatus.ORIGINATED,
        originated_at=at,
    )
    dialled = replace(contact, status=ContactStatus.ORIGINATED, attempts=contact.attempts + 1, updated_at=at)
    return Originating(call, dialled, told(EventKind.ORIGINATED, call, dialled, at))


def told(kind: EventKind, call: Call, contact: Contact, at: datetime) -> EventDraft:
    """The event of a step."""
    return EventDraft(kind, call.campaign_id, contact.status.value, at, contact.id, call.id, call.outcome)


def a_step(made: Originating, kind: EventKind, contact_status: ContactStatus, at: datetime, **call: Any) -> CallStep:
    """A later state of a committed call; ``call`` names what changed in it."""
    changed = replace(made.call, **call)
    contact = replace(made.contact, status=contact_status, updated_at=at, last_outcome=changed.outcome)
    return CallStep(changed, contact, made.contact.status, told(kind, changed, contact, at))


async def originate(store: Store, chosen: Sequence[Contact]) -> list[Originating]:
    """Commit a call for each of these contacts; returns those that were committed."""
    at = store.clock.wall()
    made = [an_originating(contact, f"call-{contact.id}-{contact.attempts + 1}", at) for contact in chosen]
    committed = await store.record(made, [])
    return [each for each in made if each.call.id in committed]
