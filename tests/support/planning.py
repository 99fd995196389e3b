"""Snapshots for the planner, of which each test names only what it is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dialerd.core.fairness import charge
from dialerd.core.model import Agent, AgentKind, Campaign, CampaignStatus, Contact, Moment, Pbx, Tenant, Trunk
from dialerd.core.plan import plan
from dialerd.core.settings import CampaignSettings
from dialerd.core.snapshot import OPEN, CampaignView, Gate, Plan, PlannedCall, Snapshot
from dialerd.core.throttle import Book, Key, Level, Shares
from tests.support.contacts import a_contact

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
GUARD = 0.06
AGENT = Agent(1, "one", "sales", AgentKind.DIALPLAN, context="c", exten="s")


def at(seconds: float) -> Moment:
    """So many seconds after noon, on both clocks."""
    return Moment(NOON + timedelta(seconds=seconds), seconds)


def some_contacts(count: int, campaign_id: int = 1, **changes: Any) -> list[Contact]:
    """Due contacts of a campaign, with ids and numbers of their own."""
    return [
        a_contact(
            id=campaign_id * 1000 + index,
            campaign_id=campaign_id,
            phone_number=f"+1202{5_000_000 + campaign_id * 1000 + index}",
            **changes,
        )
        for index in range(count)
    ]


def a_campaign(
    campaign_id: int = 1, tenant: str = "one", status: CampaignStatus = CampaignStatus.ACTIVE, **settings: Any
) -> Campaign:
    """A campaign that may call all day, with room for a hundred calls."""
    chosen = {"calling_hours_start": "00:00", "calling_hours_end": "00:00", "concurrent_calls": 100, **settings}
    name = f"campaign {campaign_id}"
    return Campaign(campaign_id, tenant, name, None, AGENT.id, status, CampaignSettings(**chosen), NOON)


def a_view(campaign: Campaign | None = None, contacts: Sequence[Contact] | int = 1, **changes: Any) -> CampaignView:
    """What the planner sees of a campaign with due contacts (or so many of them)."""
    campaign = campaign or a_campaign()
    if isinstance(contacts, int):
        contacts = some_contacts(contacts, campaign.id)
    return replace(CampaignView(campaign, AGENT, tuple(contacts), None), **changes)


@dataclass
class World:
    """Trunks ``a`` and ``b`` on one PBX, tenants ``one`` and ``two`` who may use both, and room for all."""

    trunk_slots: int = 1000
    trunk_rate: float = 1000.0
    tenant_slots: int = 1000
    trunks: Mapping[str, Trunk] = field(init=False)
    tenants: dict[str, Tenant] = field(init=False)
    book: Book = field(default_factory=Book)
    shares: Shares = field(default_factory=Shares)
    gates: dict[Key, Gate] = field(default_factory=dict)
    system: Gate = OPEN
    placed_today: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pbxs = {"main": Pbx("main", 1000, 1000)}
        self.trunks = {
            name: Trunk(name, "main", "PJSIP/{number}@" + name, self.trunk_rate, self.trunk_slots)
            for name in ("a", "b")
        }
        self.tenants = {name: Tenant(name, 1000, self.tenant_slots, ("a", "b")) for name in ("one", "two")}
        for trunk in self.trunks.values():
            self.book.set(Key(Level.TRUNK, trunk.id), self.trunk_slots, self.trunk_rate, GUARD)
        self.book.set(Key(Level.PBX, "main"), 1000, 1000, GUARD)
        for tenant in self.tenants:
            self.book.set(Key(Level.TENANT, tenant), self.tenant_slots, 1000, GUARD)

    def snapshot(self, *views: CampaignView) -> Snapshot:
        """The world with these campaigns, whose own limits are set."""
        for view in views:
            settings = view.campaign.settings
            key = Key(Level.CAMPAIGN, view.campaign.id)
            self.book.set(key, settings.concurrent_calls, settings.max_calls_per_second, GUARD)
        return Snapshot(
            campaigns=views,
            tenants=self.tenants,
            trunks=self.trunks,
            pbxs=self.pbxs,
            gates=self.gates,
            book=self.book,
            shares=self.shares,
            system=self.system,
            placed_today=self.placed_today,
        )

    def plan(self, *views: CampaignView, seconds: float = 0.0) -> Plan:
        """Plan at a moment."""
        return plan(self.snapshot(*views), at(seconds))

    def place(self, calls: Iterable[PlannedCall]) -> None:
        """Do what the dispatcher does with planned calls: they take their slots and rates, and count in the shares."""
        for call in calls:
            charge(self.shares, call)
            self.book.take(str(call.contact.id), call.keys)
            self.book.reserve(call.keys, call.send_at)
            self.book.sent(call.keys, call.send_at)

    def end(self, call: PlannedCall) -> None:
        """The call is over."""
        self.book.release(str(call.contact.id))
