"""The planner: which calls go out now, when to ask again, and why nothing more goes out.

Pure: the snapshot says everything there is to know, and the same snapshot always gives the same plan. The rules are
asked in the order in which ``explain`` shows them: system, campaign, window, throttle, routing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from dialerd.core import routing
from dialerd.core.contact_rules import contact_refusals
from dialerd.core.fairness import Lane, Marks
from dialerd.core.model import Contact, Moment, Tenant, Trunk
from dialerd.core.permit import Refusal
from dialerd.core.rules import (
    AFTER,
    LEAD,
    Route,
    block_reason,
    blocked,
    day_spent,
    lack_of_contacts,
    own_keys,
    routes,
    standing,
    stands,
    trunk_keys,
)
from dialerd.core.snapshot import OPEN, CampaignView, Deferral, Gate, Plan, PlannedCall, Reason, Snapshot
from dialerd.core.throttle import Block, Book, Draft, Key, Level

PATIENCE = 10.0
"""Seconds after which a campaign that waits only for others' calls to end has what it needs kept for it."""


def plan(snapshot: Snapshot, now: Moment) -> Plan:
    """Decide which calls to place now. See the module's docstring."""
    return _Round(snapshot, now).run()


def opening(trunks: Iterable[Trunk], gates: Mapping[Key, Gate], book: Book, now: Moment) -> float | None:
    """The first monotonic moment at which a trunk takes a call, whoever's it is; None where only news can tell.

    Until then no plan has a call: whoever only learns that a call gave its slots back need not ask for one.
    """
    draft, moments = Draft(book), []
    for trunk in trunks:
        keys = trunk_keys(trunk)
        closed = next((gate for key in keys if not (gate := gates.get(key, OPEN)).open), None)
        if closed is not None:
            if closed.until is not None:
                moments.append(now.mono + max(0.0, (closed.until - now.wall).total_seconds()) + AFTER)
            continue
        block = blocked(draft, keys, now)
        if block is None:
            return now.mono
        if block.until is not None:
            moments.append(block.until - LEAD + AFTER)
    return min(moments, default=None)


class _Round:
    """One run of the planner."""

    def __init__(self, snapshot: Snapshot, now: Moment) -> None:
        self._snapshot = snapshot
        self._now = now
        self._draft = Draft(snapshot.book, snapshot.horizon)
        self._marks = Marks(snapshot.shares)
        self._calls: list[PlannedCall] = []
        self._deferrals: list[Deferral] = []
        self._reasons: dict[int, Reason] = {}
        self._full: dict[int, Key] = {}
        """Per campaign, the holder of which it lacks a slot."""
        self._hungry: dict[int, None] = {}
        self._wakes: list[float] = []
        self._placed: Counter[str] = Counter()
        self._probed: set[str] = set()
        """Suspended trunks that this round sends a probe over."""
        self._lanes: dict[int, Lane] = {}
        """Those who can be served, by their campaigns."""
        self._routed: dict[tuple[str, ...], tuple[int, tuple[Route, ...]]] = {}

    def run(self) -> Plan:
        lanes = [lane for view in self._snapshot.campaigns if (lane := self._lane(view)) is not None]
        self._lanes = {lane.view.campaign.id: lane for lane in lanes if self._ready(lane)}
        self._marks.note_waiting(self._lanes.values())
        self._keep_for_the_patient()
        most = self._snapshot.most
        while self._lanes and (most is None or len(self._calls) < most):
            self._place(self._marks.least())
        if self._lanes:
            self._wakes.append(self._now.mono)
        return Plan(
            tuple(self._calls),
            tuple(self._deferrals),
            min(self._wakes, default=None),
            self._reasons,
            tuple(self._hungry),
        )

    def _lane(self, view: CampaignView) -> Lane | None:
        if not stands(self._snapshot, view, self._now):
            self._stop(view, next(each for each in standing(self._snapshot, view, self._now) if not each.holds))
            return None
        tenant = self._snapshot.tenants[view.campaign.tenant]
        assert view.agent is not None  # stands asked
        return Lane(view, tenant, view.agent)

    def _ready(self, lane: Lane) -> bool:
        """Whether a lane can place a call now; if not, its reason is noted."""
        self._skip_closed_contacts(lane)
        view = lane.view
        self._full.pop(view.campaign.id, None)
        if view.next_due is not None and view.next_due > self._now.wall:
            self._wake_at(view.next_due)
        elif view.next_due is not None:
            self._hungry[view.campaign.id] = None
        lack = lack_of_contacts(view, lane.contact, self._now)
        if lack is not None:
            # Asked before the limits: a campaign out of contacts at hand wants more even while its slots are full.
            self._hungry[view.campaign.id] = None
            self._reasons[view.campaign.id] = lack
            return False
        spent = self._day_spent(lane.tenant)
        if spent is not None:
            self._stop(view, spent)
            return False
        block = blocked(self._draft, lane.own, self._now)
        if block is not None:
            self._stop_at(view, block)
            return False
        return self._by_some_trunk(lane)

    def _by_some_trunk(self, lane: Lane) -> bool:
        """Whether a lane that its own limits let through finds a trunk; if not, the reason is noted."""
        view, refused = lane.view, None
        for route in self._routes(lane):
            if route.trunk is not None:
                lane.go_by(route.trunk, probe=route.probe)
                return True
            if refused is None and route.full is not None:
                self._full[view.campaign.id] = route.full
            refused = refused or route.reason
            self._wake_at(route.reason.until)
        assert refused is not None  # routes told at least why there is none
        self._stop(view, refused)
        return False

    def _day_spent(self, tenant: Tenant) -> Reason | None:
        """Why a tenant may place no more calls today; None where it may."""
        if tenant.max_calls_per_day is None:
            return None
        spent = day_spent(self._snapshot, tenant, self._now, self._placed[tenant.id])
        return None if spent.holds else spent

    def _routes(self, lane: Lane) -> Sequence[Route]:
        """The trunks that a lane tries: the same for all that have the same choice, until something is taken."""
        choices = routing.choices(lane.view.campaign, lane.tenant)
        version, known = self._routed.get(choices, (-1, ()))
        if version != self._draft.version:
            known = tuple(routes(self._snapshot, self._draft, lane.view, self._now, self._probed))
            self._routed[choices] = (self._draft.version, known)
        return known

    def _ask_again(self, taken: Iterable[Key], served: Lane | None = None) -> None:
        """After something was taken, ask those who may lack it now; whoever it leaves alone can be served as before.

        Nothing is given back within a round, so whoever could not be served still cannot.
        """
        spent = {key for key in taken if blocked(self._draft, (key,), self._now) is not None}
        over = None if served is None or self._day_spent(served.tenant) is None else served.tenant
        if served is not None and not spent and over is None and not served.probe:
            self._ask(served)
            return
        for lane in tuple(self._lanes.values()):
            if lane is served or lane.tenant is over or not spent.isdisjoint(lane.own):
                self._ask(lane)
            elif not spent.isdisjoint(lane.keys) or (lane.probe and lane.trunk and lane.trunk.id in self._probed):
                self._ask(lane, only_trunks=True)

    def _ask(self, lane: Lane, *, only_trunks: bool = False) -> None:
        before = lane.trunk
        if only_trunks:
            self._full.pop(lane.view.campaign.id, None)
        goes_on = self._by_some_trunk(lane) if only_trunks else self._ready(lane)
        if goes_on and lane.trunk is before:
            return
        self._marks.leave(lane)
        if goes_on:
            self._marks.join(lane)
        else:
            del self._lanes[lane.view.campaign.id]

    def _keep_for_the_patient(self) -> None:
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
            lane = self._lanes.get(view.campaign.id)
            if lane is not None:
                self._place(lane)
                continue
            missing = self._full.get(view.campaign.id)
            if missing is not None and missing.level is not Level.CAMPAIGN and missing not in kept_for:
                kept_for.add(missing)
                own = Key(Level.CAMPAIGN, view.campaign.id)
                kept = [key for key in self._parts(view) if key not in (missing, own)]
                self._draft.keep(kept)
                self._ask_again(kept)

    def _parts(self, view: CampaignView) -> tuple[Key, ...]:
        """What a call of a campaign needs, by the trunk of its first choice."""
        tenant = self._snapshot.tenants[view.campaign.tenant]
        trunks = self._snapshot.trunks
        first = next((name for name in routing.choices(view.campaign, tenant) if name in trunks), None)
        return (*own_keys(view), *(() if first is None else trunk_keys(trunks[first])))

    def _skip_closed_contacts(self, lane: Lane) -> None:
        while (contact := lane.contact) is not None:
            if lane.unruled and contact.timezone is None:
                return
            refusal = self._refusal(lane, contact)
            if refusal is None:
                return
            self._deferrals.append(Deferral(contact, refusal.until, refusal.detail))
            lane.advance()

    def _refusal(self, lane: Lane, contact: Contact) -> Refusal | None:
        """The contact's own rule that forbids to dial it now: its hours, the tenant's prefixes, its number's caps."""
        settings, windows = lane.view.campaign.settings, self._snapshot.windows
        refusals = contact_refusals(lane.tenant, settings, contact, windows, self._now.wall)
        return next((refusal for _, refusal in refusals if refusal is not None), None)

    def _place(self, lane: Lane) -> None:
        contact, keys = lane.contact, lane.keys
        assert lane.trunk is not None
        assert contact is not None
        lane.advance()
        at = self._draft.send_at(keys, self._now.mono)
        self._draft.take(keys, at)
        self._placed[lane.tenant.id] += 1
        waiting = self._marks.serve(lane)
        caller_id = routing.caller_id(lane.view.campaign, lane.tenant, lane.trunk, contact)
        if lane.probe:
            self._probed.add(lane.trunk.id)
        self._calls.append(
            PlannedCall(
                campaign=lane.view.campaign,
                contact=contact,
                agent=lane.agent,
                tenant=lane.tenant,
                trunk=lane.trunk,
                caller_id=caller_id,
                keys=keys,
                send_at=at,
                waiting=waiting,
                probe=lane.probe,
            )
        )
        self._ask_again(keys, lane)

    def _stop(self, view: CampaignView, reason: Reason) -> None:
        self._reasons[view.campaign.id] = reason
        self._wake_at(reason.until)

    def _stop_at(self, view: CampaignView, block: Block) -> None:
        self._reasons[view.campaign.id] = block_reason(self._snapshot.book, block, self._now)
        if block.until is None:
            self._full[view.campaign.id] = block.key
        else:
            self._wakes.append(block.until - LEAD + AFTER)

    def _wake_at(self, moment: datetime | None) -> None:
        if moment is not None:
            self._wakes.append(self._now.mono + max(0.0, (moment - self._now.wall).total_seconds()) + AFTER)
