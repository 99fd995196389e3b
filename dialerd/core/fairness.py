"""Fairness within one round of the planner: whose turn it is among the campaigns that could dial."""

from __future__ import annotations

from collections.abc import Iterable

from dialerd.core.contact_rules import unruled
from dialerd.core.model import Agent, Contact, Tenant, Trunk
from dialerd.core.rules import own_keys, trunk_keys
from dialerd.core.snapshot import CampaignView, PlannedCall
from dialerd.core.throttle import Key, Level, Shares


class Lane:
    """A campaign in the round, with its contacts that are left."""

    __slots__ = ("_position", "agent", "crowds", "keys", "own", "probe", "tenant", "trunk", "unruled", "view")

    def __init__(self, view: CampaignView, tenant: Tenant, agent: Agent) -> None:
        self.view = view
        self.tenant = tenant
        self.agent = agent
        self._position = 0
        self.own = own_keys(view)
        self.unruled = unruled(tenant, view.campaign.settings)
        """No rule of its contacts' own can refuse one that names no time zone."""
        self.trunk: Trunk | None = None
        self.keys: tuple[Key, ...] = ()
        """The holders of limits that its next call occupies."""
        self.probe = False
        """Its call would try a suspended trunk."""
        self.crowds: tuple[tuple[_Crowd, str | int], ...] = ()
        """Where it waits to be served, and as whom."""

    @property
    def contact(self) -> Contact | None:
        """The contact whose turn it is; None where none is left at hand."""
        return self.view.contacts[self._position] if self._position < len(self.view.contacts) else None

    def advance(self) -> None:
        """Go on to the next contact."""
        self._position += 1

    def go_by(self, trunk: Trunk, *, probe: bool) -> None:
        """Let the next call go over this trunk."""
        if trunk is not self.trunk:
            self.trunk = trunk
            self.keys = (*trunk_keys(trunk), *self.own)
        self.probe = probe

    @property
    def weight(self) -> float:
        settings = self.view.campaign.settings
        return settings.weight * 2.0**settings.priority

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


class _Crowd:
    """Who waits at one holder in this round, by how many lanes, and how much each was served."""

    __slots__ = ("_everybody", "_least", "_shares", "holder", "lanes", "marks", "served")

    def __init__(self, holder: Key, shares: Shares) -> None:
        self.holder = holder
        self._shares = shares
        self.lanes: dict[str | int, int] = {}
        self.marks: dict[str | int, float] = {}
        self.served: dict[str | int, float] = {}
        """What this round adds to the shares."""
        self._least: float | None = None
        self._everybody: tuple[str | int, ...] | None = None

    def count(self) -> None:
        """Take the marks of those who wait from the shares, and what this round added."""
        marks = self._shares.marks(self.holder, self.lanes)
        self.marks = {owner: mark + self.served.get(owner, 0.0) for owner, mark in marks.items()}
        self._least = self._everybody = None

    def leave(self, owner: str | int) -> None:
        """One lane of an owner waits here no more."""
        self.lanes[owner] -= 1
        if not self.lanes[owner]:
            del self.lanes[owner], self.marks[owner]
            self._least = self._everybody = None

    def serve(self, owner: str | int, weight: float) -> None:
        """An owner was served."""
        self.served[owner] = self.served.get(owner, 0.0) + 1.0 / weight
        self.marks[owner] += 1.0 / weight
        self._least = None

    @property
    def least(self) -> float:
        """The least mark of those who wait."""
        if self._least is None:
            self._least = min(self.marks.values())
        return self._least

    @property
    def everybody(self) -> tuple[str | int, ...]:
        """Who waits."""
        if self._everybody is None:
            self._everybody = tuple(sorted(self.lanes, key=str))
        return self._everybody


class Marks:
    """Fairness within one round: the shares as they stand, and what this round adds to them."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._crowds: dict[Key, _Crowd] = {}

    def note_waiting(self, lanes: Iterable[Lane]) -> None:
        """These lanes could be served now: whoever is served, is served among them."""
        for lane in lanes:
            self._enter(lane)
        for crowd in self._crowds.values():
            crowd.count()

    def join(self, lane: Lane) -> None:
        """One lane more could be served now."""
        self._enter(lane)
        for crowd, owner in lane.crowds:
            if owner not in crowd.marks:
                crowd.count()

    def leave(self, lane: Lane) -> None:
        """A lane can no longer be served, or only by another trunk."""
        for crowd, owner in lane.crowds:
            crowd.leave(owner)
        lane.crowds = ()

    def least(self, lanes: Iterable[Lane]) -> Lane:
        """The lane that was served least: at its trunk, then at its PBX, then within its tenant; then the oldest."""
        return min(lanes, key=_turn)

    def serve(self, lane: Lane) -> tuple[tuple[Key, tuple[str | int, ...]], ...]:
        """Note that a lane was served; returns who waited at each of its holders."""
        waited = []
        for crowd, owner in lane.crowds:
            crowd.serve(owner, lane.weight if crowd.holder.level is Level.TENANT else lane.tenant.weight)
            waited.append((crowd.holder, crowd.everybody))
        return tuple(waited)

    def _enter(self, lane: Lane) -> None:
        crowds = []
        for holder, owner in lane.holders:
            crowd = self._crowds.get(holder)
            if crowd is None:
                crowd = self._crowds[holder] = _Crowd(holder, self._shares)
            crowd.lanes[owner] = crowd.lanes.get(owner, 0) + 1
            crowds.append((crowd, owner))
        lane.crowds = tuple(crowds)


def _turn(lane: Lane) -> tuple[float, float, float, int]:
    (trunk, at_trunk), (pbx, at_pbx), (tenant, within) = lane.crowds
    return (
        trunk.marks[at_trunk] - trunk.least,
        pbx.marks[at_pbx] - pbx.least,
        tenant.marks[within] - tenant.least,
        lane.view.campaign.id,
    )


def charge(shares: Shares, call: PlannedCall) -> None:
    """Count a placed call in the shares of those who hold its limits."""
    campaign = call.campaign
    weight = campaign.settings.weight * 2.0**campaign.settings.priority
    for holder, waiting in call.waiting:
        if holder.level is Level.TENANT:
            shares.serve(holder, campaign.id, weight, waiting)
        else:
            shares.serve(holder, call.tenant.id, call.tenant.weight, waiting)
