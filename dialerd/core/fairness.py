"""Fairness within one round of the planner: whose turn it is among the campaigns that could dial."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dialerd.core.model import Agent, Contact, Tenant, Trunk
from dialerd.core.rules import own_keys, trunk_keys
from dialerd.core.snapshot import CampaignView, PlannedCall
from dialerd.core.throttle import Key, Level, Shares


class Lane:
    """A campaign in the round, with its contacts that are left."""

    def __init__(self, view: CampaignView, tenant: Tenant, agent: Agent) -> None:
        self.view = view
        self.tenant = tenant
        self.agent = agent
        self._position = 0
        self.own = own_keys(view)
        self.trunk: Trunk | None = None
        self.probe = False
        """Its call would try a suspended trunk."""

    @property
    def contact(self) -> Contact | None:
        """The contact whose turn it is; None where none is left at hand."""
        return self.view.contacts[self._position] if self._position < len(self.view.contacts) else None

    def advance(self) -> None:
        """Go on to the next contact."""
        self._position += 1

    @property
    def weight(self) -> float:
        settings = self.view.campaign.settings
        return settings.weight * 2.0**settings.priority

    @property
    def keys(self) -> tuple[Key, ...]:
        assert self.trunk is not None
        return (*trunk_keys(self.trunk), *self.own)

    @property
    def holders(self) -> tuple[tuple[Key, str | int], ...]:
        """At whom this campaign waits, and as whom: as its tenant at trunk and PBX, as itself at its tenant."""
        assert self.trunk is not None
        tenant = self.tenant.id
        return (
            (Key(Level.TRUNK, self.trunk.id), tenant),
            (Key(Level.PBX, self.trunk.pbx), tenant),
            (Key(Level.TENANT, tenant), self.view.campaign.id),
        )


class Marks:
    """Fairness within one round: the shares as they stand, and what this round adds to them."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._served: dict[tuple[Key, str | int], float] = {}
        self._waiting: dict[Key, set[str | int]] = {}

    def note_waiting(self, lanes: Sequence[Lane]) -> None:
        """These lanes could be served now: whoever is served, is served among them."""
        self._waiting = {}
        for lane in lanes:
            for holder, owner in lane.holders:
                self._waiting.setdefault(holder, set()).add(owner)

    def least(self, lanes: Sequence[Lane]) -> Lane:
        """The lane that was served least: at its trunk, then at its PBX, then within its tenant; then the oldest."""
        self.note_waiting(lanes)
        marks = {holder: self._with_this_round(holder, owners) for holder, owners in self._waiting.items()}
        return min(
            lanes, key=lambda lane: (*(marks[holder][owner] for holder, owner in lane.holders), lane.view.campaign.id)
        )

    def serve(self, lane: Lane) -> tuple[tuple[Key, tuple[str | int, ...]], ...]:
        """Note that a lane was served; returns who waited at each of its holders."""
        waited = []
        for holder, owner in lane.holders:
            weight = lane.weight if holder.level is Level.TENANT else lane.tenant.weight
            self._served[holder, owner] = self._served.get((holder, owner), 0.0) + 1.0 / weight
            waited.append((holder, tuple(sorted(self._waiting[holder], key=str))))
        return tuple(waited)

    def _with_this_round(self, holder: Key, owners: Iterable[str | int]) -> dict[str | int, float]:
        marks = {
            owner: mark + self._served.get((holder, owner), 0.0)
            for owner, mark in self._shares.marks(holder, owners).items()
        }
        least = min(marks.values())
        return {owner: mark - least for owner, mark in marks.items()}


def charge(shares: Shares, call: PlannedCall) -> None:
    """Count a placed call in the shares of those who hold its limits."""
    campaign = call.campaign
    weight = campaign.settings.weight * 2.0**campaign.settings.priority
    for holder, waiting in call.waiting:
        if holder.level is Level.TENANT:
            shares.serve(holder, campaign.id, weight, waiting)
        else:
            shares.serve(holder, call.tenant.id, call.tenant.weight, waiting)
