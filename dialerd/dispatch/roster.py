"""The active campaigns in memory: what the planner is shown of them, who waits, and how fast each goes."""

from __future__ import annotations

from dataclasses import dataclass, field

from dialerd.core.forecast import Pace
from dialerd.core.model import Agent, Campaign
from dialerd.core.snapshot import CampaignView, Plan
from dialerd.dispatch.hopper import Hopper


@dataclass(slots=True)
class _Active:
    """An active campaign."""

    campaign: Campaign
    agent: Agent | None
    waiting_since: float | None = None
    pace: Pace = field(default_factory=Pace)
    view: CampaignView | None = None
    """What the last plan saw."""


class Roster:
    """Who dials."""

    def __init__(self, hopper: Hopper) -> None:
        """``hopper``: holds the contacts at hand of every campaign here."""
        self._hopper = hopper
        self._active: dict[int, _Active] = {}

    def __len__(self) -> int:
        return len(self._active)

    def __contains__(self, campaign_id: object) -> bool:
        return campaign_id in self._active

    def put(self, campaign: Campaign, agent: Agent | None) -> None:
        """A campaign is active, or was changed while it is."""
        known = self._active.get(campaign.id)
        if known is None:
            self._active[campaign.id] = _Active(campaign, agent)
        else:
            known.campaign, known.agent = campaign, agent

    def remove(self, campaign_id: int) -> Campaign | None:
        """A campaign is no longer active. Returns it, if it was."""
        active = self._active.pop(campaign_id, None)
        return None if active is None else active.campaign

    def get(self, campaign_id: int) -> Campaign | None:
        """An active campaign."""
        active = self._active.get(campaign_id)
        return None if active is None else active.campaign

    def of_tenant(self, tenant: str) -> list[tuple[Campaign, Agent | None]]:
        """A tenant's active campaigns, each with its agent."""
        return [(each.campaign, each.agent) for each in self._active.values() if each.campaign.tenant == tenant]

    def agent_changed(self, agent: Agent) -> None:
        """An agent was changed: its campaigns have it as it is now."""
        for active in self._active.values():
            if active.campaign.agent_id == agent.id:
                active.agent = agent

    def pace(self, campaign_id: int) -> Pace | None:
        """How fast a campaign goes; None for one that is not active."""
        active = self._active.get(campaign_id)
        return None if active is None else active.pace

    def view(self, campaign_id: int) -> CampaignView | None:
        """A campaign as the planner sees it; None for one that is not active."""
        active = self._active.get(campaign_id)
        return None if active is None else self._view(active)

    def views(self) -> list[CampaignView]:
        """All campaigns as the planner sees them."""
        return [self._view(active) for active in self._active.values()]

    def note_waiting(self, planned: Plan, now: float) -> None:
        """After a plan, note since when (monotonic) each has contacts at hand and was not served."""
        served = {call.campaign.id for call in planned.calls}
        for campaign_id, active in self._active.items():
            if campaign_id in served or not self._hopper.at_hand(campaign_id):
                active.waiting_since = None
            elif active.waiting_since is None:
                active.waiting_since = now

    def _view(self, active: _Active) -> CampaignView:
        """The same object until something of it changes, for a plan sees all."""
        campaign_id, known = active.campaign.id, active.view
        contacts, next_due = self._hopper.at_hand(campaign_id), self._hopper.next_due(campaign_id)
        loading = self._hopper.loading(campaign_id)
        if (
            known is None
            or known.campaign is not active.campaign
            or known.agent is not active.agent
            or known.contacts is not contacts
            or known.next_due != next_due
            or known.loading is not loading
            or known.waiting_since != active.waiting_since
        ):
            known = active.view = CampaignView(
                active.campaign, active.agent, contacts, next_due, loading, active.waiting_since
            )
        return known
