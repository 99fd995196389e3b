"""Explains campaigns and contacts of whatever status, with the planner's own rules and the dispatcher's own state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from dialerd.clock import Clock
from dialerd.core.explain import ContactFacts, Explanation, explain_campaign, explain_contact
from dialerd.core.model import Campaign, Contact, ContactStatus, Tenant
from dialerd.core.permit import number_rules
from dialerd.core.snapshot import CampaignView, Snapshot
from dialerd.dispatch.dispatcher import Dispatcher
from dialerd.store import agents, campaigns, contact_due, contacts, do_not_call, last_look


@dataclass(frozen=True, slots=True)
class Counts:
    """A campaign's contacts by what they wait for."""

    due: int
    waiting: int
    """Pending, and not due yet."""
    in_flight: int


class Explanations:
    """Answers why calls are, or are not, going out."""

    def __init__(self, dispatcher: Dispatcher, clock: Clock, *, live: bool = True) -> None:
        """``live``: the dispatcher dials, so that it knows what is in use."""
        self._dispatcher = dispatcher
        self._clock = clock
        self._live = live

    async def campaign(self, conn: AsyncConnection, campaign: Campaign) -> tuple[Explanation, Counts]:
        """Explain a campaign, and count its contacts. Raises StoreError."""
        now = self._clock.wall()
        stats = (await campaigns.stats(conn, [campaign.id]))[campaign.id]
        pending = stats.contacts[ContactStatus.PENDING]
        waiting = await contact_due.count_waiting(conn, campaign.id, now, pending)
        view = await self._view(conn, campaign)
        told = explain_campaign(self._snapshot(), view, self._clock.now(), stats.in_flight)
        return told, Counts(max(0, pending - waiting), waiting, stats.in_flight)

    async def contact(self, conn: AsyncConnection, tenant: Tenant, campaign: Campaign, contact: Contact) -> Explanation:
        """Explain one contact. Raises StoreError."""
        number = contact.phone_number
        horizon = number_rules(tenant, campaign.settings, ()).horizon or timedelta()
        dialled = await last_look.dialled(conn, tenant.id, [number], self._clock.wall() - horizon)
        facts = ContactFacts(
            await contacts.reason_of(conn, contact.id), bool(await do_not_call.listed(conn, tenant.id, [number]))
        )
        looked_up = replace(contact, dialled_at=tuple(dialled[number]))
        view = await self._view(conn, campaign)
        return explain_contact(self._snapshot(), view, looked_up, facts, self._clock.now())

    def _snapshot(self) -> Snapshot:
        return replace(self._dispatcher.snapshot(), live=self._live)

    async def _view(self, conn: AsyncConnection, campaign: Campaign) -> CampaignView:
        """The campaign as the planner has it; of one that is not active, as it would have it."""
        active = self._dispatcher.view(campaign.id)
        if active is not None and (active.contacts or active.loading or active.next_due is not None):
            return active
        # Outside its hours a campaign has nobody at hand, however many are pending: the store knows.
        due, upcoming = await contact_due.claim(conn, campaign.id, self._clock.wall(), 1, frozenset())
        if active is not None:
            return replace(active, contacts=due, next_due=upcoming)
        agent = None if campaign.agent_id is None else await agents.get(conn, None, campaign.agent_id)
        return CampaignView(campaign, agent, due, upcoming)
