"""Fairness within one round of the planner: whose turn it is among the campaigns that could dial."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush, heapreplace

from dialerd.core.contact_rules import unruled
from dialerd.core.model import Agent, Contact, Tenant, Trunk
from dialerd.core.rules import own_keys, trunk_keys
from dialerd.core.snapshot import CampaignView, PlannedCall
from dialerd.core.throttle import Key, Level, Shares


class Lane:
    """A campaign in the round, with its contacts that are left."""

    __slots__ = ("_position", "agent", "crowds", "group", "keys", "own", "probe", "tenant", "trunk", "unruled", "view")

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
        self.group: _Group | None = None
        """With whom it stands in line there."""

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

    __slots__ = ("_everybody", "_least", "_shares", "groups", "holder", "lanes", "marks", "served", "version")

    def __init__(self, holder: Key, shares: Shares) -> None:
        self.holder = holder
        self._shares = shares
        self.lanes: dict[str | int, int] = {}
        self.marks: dict[str | int, float] = {}
        self.served: dict[str | int, float] = {}
        """What this round adds to the shares."""
        self.groups: list[_Group] = []
        """At a tenant: its lanes, by the way they go."""
        self.version = 0
        """Grows with each count: marks that were compared before it are others now."""
        self._least: float | None = None
        self._everybody: tuple[str | int, ...] | None = None

    def count(self) -> None:
        """Take the marks of those who wait from the shares, and what this round added."""
        marks = self._shares.marks(self.holder, self.lanes)
        self.marks = {owner: mark + self.served.get(owner, 0.0) for owner, mark in marks.items()}
        self._least = self._everybody = None
        self.version += 1

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


class _Group:
    """The lanes of one tenant that go through one trunk: whose turn it is among them, their own marks say.

    Marks only grow between two counts, so an entry of the heap that is out of date stands too far in front, and is put
    right when it is met there.
    """

    __slots__ = ("_heap", "_version", "lanes", "tenant", "turn", "way", "within")

    def __init__(self, way: _Way, tenant: str, within: _Crowd) -> None:
        self.way = way
        self.turn: _Turn | None = None
        """Its one entry of the way's heap that counts."""
        self.tenant = tenant
        self.within = within
        self.lanes: dict[str | int, Lane] = {}
        """By their campaigns. Whoever joins is counted by the crowd, and every count makes the heap anew."""
        self._heap: list[tuple[float, int]] = []
        self._version = -1

    def first(self) -> tuple[float, int]:
        """The least mark within the tenant, and whose it is."""
        marks = self.within.marks
        if self._version != self.within.version:
            self._version = self.within.version
            self._heap = [(marks[lane.view.campaign.id], lane.view.campaign.id) for lane in self.lanes.values()]
            heapify(self._heap)
        while True:
            mark, campaign = self._heap[0]
            if campaign not in self.lanes:
                heappop(self._heap)
            elif marks[campaign] != mark:
                heapreplace(self._heap, (marks[campaign], campaign))
            else:
                return mark, campaign


_Turn = tuple[float, float, float, int, str]
"""Marks at trunk and PBX, that within the tenant above its least, then the oldest campaign; and the tenant's name."""


class _Way:
    """A trunk with its PBX, and the tenants who wait there, the one whose turn it is in front.

    A turn that has come to stand further back is put right when it is met in front; one that comes forward, as the
    least mark within its tenant grows or somebody joins, is put in anew (:meth:`put`), and what it was before is
    dropped when it is met: were it put right as well, a tenant would have an entry for each of its calls in the round.
    """

    __slots__ = ("_heap", "_versions", "groups", "pbx", "trunk")

    def __init__(self, trunk: _Crowd, pbx: _Crowd) -> None:
        self.trunk = trunk
        self.pbx = pbx
        self.groups: dict[str, _Group] = {}
        self._heap: list[_Turn] = []
        self._versions = (-1, -1)

    def put(self, group: _Group) -> None:
        """Something changed within a tenant."""
        if self._versions == (self.trunk.version, self.pbx.version):
            turn = self._turn(group)
            if turn != group.turn:
                group.turn = turn
                heappush(self._heap, turn)

    def first(self) -> _Turn | None:
        """Whose turn it is; None: nobody waits here."""
        versions = (self.trunk.version, self.pbx.version)
        if self._versions != versions:
            self._versions = versions
            self._heap = []
            for group in self.groups.values():
                group.turn = turn = self._turn(group)
                self._heap.append(turn)
            heapify(self._heap)
        while self._heap:
            turn = self._heap[0]
            waiting = self.groups.get(turn[4])
            if waiting is None or waiting.turn is not turn:
                heappop(self._heap)
            elif (actual := self._turn(waiting)) != turn:
                waiting.turn = actual
                heapreplace(self._heap, actual)
            else:
                return turn
        return None

    def _turn(self, group: _Group) -> _Turn:
        mark, campaign = group.first()
        tenant = group.tenant
        return self.trunk.marks[tenant], self.pbx.marks[tenant], mark - group.within.least, campaign, tenant


class Marks:
    """Fairness within one round: the shares as they stand, and what this round adds to them."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._crowds: dict[Key, _Crowd] = {}
        self._ways: dict[tuple[Key, Key], _Way] = {}

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
        self._changed(lane)

    def leave(self, lane: Lane) -> None:
        """A lane can no longer be served, or only by another trunk."""
        for crowd, owner in lane.crowds:
            crowd.leave(owner)
        group = lane.group
        assert group is not None
        del group.lanes[lane.view.campaign.id]
        if not group.lanes:
            del group.way.groups[group.tenant]
            group.within.groups.remove(group)
        self._changed(lane)
        lane.crowds, lane.group = (), None

    def least(self) -> Lane:
        """The lane that was served least: at its trunk, then at its PBX, then within its tenant; then the oldest."""
        turns = []
        for way in self._ways.values():
            turn = way.first()
            if turn is not None:
                at_trunk, at_pbx, within, campaign, tenant = turn
                lane = way.groups[tenant].lanes[campaign]
                turns.append((at_trunk - way.trunk.least, at_pbx - way.pbx.least, within, campaign, lane))
        return min(turns, key=lambda turn: turn[:4])[4]

    def serve(self, lane: Lane) -> tuple[tuple[Key, tuple[str | int, ...]], ...]:
        """Note that a lane was served; returns who waited at each of its holders."""
        waited = []
        for crowd, owner in lane.crowds:
            crowd.serve(owner, lane.weight if crowd.holder.level is Level.TENANT else lane.tenant.weight)
            waited.append((crowd.holder, crowd.everybody))
        self._changed(lane)
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
        trunk, pbx, within = (crowd for crowd, _ in crowds)
        way = self._ways.get((trunk.holder, pbx.holder))
        if way is None:
            way = self._ways[trunk.holder, pbx.holder] = _Way(trunk, pbx)
        group = way.groups.get(lane.tenant.id)
        if group is None:
            group = way.groups[lane.tenant.id] = _Group(way, lane.tenant.id, within)
            within.groups.append(group)
        group.lanes[lane.view.campaign.id] = lane
        lane.group = group

    @staticmethod
    def _changed(lane: Lane) -> None:
        """The least mark within a tenant may be another: all ways on which it waits look at it again."""
        for group in lane.crowds[-1][0].groups:
            group.way.put(group)


def charge(shares: Shares, call: PlannedCall) -> None:
    """Count a placed call in the shares of those who hold its limits."""
    campaign = call.campaign
    weight = campaign.settings.weight * 2.0**campaign.settings.priority
    for holder, waiting in call.waiting:
        if holder.level is Level.TENANT:
            shares.serve(holder, campaign.id, weight, waiting)
        else:
            shares.serve(holder, call.tenant.id, call.tenant.weight, waiting)
