"""The planner: which calls go out now, when to ask again, and why nothing more goes out.

Pure: the snapshot says everything there is to know, and the same snapshot always gives the same plan. The rules are
asked in the order in which ``explain`` shows them: system, campaign, window, throttle, routing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta

from dialerd.core import routing
from dialerd.core.contact_rules import contact_refusals
from dialerd.core.model import Agent, Campaign, CampaignStatus, Contact, Moment, Pbx, Tenant, Trunk
from dialerd.core.permit import Refusal
from dialerd.core.throttle import Block, Book, Draft, Key, Level, Shares
from dialerd.core.windows import Window, WindowMemo, lifetime

HORIZON = 0.02
"""Seconds ahead for which calls are planned: the journal's commit happens while their moment comes."""
_AFTER = 0.001
"""Seconds by which a wake comes late rather than early: waking in vain at the very edge would repeat without end."""
_STALE = timedelta(seconds=1)
"""Whoever fell due so long ago and is not at hand may come before what is, for that was fetched earlier."""
_FETCHING = "due contacts are being fetched"
PATIENCE = 10.0
"""Seconds after which a campaign that waits only for others' calls to end has what it needs kept for it."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A rule's answer: whether it holds (lets calls through), in words, and when it lets go if it does not."""

    rule: str
    level: str
    holds: bool
    detail: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class CampaignView:
    """A campaign as the planner sees it."""

    campaign: Campaign
    agent: Agent | None
    contacts: Sequence[Contact]
    """Due contacts in the order of dialing."""
    next_due: datetime | None
    """When the next pending contact falls due; None where none waits for its time."""
    loading: bool = False
    """More due contacts are being fetched from the store."""
    waiting_since: float | None = None
    """Since when (monotonic) it had contacts due and could not dial any; None: it was served."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a trunk or PBX takes calls, and if not, why and until when."""

    open: bool
    detail: str = ""
    until: datetime | None = None


OPEN = Gate(True)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the planner may know."""

    campaigns: Sequence[CampaignView]
    tenants: Mapping[str, Tenant]
    trunks: Mapping[str, Trunk]
    pbxs: Mapping[str, Pbx]
    gates: Mapping[Key, Gate]
    """Of trunks and PBXs; one that is not named is open."""
    book: Book
    shares: Shares
    placed_today: Mapping[str, int] = field(default_factory=dict)
    """Calls that each tenant has placed in this day (UTC)."""
    system: Gate = OPEN
    """Closed while the daemon drains or the store fails."""
    windows: WindowMemo = field(default_factory=WindowMemo)


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call to place: its limits' holders, and the monotonic moment it is planned for."""

    campaign: Campaign
    contact: Contact
    agent: Agent
    tenant: Tenant
    trunk: Trunk
    caller_id: str | None
    keys: tuple[Key, ...]
    send_at: float
    waiting: tuple[tuple[Key, tuple[str | int, ...]], ...]
    """Who waited at the trunk, the PBX and the tenant when this call was chosen: what fairness is counted by."""


@dataclass(frozen=True, slots=True)
class Deferral:
    """A due contact whose own hours are closed: it waits for them, or for nothing where they never open."""

    contact: Contact
    until: datetime | None
    detail: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now."""

    calls: tuple[PlannedCall, ...]
    deferrals: tuple[Deferral, ...]
    wake_at: float | None
    """The monotonic moment at which to plan again even if nothing happens; None: only when something happens."""
    reasons: Mapping[int, Reason]
    """Per campaign, the first rule that keeps it from dialing (more) now."""
    hungry: tuple[int, ...]
    """Campaigns that could dial and have no due contact at hand."""


def plan(snapshot: Snapshot, now: Moment) -> Plan:
    """Decide which calls to place now. See the module's docstring."""
    return _Round(snapshot, now).run()


def explain(snapshot: Snapshot, view: CampaignView, now: Moment) -> list[Reason]:
    """Every rule for one campaign, in the order in which the planner asks them."""
    draft = Draft(snapshot.book)
    reasons = list(_standing(snapshot, view, now))
    if (lack := _lack_of_contacts(view, next(iter(view.contacts), None), now)) is not None:
        reasons.append(lack)
    tenant = snapshot.tenants.get(view.campaign.tenant)
    if tenant is not None:
        reasons.append(_day_spent(snapshot, tenant, now, 0))
    reasons += [_limit_reason(draft, key, now) for key in _own_keys(view)]
    reasons += [route.reason for route in _routes(snapshot, draft, view, now)]
    return reasons


class _Lane:
    """A campaign in the round, with its contacts that are left."""

    def __init__(self, view: CampaignView, tenant: Tenant, agent: Agent) -> None:
        self.view = view
        self.tenant = tenant
        self.agent = agent
        self._position = 0
        self.own = _own_keys(view)
        self.trunk: Trunk | None = None

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
        return (*_trunk_keys(self.trunk), *self.own)

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


class _Round:
    """One run of the planner."""

    def __init__(self, snapshot: Snapshot, now: Moment) -> None:
        self._snapshot = snapshot
        self._now = now
        self._draft = Draft(snapshot.book)
        self._marks = _Marks(snapshot.shares)
        self._calls: list[PlannedCall] = []
        self._deferrals: list[Deferral] = []
        self._reasons: dict[int, Reason] = {}
        self._full: dict[int, Key] = {}
        """Per campaign, the holder of which it lacks a slot."""
        self._hungry: dict[int, None] = {}
        self._wakes: list[float] = []
        self._placed: Counter[str] = Counter()

    def run(self) -> Plan:
        lanes = [lane for view in self._snapshot.campaigns if (lane := self._lane(view)) is not None]
        lanes = [lane for lane in lanes if self._ready(lane)]
        lanes = self._keep_for_the_patient(lanes)
        while lanes:
            lane = self._marks.least(lanes)
            self._place(lane)
            lanes = [each for each in lanes if self._ready(each)]
        return Plan(
            tuple(self._calls),
            tuple(self._deferrals),
            min(self._wakes, default=None),
            self._reasons,
            tuple(self._hungry),
        )

    def _lane(self, view: CampaignView) -> _Lane | None:
        for reason in _standing(self._snapshot, view, self._now):
            if not reason.holds:
                self._stop(view, reason)
                return None
        tenant = self._snapshot.tenants[view.campaign.tenant]
        assert view.agent is not None  # _standing asked
        return _Lane(view, tenant, view.agent)

    def _ready(self, lane: _Lane) -> bool:
        """Whether a lane can place a call now; if not, its reason is noted."""
        self._skip_closed_contacts(lane)
        view = lane.view
        self._full.pop(view.campaign.id, None)
        if view.next_due is not None and view.next_due > self._now.wall:
            self._wake_at(view.next_due)
        elif view.next_due is not None:
            self._hungry[view.campaign.id] = None
        lack = _lack_of_contacts(view, lane.contact, self._now)
        if lack is not None:
            # Asked before the limits: a campaign out of contacts at hand wants more even while its slots are full.
            self._hungry[view.campaign.id] = None
            self._reasons[view.campaign.id] = lack
            return False
        spent = _day_spent(self._snapshot, lane.tenant, self._now, self._placed[lane.tenant.id])
        if not spent.holds:
            self._stop(view, spent)
            return False
        for key in lane.own:
            block = self._draft.block((key,), self._now.mono + HORIZON)
            if block is not None:
                self._stop_at(view, block)
                return False
        refused: Reason | None = None
        for route in _routes(self._snapshot, self._draft, view, self._now):
            if route.reason.holds:
                lane.trunk = route.trunk
                return True
            if refused is None and route.full is not None:
                self._full[view.campaign.id] = route.full
            refused = refused or route.reason
            self._wake_at(route.reason.until)
        assert refused is not None  # _routes told at least why there is none
        self._stop(view, refused)
        return False

    def _keep_for_the_patient(self, lanes: list[_Lane]) -> list[_Lane]:
        """Serve first who waited long; and where one of them lacks a part still, keep the other parts for it.

        A campaign that needs a slot of its tenant and one of its trunk may find each free only while the other is
        not, for ever, if those who need one of them alone are always quicker. Of those who lack the same part only the
        first has something kept for it: the next slot that frees there can serve one of them alone.
        """
        kept_for: set[Key] = set()
        overdue = [
            view
            for view in self._snapshot.campaigns
            if view.waiting_since is not None and self._now.mono - view.waiting_since > PATIENCE and view.contacts
        ]
        for view in sorted(overdue, key=lambda each: each.waiting_since or 0.0):
            # Who was served or kept for before may have taken the last of what this one found free.
            lanes = [lane for lane in lanes if self._ready(lane)]
            lane = next((each for each in lanes if each.view is view), None)
            if lane is not None:
                self._marks.note_waiting(lanes)
                self._place(lane)
                continue
            missing = self._full.get(view.campaign.id)
            if missing is not None and missing.level is not Level.CAMPAIGN and missing not in kept_for:
                kept_for.add(missing)
                self._draft.keep(
                    key for key in self._parts(view) if key not in (missing, Key(Level.CAMPAIGN, view.campaign.id))
                )
        return [lane for lane in lanes if self._ready(lane)]

    def _parts(self, view: CampaignView) -> tuple[Key, ...]:
        """What a call of a campaign needs, by the trunk of its first choice."""
        tenant = self._snapshot.tenants[view.campaign.tenant]
        first = next(iter(routing.choices(view.campaign, tenant)), None)
        return (*_own_keys(view), *(() if first is None else _trunk_keys(self._snapshot.trunks[first])))

    def _skip_closed_contacts(self, lane: _Lane) -> None:
        while (contact := lane.contact) is not None:
            refusal = self._refusal(lane, contact)
            if refusal is None:
                return
            self._deferrals.append(Deferral(contact, refusal.until, refusal.detail))
            lane.advance()

    def _refusal(self, lane: _Lane, contact: Contact) -> Refusal | None:
        """The contact's own rule that forbids to dial it now: its hours, the tenant's prefixes, its number's caps."""
        settings, windows = lane.view.campaign.settings, self._snapshot.windows
        refusals = contact_refusals(lane.tenant, settings, contact, windows, self._now.wall)
        return next((refusal for _, refusal in refusals if refusal is not None), None)

    def _place(self, lane: _Lane) -> None:
        contact, keys = lane.contact, lane.keys
        assert lane.trunk is not None
        assert contact is not None
        lane.advance()
        at = self._draft.send_at(keys, self._now.mono)
        self._draft.take(keys, at)
        self._placed[lane.tenant.id] += 1
        waiting = self._marks.serve(lane)
        caller_id = routing.caller_id(lane.view.campaign, lane.tenant, lane.trunk, contact)
        self._calls.append(
            PlannedCall(lane.view.campaign, contact, lane.agent, lane.tenant, lane.trunk, caller_id, keys, at, waiting)
        )

    def _stop(self, view: CampaignView, reason: Reason) -> None:
        self._reasons[view.campaign.id] = reason
        self._wake_at(reason.until)

    def _stop_at(self, view: CampaignView, block: Block) -> None:
        self._reasons[view.campaign.id] = _block_reason(self._snapshot.book, block, self._now)
        if block.until is None:
            self._full[view.campaign.id] = block.key
        else:
            self._wakes.append(block.until - HORIZON + _AFTER)

    def _wake_at(self, moment: datetime | None) -> None:
        if moment is not None:
            self._wakes.append(self._now.mono + max(0.0, (moment - self._now.wall).total_seconds()) + _AFTER)


class _Marks:
    """Fairness within one round: the shares as they stand, and what this round adds to them."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._served: dict[tuple[Key, str | int], float] = {}
        self._waiting: dict[Key, set[str | int]] = {}

    def note_waiting(self, lanes: Sequence[_Lane]) -> None:
        """These lanes could be served now: whoever is served, is served among them."""
        self._waiting = {}
        for lane in lanes:
            for holder, owner in lane.holders:
                self._waiting.setdefault(holder, set()).add(owner)

    def least(self, lanes: Sequence[_Lane]) -> _Lane:
        """The lane that was served least: at its trunk, then at its PBX, then within its tenant; then the oldest."""
        self.note_waiting(lanes)
        marks = {holder: self._with_this_round(holder, owners) for holder, owners in self._waiting.items()}
        return min(
            lanes, key=lambda lane: (*(marks[holder][owner] for holder, owner in lane.holders), lane.view.campaign.id)
        )

    def serve(self, lane: _Lane) -> tuple[tuple[Key, tuple[str | int, ...]], ...]:
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


def _own_keys(view: CampaignView) -> tuple[Key, ...]:
    campaign = view.campaign
    keys = (Key(Level.TENANT, campaign.tenant), Key(Level.CAMPAIGN, campaign.id))
    return keys if campaign.agent_id is None else (*keys, Key(Level.AGENT, campaign.agent_id))


def _trunk_keys(trunk: Trunk) -> tuple[Key, Key]:
    return Key(Level.TRUNK, trunk.id), Key(Level.PBX, trunk.pbx)


def _standing(snapshot: Snapshot, view: CampaignView, now: Moment) -> Iterator[Reason]:
    """The rules that come before any limit: may this campaign call at all, and at this moment."""
    campaign = view.campaign
    yield Reason("system", "system", snapshot.system.open, snapshot.system.detail, snapshot.system.until)
    active = campaign.status is CampaignStatus.ACTIVE
    yield Reason("status", "campaign", active, f"the campaign is {campaign.status.value}")
    known = campaign.tenant in snapshot.tenants
    yield Reason("tenant", "tenant", known, f"tenant {campaign.tenant}" if known else "its tenant is not configured")
    agent = view.agent is not None
    yield Reason("agent", "agent", agent, "answered calls have a place" if agent else "its agent is gone")
    window = _campaign_window(snapshot, view, now)
    yield Reason("calling_hours", "campaign", window.open, window.detail, None if window.open else window.until)


def _day_spent(snapshot: Snapshot, tenant: Tenant, now: Moment, more: int) -> Reason:
    """Whether the tenant may place another call today."""
    if tenant.max_calls_per_day is None:
        return Reason("max_calls_per_day", "tenant", True, "calls in a day are not limited")
    placed = snapshot.placed_today.get(tenant.id, 0) + more
    detail = f"tenant {tenant.id} has placed {placed} of {tenant.max_calls_per_day} calls today (UTC)"
    if placed < tenant.max_calls_per_day:
        return Reason("max_calls_per_day", "tenant", True, detail)
    tomorrow = datetime.combine(now.wall.date() + timedelta(days=1), time(), now.wall.tzinfo)
    return Reason("max_calls_per_day", "tenant", False, detail, tomorrow)


def _campaign_window(snapshot: Snapshot, view: CampaignView, now: Moment) -> Window:
    settings = view.campaign.settings
    if settings.contact_timezone == "number":
        return lifetime(settings, now.wall)
    return snapshot.windows.window(settings, (settings.zone(),), now.wall)


@dataclass(frozen=True, slots=True)
class _Route:
    """A trunk of a campaign, with the rule that lets it through or does not."""

    reason: Reason
    trunk: Trunk | None = None
    full: Key | None = None
    """The holder of which a slot is missing, where nothing else is."""


def _routes(snapshot: Snapshot, draft: Draft, view: CampaignView, now: Moment) -> Iterator[_Route]:
    """The trunks of a campaign in order of choice; where there is none, a refusal that says so."""
    tenant = snapshot.tenants.get(view.campaign.tenant)
    choices = routing.choices(view.campaign, tenant) if tenant is not None else ()
    if not choices:
        yield _Route(Reason("trunks", "campaign", False, "no trunk of its tenant is named"))
    for name in choices:
        trunk = snapshot.trunks[name]
        for key in _trunk_keys(trunk):
            gate = snapshot.gates.get(key, OPEN)
            if not gate.open:
                yield _Route(Reason(f"{key.level.value}_state", key.level.value, False, gate.detail, gate.until))
                break
        else:
            block = draft.block(_trunk_keys(trunk), now.mono + HORIZON)
            if block is not None:
                full = block.key if block.until is None else None
                yield _Route(_block_reason(snapshot.book, block, now), full=full)
            else:
                yield _Route(Reason("route", "trunk", True, f"trunk {trunk.id} of PBX {trunk.pbx}"), trunk)


def _limit_reason(draft: Draft, key: Key, now: Moment) -> Reason:
    block = draft.block((key,), now.mono + HORIZON)
    if block is None:
        return Reason(f"{key.level.value}_limits", key.level.value, True, "within its limits")
    return _block_reason(draft.book, block, now)


def _block_reason(book: Book, block: Block, now: Moment) -> Reason:
    capacity, level = book.get(block.key), block.key.level.value
    who = f"{level} {block.key.name}" if isinstance(block.key.name, str) else f"the {level}"
    if block.until is None:
        detail = f"{capacity.used} of {capacity.slots} calls of {who} are in flight"
        return Reason(f"{level}_slots", level, False, detail)
    rate = capacity.rate.per_second if capacity.rate is not None else 0.0
    # A wake one horizon early: the journal's commit then happens while the moment comes.
    until = now.wall + timedelta(seconds=max(0.0, block.until - HORIZON + _AFTER - now.mono))
    return Reason(f"{level}_rate", level, False, f"{who} is at its {rate:g} calls per second", until)


def _lack_of_contacts(view: CampaignView, contact: Contact | None, now: Moment) -> Reason | None:
    """Why a campaign cannot go on with the contact whose turn it is; None where it can."""
    if view.next_due is not None and now.wall - view.next_due > _STALE:
        # As when the calling hours begin: somebody who fell due meanwhile may come before all at hand.
        return Reason("contacts", "contact", False, _FETCHING)
    if contact is not None:
        return None
    if view.loading or (view.next_due is not None and view.next_due <= now.wall):
        return Reason("contacts", "contact", False, _FETCHING)
    if view.next_due is not None:
        detail = "every pending contact waits for its time"
        if view.campaign.settings.contact_timezone == "number":
            detail += " or for the calling hours of its number's zones"
        return Reason("contacts", "contact", False, detail, view.next_due)
    return Reason("contacts", "contact", False, "no contact is pending")
